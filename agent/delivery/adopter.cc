#include "agent/delivery/adopter.h"

#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/spool/owned_file.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

// Of a folder with many: each line is one of the log's few distinct ones.
constexpr int kMaxLines = 16;

}  // namespace

Adopter::Adopter(AdopterOptions options, OnceLog* log, const Clock* clock)
    : options_(std::move(options)),
      log_(log),
      clock_(clock),
      look_at_(clock->Steady()),
      let_go_(options_.root.empty() && options_.ring_folder.empty()) {}

void Adopter::Poll(bool collector_is_there) {
  if (let_go_) return;
  try {
    DoALittle(collector_is_there);
  } catch (const std::exception& error) {
    LetGo();
    Say("adopter", absl::StrCat("what other processes have left is not "
                                "delivered here any more: ",
                                error.what()));
  }
}

void Adopter::DoALittle(bool collector_is_there) {
  if (drive_ != nullptr) {
    if (!drive_->Poll()) Finish();
    return;
  }
  if (!collector_is_there) {
    opening_.reset();  // For others; it is found again at the next look.
    return;
  }
  if (opening_ != nullptr) return Open();
  const TimePoint now = clock_->Steady();
  if (places_.empty() && now >= look_at_) Look(now);
  if (places_.empty()) return;
  const LeftoverPlace place = std::move(places_.front());
  places_.pop_front();
  opening_path_ = place.path();
  auto opening =
      Leftover::Opening::Begin(place, SpoolUse::kTakeOver, options_.syscalls);
  if (!opening.ok()) return NotOpened(opening.status());
  opening_ = *std::move(opening);
}

void Adopter::LetGo() {
  if (drive_ != nullptr) drive_->Stop();
  drive_.reset();
  leftover_.reset();
  opening_.reset();
  places_.clear();
  let_go_ = true;
}

void Adopter::Look(TimePoint now) {
  look_at_ = now + options_.interval;
  const auto found =
      FindLeftovers(options_.root, options_.ring_folder,
                    /*lone_rings=*/!options_.ring_folder.empty());
  if (!found.ok()) return;  // No spool has ever been there.
  for (const LeftoverPlace& place : *found) {
    if (place.set_aside || hopeless_.contains(place.path())) continue;
    const auto unseen = unseen_.find(place.path());
    std::error_code error;
    if (unseen != unseen_.end() &&
        !std::filesystem::exists(unseen->second, error)) {
      continue;
    }
    places_.push_back(place);
  }
}

void Adopter::Open() {
  auto leftover = opening_->Step();
  if (leftover.ok() && *leftover == nullptr) {
    const SpoolIdentity* const of = opening_->identity();
    if (of != nullptr && LeftToOthers(*of)) opening_.reset();
    return;
  }
  opening_.reset();
  if (!leftover.ok()) return NotOpened(leftover.status());
  if (LeftToOthers((*leftover)->identity())) return;
  leftover_ = *std::move(leftover);
  Say(leftover_->path(),
      absl::StrCat("delivers ", leftover_->steps(), " steps that ",
                   leftover_->Description(), " has left"));
  LeftoverDriveOptions options;
  options.collector = options_.collector;
  options.uniform = options_.uniform;
  drive_ = std::make_unique<LeftoverDrive>(leftover_.get(), std::move(options),
                                           options_.make_transport(), clock_);
}

// What is for another collector would be lost to it. True: that is so.
bool Adopter::LeftToOthers(const SpoolIdentity& identity) {
  if (IsFor(identity, options_.collector)) return false;
  hopeless_.insert(opening_path_);
  if (!others_.insert(identity.collector).second) return true;
  Say(absl::StrCat("for ", identity.collector),
      absl::StrCat(Describe(identity), " has left records in ",
                   Shown(opening_path_), " for the collector ",
                   EscapeForTerminal(identity.collector), ", not for ",
                   options_.collector,
                   ": all that is for that one stays where it is, and `",
                   DrainCommand(identity.collector), "` delivers it"));
  return true;
}

void Adopter::NotOpened(const absl::Status& status) {
  // Its process lives, another agent is at it, or it has gone meanwhile.
  if (LiveOwner(status) || absl::IsNotFound(status)) return;
  const bool may_pass =
      absl::IsUnavailable(status) || absl::IsResourceExhausted(status);
  if (!may_pass) hopeless_.insert(opening_path_);
  Say(opening_path_,
      absl::StrCat("what a process has left in ", Shown(opening_path_),
                   " is not delivered: ", std::string(status.message())));
}

void Adopter::Finish() {
  const LeftoverOutcome outcome = drive_->outcome();
  const std::string path = leftover_->path();
  const std::string unseen_spool = leftover_->unseen_spool();
  drive_.reset();
  leftover_.reset();
  for (const std::string& problem : outcome.problems) {
    Say(absl::StrCat(path, " ", problem),
        absl::StrCat(Shown(path), ": ", problem));
  }
  if (outcome.status.ok()) return;
  // A collector that is away may come back, and one that refuses may change its
  // mind; it is tried at the next look.
  if (!absl::IsUnavailable(outcome.status) &&
      !absl::IsDeadlineExceeded(outcome.status) &&
      !absl::IsResourceExhausted(outcome.status)) {
    if (unseen_spool.empty()) {
      hopeless_.insert(path);
    } else {
      unseen_[path] = unseen_spool;
    }
  }
  Say(absl::StrCat(path, " end"),
      absl::StrCat(
          "what a process has left in ", Shown(path),
          " is not delivered: ", std::string(outcome.status.message())));
}

void Adopter::Say(const std::string& key, const std::string& what) {
  if (said_ >= kMaxLines) return;
  ++said_;
  log_->Say(key, absl::StrCat("gradtap: ", what));
}

}  // namespace gradtap::agent
