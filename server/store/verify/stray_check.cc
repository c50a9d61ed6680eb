#include "server/store/verify/stray_check.h"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

class StrayCheck {
 public:
  StrayCheck(const Engine& engine, const Catalog& catalog, Findings* findings)
      : engine_(engine), findings_(findings) {
    for (const auto& [name, run] : catalog.runs) {
      runs_.insert(run.run_id);
      for (const StreamEntry& stream : run.entry->streams) {
        branches_[{run.run_id, stream.id}] = stream.branches.size();
      }
    }
  }

  // What a key of a kind is about.
  enum class Of { kRun, kStream, kBranch };

  // The keys from `letter` on (0: the whole family) up to the next letter.
  void Check(rocksdb::ColumnFamilyHandle* family, char letter, Of of) {
    if (family == nullptr) return;
    const std::string first = letter == 0 ? "" : std::string(1, letter);
    const std::string end = letter == 0 ? "" : keys::After(first);
    const rocksdb::Slice upper(end);
    rocksdb::ReadOptions options;
    if (letter != 0) options.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> it(
        engine_.db()->NewIterator(options, family));
    const std::size_t ids = of == Of::kRun ? 8 : of == Of::kStream ? 16 : 20;
    const std::size_t prefix_bytes = first.size() + ids;
    for (it->Seek(first); it->Valid();) {
      const std::string key = it->key().ToString();
      const std::string prefix = key.substr(0, prefix_bytes);
      ByteReader reader(std::string_view(prefix).substr(first.size()));
      const std::uint64_t run = reader.U64();
      const std::uint64_t stream = of == Of::kRun ? 0 : reader.U64();
      const std::uint32_t branch = of == Of::kBranch ? reader.U32() : 0;
      if (!reader.ok() || !IsKnown(of, run, stream, branch)) {
        Report(family, key, "belongs to nothing in the catalog");
      }
      const std::string next = keys::After(prefix);
      if (next.empty()) break;
      it->Seek(next);
    }
    findings_->ReportUnlessOk(Engine::NameOf(family),
                              ToStatus(it->status(), kReading));
  }

  // That no key begins otherwise than with one of `letters`.
  void CheckLetters(rocksdb::ColumnFamilyHandle* family,
                    std::string_view letters) {
    if (family == nullptr) return;
    const std::unique_ptr<rocksdb::Iterator> it(
        engine_.db()->NewIterator(rocksdb::ReadOptions(), family));
    for (it->SeekToFirst(); it->Valid();) {
      const std::string key = it->key().ToString();
      const std::string letter = key.substr(0, 1);
      if (letter.empty() || letters.find(letter[0]) == letters.npos) {
        Report(family, key, "is of no known kind");
      }
      const std::string next =
          letter.empty() ? std::string(1, '\1') : keys::After(letter);
      if (next.empty()) break;
      it->Seek(next);
    }
    findings_->ReportUnlessOk(Engine::NameOf(family),
                              ToStatus(it->status(), kReading));
  }

 private:
  bool IsKnown(Of of, std::uint64_t run, std::uint64_t stream,
               std::uint32_t branch) const {
    if (of == Of::kRun) return runs_.count(run) != 0;
    const auto found = branches_.find({run, stream});
    return found != branches_.end() && branch < found->second;
  }

  void Report(rocksdb::ColumnFamilyHandle* family, const std::string& key,
              const char* what) {
    findings_->Report(
        Engine::NameOf(family),
        absl::StrCat("the key ", absl::BytesToHexString(key.substr(0, 40)), " ",
                     what));
  }

  const Engine& engine_;
  Findings* const findings_;
  std::set<std::uint64_t> runs_;
  std::map<std::pair<std::uint64_t, StreamId>, std::size_t> branches_;
};

}  // namespace

void CheckStrays(const Engine& engine, const Catalog& catalog,
                 Findings* findings) {
  using Of = StrayCheck::Of;
  StrayCheck check(engine, catalog, findings);
  for (rocksdb::ColumnFamilyHandle* family :
       {engine.rows(), engine.histograms(), engine.tiles(), engine.rollups()}) {
    check.Check(family, 0, Of::kBranch);
  }
  for (const char letter : {keys::kTimeline, keys::kChapter, keys::kScalar}) {
    check.Check(engine.windows(), letter, Of::kBranch);
  }
  check.CheckLetters(engine.windows(), "tcs");
  for (const char letter : {keys::kSchema, keys::kPart}) {
    check.Check(engine.index(), letter, Of::kStream);
  }
  check.Check(engine.index(), keys::kGap, Of::kBranch);
  check.Check(engine.index(), keys::kOrdinal, Of::kRun);
  check.Check(engine.index(), keys::kAttachment, Of::kRun);
  check.CheckLetters(engine.index(), "sgpoa");
  check.Check(engine.catalog(), keys::kSealed, Of::kBranch);
  check.CheckLetters(engine.catalog(), "LNPRhcbw");
}

}  // namespace gradtap::server
