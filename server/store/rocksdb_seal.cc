// What RocksdbStore seals when: branches that wait, in turn. How a window is
// sealed is in rocksdb_seal_window.cc.

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/catalog_codec.h"
#include "server/store/rocksdb_store.h"
#include "server/store/sealed_batch.h"
#include "server/store/tile/tile.h"
#include "server/store/window/chapter.h"

namespace gradtap::server {
namespace {

// Of a commit, for the sealer.
constexpr std::chrono::seconds kBrake{1};
// A stream that has been silent for this long is taken to have ended.
constexpr std::chrono::hours kIdle{1};

std::int64_t NowUnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Whether no more rows are to be expected of it.
bool HasEnded(const StreamEntry& stream, const Branch& branch,
              std::int64_t now_unix_ns) {
  constexpr std::int64_t kIdleNs = std::chrono::nanoseconds(kIdle).count();
  return stream.end.has_value() || branch.branch + 1 < stream.branches.size() ||
         now_unix_ns - stream.last_seen_unix_ns > kIdleNs;
}

}  // namespace

void RocksdbStore::NoteStreamLocked(const StreamEntry& stream) {
  bool ripe = false;
  for (const Branch& branch : stream.branches) {
    const std::pair key{stream.id, branch.branch};
    if (set_aside_.count(key) != 0) continue;
    const auto sealed = catalog_.sealed.find(key);
    const bool any = sealed != catalog_.sealed.end();
    const bool wanted = branch.rows > (any ? sealed->second.rows : 0) ||
                        (any && sealed->second.chapter_windows >= 2);
    const auto waiting =
        wanted
            ? to_seal_.try_emplace(key, Waiting{kTileSteps + kTailRows}).first
            : to_seal_.find(key);
    if (waiting == to_seal_.end()) continue;
    ripe |= IsDue(LookAtLocked(waiting), waiting->second);
  }
  if (ripe && sealer_ != nullptr) sealer_->Wake();
}

RocksdbStore::ToSeal RocksdbStore::ToSealLocked(
    const std::pair<StreamId, std::uint32_t>& key) const {
  ToSeal next;
  const CatalogRun* run = catalog_.FindStream(key.first);
  if (run == nullptr) return next;
  const StreamEntry& stream =
      run->entry->streams[IndexOf(*run->entry, key.first)];
  const Branch& branch = stream.branches[key.second];
  next.key = {run->run_id, key.first, key.second};
  std::uint64_t rows = 0;
  for (const Branch& one : stream.branches) rows += one.rows;
  if (rows > 0) {
    next.row_bytes =
        static_cast<double>(stream.bytes) / static_cast<double>(rows);
  }
  const auto sealed = catalog_.sealed.find(key);
  if (sealed == catalog_.sealed.end()) {
    next.sealed.end = std::numeric_limits<std::int64_t>::min();
  } else {
    next.sealed = sealed->second;
  }
  next.rows = branch.rows - next.sealed.rows;
  next.ended = sealing_all_ || HasEnded(stream, branch, NowUnixNanos());
  next.to_bind =
      next.sealed.chapter_steps >= kChapterSteps ||
      (next.ended && next.rows == 0 && next.sealed.chapter_windows >= 2);
  return next;
}

std::optional<RocksdbStore::ToSeal> RocksdbStore::NextToSeal() {
  MutexLock lock(mu_);
  // All in turn: none waits for ever behind another that is always ripe.
  auto it = to_seal_.upper_bound(sealed_last_);
  for (std::size_t left = to_seal_.size(); left > 0; --left) {
    if (it == to_seal_.end()) it = to_seal_.begin();
    const ToSeal next = LookAtLocked(it);
    if (next.rows == 0 && !next.to_bind) {
      it = StopWaitingLocked(it);
      continue;
    }
    if (IsDue(next, it->second)) {
      sealed_last_ = it->first;
      return next;
    }
    ++it;
  }
  return std::nullopt;
}

std::uint64_t RocksdbStore::DueBytesOf(const ToSeal& branch,
                                       const Waiting& waiting) {
  if (!IsDue(branch, waiting)) return 0;
  return static_cast<std::uint64_t>(branch.row_bytes *
                                    static_cast<double>(branch.rows));
}

RocksdbStore::ToSeal RocksdbStore::LookAtLocked(
    WaitingBranches::iterator waiting) {
  const ToSeal branch = ToSealLocked(waiting->first);
  Waiting& entry = waiting->second;
  if (!IsDue(branch, entry)) {
    entry.due_since.reset();
  } else if (!entry.due_since.has_value()) {
    entry.due_since = std::chrono::steady_clock::now();
  }
  due_bytes_ -= entry.due_bytes;
  entry.due_bytes = DueBytesOf(branch, entry);
  due_bytes_ += entry.due_bytes;
  return branch;
}

RocksdbStore::WaitingBranches::iterator RocksdbStore::StopWaitingLocked(
    WaitingBranches::iterator waiting) {
  due_bytes_ -= waiting->second.due_bytes;
  return to_seal_.erase(waiting);
}

void RocksdbStore::StopWaitingLocked(
    const std::pair<StreamId, std::uint32_t>& key) {
  set_aside_.erase(key);
  const auto waiting = to_seal_.find(key);
  if (waiting != to_seal_.end()) StopWaitingLocked(waiting);
}

RocksdbStore::DueBytes RocksdbStore::DueBytesForTest() const {
  MutexLock lock(mu_);
  DueBytes bytes;
  bytes.sum = due_bytes_;
  for (const auto& [key, waiting] : to_seal_) {
    bytes.walked += DueBytesOf(ToSealLocked(key), waiting);
  }
  return bytes;
}

void RocksdbStore::WaitForSealer() {
  if (sealer_ == nullptr) return;
  const auto deadline = std::chrono::steady_clock::now() + kBrake;
  MutexLock lock(mu_);
  while (sealing_trouble_.what.empty() && due_bytes_ > max_due_bytes_ &&
         window_sealed_.WaitUntil(mu_, deadline)) {
  }
}

absl::StatusOr<bool> RocksdbStore::SealOne() {
  MutexLock seal_lock(seal_mu_);
  absl::StatusOr<bool> sealed = SealNext();
  MutexLock lock(mu_);
  // Damage is that of one branch, which is set aside: no other is worse off.
  NoteTrouble(
      absl::IsDataLoss(sealed.status()) ? absl::OkStatus() : sealed.status(),
      &sealing_trouble_);
  window_sealed_.NotifyAll();
  return sealed;
}

absl::Status RocksdbStore::SealAll(
    const std::function<void(std::uint64_t rows_left)>& progress) {
  for (bool more = true; more;) {
    {
      MutexLock lock(mu_);
      sealing_all_ = true;
    }
    const absl::StatusOr<bool> sealed = SealOne();
    std::uint64_t left = 0;
    {
      MutexLock lock(mu_);
      sealing_all_ = false;
      left = SealingFiguresLocked().rows_waiting;
    }
    if (!sealed.ok() && !absl::IsDataLoss(sealed.status())) {
      return sealed.status();
    }
    more = !sealed.ok() || *sealed;
    progress(left);
  }
  MutexLock lock(mu_);
  if (set_aside_.empty()) return absl::OkStatus();
  return absl::DataLossError(set_aside_.begin()->second.what);
}

absl::StatusOr<bool> RocksdbStore::SealNext() {
  for (;;) {
    const std::optional<ToSeal> next = NextToSeal();
    if (!next.has_value()) {
      TidySealed();
      return false;
    }
    const absl::StatusOr<std::uint64_t> lacking = SealWindow(*next);
    if (!lacking.ok()) {
      const absl::Status s = CannotSeal(next->key, lacking.status());
      if (!s.ok()) return s;
      continue;
    }
    const std::pair key{next->key.stream, next->key.branch};
    MutexLock lock(mu_);
    if (*lacking == 0) return true;
    if (next->ended) {
      StopWaitingLocked(key);  // There are less rows than the books say.
    } else {
      const auto waiting = to_seal_.try_emplace(key).first;
      waiting->second.wanted = next->rows + *lacking;
      LookAtLocked(waiting);
    }
  }
}

absl::Status RocksdbStore::CannotSeal(const BranchKey& branch,
                                      const absl::Status& why) {
  // Others go first the next time.
  if (!absl::IsNotFound(why) && !absl::IsDataLoss(why)) return why;
  MutexLock write_lock(write_mu_);  // Nobody is half-way through deleting it.
  MutexLock lock(mu_);
  const std::pair key{branch.stream, branch.branch};
  StopWaitingLocked(key);
  if (catalog_.FindStream(branch.stream) == nullptr) return absl::OkStatus();
  absl::Status damage = absl::DataLossError(absl::StrCat(
      "steps of stream ", branch.stream, ", branch ", branch.branch,
      ", are not sealed: ", why.message(),
      absl::IsNotFound(why) ? "; restore the data folder from a copy" : ""));
  NoteTrouble(damage, &set_aside_[key]);
  return damage;
}

// With nothing left to seal, so that rows of other runs in the same files are
// not written anew for each run that ends.
void RocksdbStore::TidySealed() {
  auto to_reclaim = std::exchange(to_reclaim_, {});
  if (to_reclaim.empty() && tidied_) return;
  std::shared_ptr<Engine> open;
  {
    MutexLock lock(mu_);
    open = engine_;
    // A database that was opened again may have forgotten the last windows.
    const auto& all_sealed = catalog_.sealed;
    std::erase_if(to_reclaim, [&all_sealed](const auto& rows) {
      const auto& [key, end] = rows;
      const auto sealed = all_sealed.find({key.stream, key.branch});
      return sealed == all_sealed.end() || sealed->second.end < end;
    });
  }
  if (open == nullptr) return;
  for (const auto& [key, end] : to_reclaim) ReclaimRows(*open, key, end);
  tidied_ = open->MergeRollups();
}

}  // namespace gradtap::server
