// Shrinking: the oldest windows of a branch lose their values, to give back
// most of their bytes, and keep timeline, scalars and roll-ups.

#include <algorithm>
#include <limits>
#include <utility>

#include "rocksdb/snapshot.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/pieces.h"
#include "server/store/rocksdb_store.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {
namespace {

// The values of the windows and steps of [begin, end). Tiles stand under the
// first step of their window, histograms under their step; the keys of both
// begin as those of rows do.
std::vector<KeyRange> ValuesOf(const Engine& engine, const BranchKey& branch,
                               std::int64_t begin, std::int64_t end) {
  const auto key_of = [&](std::int64_t step) {
    return keys::Row(branch.run_id, branch.stream, branch.branch, step);
  };
  return {{engine.tiles(), key_of(begin), key_of(end)},
          {engine.histograms(), key_of(begin), key_of(end)}};
}

}  // namespace

// Sealed windows from a step on, in order.
class RocksdbStore::WindowWalk {
 public:
  WindowWalk(const Engine& engine, const BranchKey& branch, std::int64_t begin)
      : to_(keys::After(
            keys::Timeline(branch.run_id, branch.stream, branch.branch, 0)
                .substr(0, kPrefixBytes))),
        upper_(to_) {
    rocksdb::ReadOptions options;
    options.iterate_upper_bound = &upper_;
    it_.reset(engine.db()->NewIterator(options, engine.windows()));
    it_->Seek(
        keys::Timeline(branch.run_id, branch.stream, branch.branch, begin));
  }

  // False at the end and after an error; else view() is the window's.
  absl::StatusOr<bool> Read() {
    if (!it_->Valid()) {
      if (!it_->status().ok()) return ToStatus(it_->status(), kReading);
      return false;
    }
    auto view = TimelineView::Parse(View(it_->value()));
    if (!view.ok()) return view.status();
    view_ = *std::move(view);
    return true;
  }
  void Next() { it_->Next(); }

  const TimelineView& view() const { return view_; }

 private:
  // Of a timeline's key, before its step.
  static constexpr std::size_t kPrefixBytes = 1 + 8 + 8 + 4;

  const std::string to_;
  const rocksdb::Slice upper_;
  std::unique_ptr<rocksdb::Iterator> it_;
  TimelineView view_;
};

// The branch whose oldest window that has values is the oldest of all.
absl::StatusOr<std::optional<RocksdbStore::ToShrink>>
RocksdbStore::OldestToShrink(
    const Engine& engine,
    const std::function<bool(const RunEntry&)>& may_shrink,
    DamagedBranches* damaged) const {
  std::vector<ToShrink> branches;
  {
    MutexLock lock(mu_);
    for (const auto& [key, sealed] : catalog_.sealed) {
      const CatalogRun* run = catalog_.FindStream(key.first);
      if (run == nullptr || run->entry->pinned) continue;
      const StreamEntry& stream =
          run->entry->streams[IndexOf(*run->entry, key.first)];
      const std::int64_t begin = stream.branches[key.second].rolled_up_end;
      // Windows that are still to become a chapter keep their values.
      const std::int64_t end =
          sealed.chapter_windows > 0 ? sealed.chapter_first : sealed.end;
      if (begin >= end || damaged->branches.contains(key)) continue;
      branches.push_back(
          {{run->run_id, key.first, key.second}, begin, end, run->entry});
    }
  }
  std::optional<ToShrink> oldest;
  std::int64_t oldest_time = 0;
  for (ToShrink& branch : branches) {
    if (!may_shrink(*branch.run)) continue;
    WindowWalk walk(engine, branch.key, branch.begin);
    const absl::StatusOr<bool> found = walk.Read();
    if (absl::IsDataLoss(found.status())) {
      damaged->Add(branch.key, found.status());
      continue;
    }
    if (!found.ok()) return found.status();
    // Between `begin` and `end` there may be steps that nobody recorded.
    if (!*found || walk.view().step(0) >= branch.end) continue;
    const std::int64_t time = walk.view().time(0);
    if (oldest.has_value() && time >= oldest_time) continue;
    oldest = std::move(branch);
    oldest_time = time;
  }
  return oldest;
}

absl::StatusOr<std::optional<ShrunkPart>> RocksdbStore::ShrinkOldest(
    const std::function<bool(const RunEntry&)>& may_shrink) {
  {
    MutexLock write_lock(write_mu_);
    if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
  }
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  DamagedBranches damaged;
  for (;;) {
    auto from = OldestToShrink(*open, may_shrink, &damaged);
    if (!from.ok()) return from.status();
    if (!from->has_value()) {
      if (!damaged.why.ok()) return damaged.why;
      return std::optional<ShrunkPart>();
    }
    auto part = Shrink(open, **from);
    if (absl::IsDataLoss(part.status())) {
      damaged.Add((*from)->key, part.status());
      continue;
    }
    if (absl::IsAborted(part.status())) continue;  // Deleted, pinned.
    if (!part.ok()) return part.status();
    // Steps without values will not be looked at again.
    if (part->steps > 0 || part->bytes > 0) return *std::move(part);
  }
}

absl::StatusOr<ShrunkPart> RocksdbStore::Shrink(
    const std::shared_ptr<Engine>& open, const ToShrink& branch) {
  // What is taken has to be there as windows after a crash, too.
  if (const rocksdb::Status s = open->Flush(); !s.ok()) {
    MutexLock write_lock(write_mu_);
    return FailedLocked(s);
  }
  ShrunkPart part;
  part.run = branch.run->run;
  part.end_step = branch.begin;
  // Windows, until what they have is enough, but whole pieces: a series of
  // roll-ups is of those. Bytes are looked at where their number has doubled.
  bool enough = false;
  WindowWalk walk(*open, branch.key, branch.begin);
  for (std::uint32_t windows = 1, next_look = 1;; ++windows, walk.Next()) {
    const absl::StatusOr<bool> found = walk.Read();
    if (!found.ok()) return found.status();
    if (!*found || walk.view().step(0) >= branch.end) break;
    part.end_step = walk.view().step(walk.view().rows() - 1) + 1;
    part.steps += walk.view().recorded();
    if (windows == next_look) {
      next_look *= 2;
      enough |=
          open->ApproximateBytes(ValuesOf(*open, branch.key, branch.begin,
                                          part.end_step)) >= shrink_bytes_;
    }
    if (!enough) continue;
    const auto inside = PieceAround(*open, branch.key, part.end_step);
    if (!inside.ok()) return inside.status();
    if (!inside->has_value()) break;
  }
  const auto ranges = ValuesOf(*open, branch.key, branch.begin, part.end_step);
  part.bytes = open->ApproximateBytes(ranges);
  rocksdb::WriteBatch batch;
  for (const KeyRange& range : ranges) {
    batch.DeleteRange(range.family, range.begin, range.end);
  }
  const absl::Status s = WriteShrunk(open, branch, part, &batch);
  if (!s.ok()) return s;
  if (part.steps == 0 && part.bytes == 0) return part;
  listeners_.Notify(part.run);
  for (const KeyRange& range : ranges) open->Reclaim(range);
  return part;
}

absl::Status RocksdbStore::WriteShrunk(const std::shared_ptr<Engine>& from,
                                       const ToShrink& branch,
                                       const ShrunkPart& part,
                                       rocksdb::WriteBatch* batch) {
  MutexLock write_lock(write_mu_);
  if (failed_ || engine() != from) return DatabaseFailing();
  const CatalogRun found = FindEntry(part.run);
  if (found.entry == nullptr || found.run_id != branch.key.run_id ||
      found.entry->pinned) {
    return absl::AbortedError("its run has been deleted or pinned");
  }
  auto entry = std::make_shared<RunEntry>(*found.entry);
  Branch& shrunk = entry->streams[IndexOf(*entry, branch.key.stream)]
                       .branches[branch.key.branch];
  shrunk.rolled_up_end = part.end_step;
  shrunk.rolled_up_steps += part.steps;
  batch->Put(
      from->catalog(),
      keys::Branch(branch.key.run_id, branch.key.stream, branch.key.branch),
      EncodeBranch(shrunk));
  // Whoever misses a tile from here on looks whether it has been taken.
  from->BeginTakingValues();
  const absl::Status written = WriteLocked(batch);
  if (written.ok()) {
    MutexLock lock(mu_);
    tail_.Forget(branch.key.run_id);  // Which would show their values.
    catalog_.runs[part.run].entry = std::move(entry);
    counters_.removed_bytes += part.bytes;
  }
  from->EndTakingValues();
  return written;
}

}  // namespace gradtap::server
