#include "agent/delivery/leftover.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

namespace fs = std::filesystem;

// Its files are all set aside already.
bool IsSetAside(const std::string& spool) {
  bool bad = false;
  std::error_code error;
  for (fs::directory_iterator it(spool, error), end; !error && it != end;
       it.increment(error)) {
    const std::string suffix = it->path().extension().string();
    if (suffix == ".seg") return false;
    bad |= suffix == ".bad";
  }
  return bad && !error;
}

// The spool that a ring's process says it has, whether it has ever made it or
// not.
std::string SpoolOf(const RingFile& ring) {
  if (ring.spool_root().empty()) return {};
  return absl::StrCat(ring.spool_root(), "/",
                      absl::BytesToHexString(ring.identity().process_nonce));
}

// As one word of a shell's command line; escaped.
std::string ShellWord(const std::string& text) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::StrContains("._-:/", absl::string_view(&c, 1));
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) {
    return text;
  }
  return absl::StrCat(
      "'", absl::StrReplaceAll(EscapeForTerminal(text), {{"'", "'\\''"}}), "'");
}

}  // namespace

std::string Describe(const SpoolIdentity& identity) {
  return absl::StrCat("process ", identity.pid, " of run ",
                      EscapeForTerminal(identity.run), ", rank ",
                      identity.rank);
}

bool IsFor(const SpoolIdentity& identity, const std::string& collector) {
  return identity.collector.empty() || identity.collector == collector;
}

std::string DrainCommand(const std::string& collector,
                         const std::string& folder) {
  return absl::StrCat("gradtap ", collector.empty() ? "" : "--collector ",
                      collector.empty() ? "" : ShellWord(collector) + " ",
                      "drain", folder.empty() ? "" : " ",
                      folder.empty() ? "" : ShellWord(folder));
}

absl::StatusOr<std::vector<LeftoverPlace>> FindLeftovers(
    const std::string& folder, const std::string& ring_folder,
    bool lone_rings) {
  const auto spools = FindSpools(folder);
  if (!spools.ok() && !(lone_rings && absl::IsNotFound(spools.status()))) {
    return spools.status();
  }
  std::map<std::string, LeftoverPlace> places;  // By nonce, or path.
  if (spools.ok()) {
    for (const std::string& spool : *spools) {
      LeftoverPlace& place = places[fs::path(spool).filename().string()];
      place.spool = spool;
      place.set_aside = IsSetAside(spool);
    }
  }
  for (const std::string& where : {folder, ring_folder}) {
    const auto rings =
        where.empty()
            ? std::vector<std::string>()
            : FindRingFiles(where).value_or(std::vector<std::string>());
    for (const std::string& ring : rings) {
      const std::string nonce = fs::path(ring).stem().string();
      if (where != folder && !lone_rings && !places.contains(nonce)) continue;
      places[nonce].ring = ring;
      places[nonce].set_aside = false;
    }
  }
  std::vector<LeftoverPlace> found;
  for (auto& [nonce, place] : places) found.push_back(std::move(place));
  return found;
}

absl::StatusOr<std::unique_ptr<Leftover>> Leftover::Open(
    const LeftoverPlace& place, SpoolUse use, Syscalls* syscalls) {
  const auto opening = Opening::Begin(place, use, syscalls);
  if (!opening.ok()) return opening.status();
  for (;;) {
    auto leftover = (*opening)->Step();
    if (!leftover.ok() || *leftover != nullptr) return leftover;
  }
}

absl::StatusOr<std::unique_ptr<Leftover::Opening>> Leftover::Opening::Begin(
    const LeftoverPlace& place, SpoolUse use, Syscalls* syscalls) {
  std::unique_ptr<RingFile> file;
  std::string spool_path = place.spool;
  std::string unseen_spool;
  if (!place.ring.empty()) {
    auto opened = RingFile::Open(place.ring, use, syscalls);
    if (!opened.ok()) return opened.status();
    file = *std::move(opened);
    // It holds what is older: without it that would be passed over.
    if (spool_path.empty() && use == SpoolUse::kTakeOver) {
      spool_path = SpoolOf(*file);
      std::error_code error;
      if (!spool_path.empty() && !fs::exists(spool_path, error)) {
        unseen_spool = std::exchange(spool_path, {});
      }
    }
  }
  std::unique_ptr<Opening> opening(
      new Opening(place.path(), std::move(spool_path), use, std::move(file)));
  opening->unseen_spool_ = std::move(unseen_spool);
  if (opening->spool_path_.empty()) return opening;
  auto spool = Spool::Opening::Begin(opening->spool_path_, use, syscalls);
  if (spool.ok()) {
    opening->spool_ = *std::move(spool);
    const Ring* const ring =
        opening->file_ == nullptr ? nullptr : opening->file_->ring();
    if (ring != nullptr) {
      opening->spool_->RingHas(ring->first_seq(), ring->last_seq());
    }
  } else if (opening->file_ == nullptr || !absl::IsNotFound(spool.status())) {
    return spool.status();
  }
  return opening;
}

absl::StatusOr<std::unique_ptr<Leftover>> Leftover::Opening::Step() {
  if (spool_ == nullptr) return Finish(nullptr);
  auto spool = spool_->Step();
  if (spool.ok() && *spool == nullptr) return nullptr;
  if (!spool.ok()) problems_ = spool_->TakeProblems();
  spool_.reset();
  if (spool.ok()) return Finish(*std::move(spool));
  const bool nothing =
      absl::IsNotFound(spool.status()) || absl::IsDataLoss(spool.status());
  if (file_ == nullptr || !nothing) return spool.status();
  return Finish(nullptr);
}

const SpoolIdentity* Leftover::Opening::identity() const {
  if (file_ != nullptr) return &file_->identity();
  return spool_ == nullptr ? nullptr : spool_->identity();
}

absl::StatusOr<std::unique_ptr<Leftover>> Leftover::Opening::Finish(
    std::unique_ptr<Spool> spool) {
  if (file_ != nullptr && spool != nullptr &&
      file_->identity().process_nonce != spool->identity().process_nonce) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", EscapeForTerminal(file_->path()), "' and '",
                     EscapeForTerminal(spool_path_),
                     "' are of different processes: one of them has been "
                     "renamed"));
  }
  std::unique_ptr<Leftover> leftover(
      new Leftover(path_, use_, std::move(spool), std::move(file_),
                   unseen_spool_, std::move(problems_)));
  if (leftover->empty()) {
    const std::vector<std::string> problems = leftover->TakeProblems();
    std::string why =
        absl::StrCat("'", EscapeForTerminal(path_), "' has no record ",
                     problems.empty() ? "left" : "that can be read");
    for (const std::string& problem : problems) {
      absl::StrAppend(&why, "; ", problem);
    }
    return problems.empty() ? absl::NotFoundError(why)
                            : absl::DataLossError(why);
  }
  leftover->Count();
  return leftover;
}

Leftover::Leftover(std::string path, SpoolUse use, std::unique_ptr<Spool> spool,
                   std::unique_ptr<RingFile> file, std::string unseen_spool,
                   std::vector<std::string> problems)
    : path_(std::move(path)),
      use_(use),
      identity_(spool != nullptr ? spool->identity() : file->identity()),
      unseen_spool_(std::move(unseen_spool)),
      file_(std::move(file)),
      ring_(file_ == nullptr ? nullptr : file_->TakeRing()),
      backlog_(ring_.get(), std::move(spool)),
      problems_(std::move(problems)) {
  if (file_ == nullptr) return;
  for (const std::string& problem : file_->problems()) {
    problems_.push_back(problem);
  }
}

Leftover::~Leftover() {
  if (use_ == SpoolUse::kCopy || !empty()) return;
  if (backlog_.spool() != nullptr) backlog_.spool()->StayWithoutRecords(false);
  if (file_ != nullptr) (void)file_->Remove();
}

void Leftover::Count() {
  Spool* const spool = backlog_.spool();
  std::uint64_t bytes = 0;
  std::uint64_t seq = 1;
  if (spool != nullptr) {
    steps_ = spool->steps_found();
    bytes = spool->bytes();
    seq = spool->last_seq() + 1;
  }
  EntryView entry;
  const bool hole = ring_ != nullptr && ring_->first_seq() > seq;
  if (hole) seq = ring_->first_seq();
  std::optional<LoopPlace> first;
  for (; ring_ != nullptr && ring_->Read(seq, &entry); ++seq) {
    steps_ += entry.meta.recorded_steps;
    bytes += entry.bytes.size();
    if (!first) first = FirstPlace(entry.meta);
  }
  if (spool != nullptr && !hole) spool->SetBehind(false, first);
  if (spool != nullptr && hole) spool->SetBehind(true, std::nullopt);
  books_.CountAdmitted(steps_, bytes);
}

SessionOptions Leftover::MakeSessionOptions() const {
  SessionOptions options;
  static_cast<SpoolIdentity&>(options) = identity_;
  options.leftovers = true;
  options.fill_holes = options.declare_holes = use_ == SpoolUse::kTakeOver;
  options.without_schema = schema_given_up_;
  if (backlog_.spool() != nullptr) {
    const KeptSchema* const schema =
        backlog_.spool()->SchemaBefore(backlog_.first_seq());
    if (schema != nullptr) options.schema = *schema;
  }
  if (unseen_spool_.empty()) return options;
  options.fill_holes = options.declare_holes = given_up_;
  options.holes_in = absl::StrCat(
      "they may be in '", EscapeForTerminal(unseen_spool_),
      "', which cannot be seen from here: mount its disk, or deliver where it "
      "can be seen; `gradtap drain --without-spool` gives them up for lost");
  return options;
}

std::vector<std::string> Leftover::TakeProblems() {
  std::vector<std::string> problems = std::exchange(problems_, {});
  if (backlog_.spool() != nullptr) {
    for (std::string& problem : backlog_.spool()->TakeProblems()) {
      problems.push_back(std::move(problem));
    }
  }
  return problems;
}

}  // namespace gradtap::agent
