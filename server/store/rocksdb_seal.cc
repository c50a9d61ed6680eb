// The sealing half of RocksdbStore.

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/chapter_binder.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_store.h"
#include "server/store/sealed_batch.h"
#include "server/store/window/window_builder.h"

namespace gradtap::server {
namespace {

// Values of rows that are gathered at a time.
constexpr std::size_t kSlabBytes = std::size_t{8} << 20;
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

// Calls `visit(ordinal, step)` for the rows from step `begin` on until it
// returns false.
template <typename Visit>
absl::Status ForEachRow(const Engine& engine, const BranchKey& branch,
                        std::int64_t begin, const Visit& visit) {
  const std::string from =
      keys::Row(branch.run_id, branch.stream, branch.branch, begin);
  const std::string to = keys::After(from.substr(0, from.size() - 8));
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  options.fill_cache = false;
  std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, engine.rows()));
  for (it->Seek(from); it->Valid(); it->Next()) {
    ByteReader reader(View(it->value()));
    const std::uint64_t ordinal = reader.U64();
    const auto step = StepView::Parse(reader.rest());
    if (!reader.ok() || !step.ok()) return Damaged("row");
    const absl::StatusOr<bool> goes_on = visit(ordinal, reader.rest(), *step);
    if (!goes_on.ok()) return goes_on.status();
    if (!*goes_on) return absl::OkStatus();
  }
  return ToStatus(it->status(), kReading);
}

// As StoreCounters counts them.
std::uint64_t ValuesOf(const StepView& step) {
  std::uint64_t records = 0;
  for (const StepView::Columns& columns : step.columns()) {
    records += columns.size;
    for (const char c : columns.absent) {
      records -=
          static_cast<unsigned>(std::popcount(static_cast<unsigned char>(c)));
    }
  }
  return 9 * records;
}

Sealed WithoutChapter(Sealed sealed) {
  sealed.chapter_first = std::numeric_limits<std::int64_t>::min();
  sealed.chapter_windows = 0;
  sealed.chapter_steps = 0;
  return sealed;
}

// What is sealed once the window of `builder` is, too.
Sealed AfterWindow(const Sealed& before, const WindowBuilder& builder) {
  Sealed sealed = before;
  sealed.end = builder.last_step() + 1;
  sealed.rows += builder.rows();
  ++sealed.windows;
  const std::uint32_t steps = builder.recorded();
  const bool full = steps > 0 && steps == builder.window_steps();
  const bool joins =
      full && before.chapter_steps == before.chapter_windows * steps;
  if (!joins) sealed = WithoutChapter(sealed);
  if (!full) return sealed;
  if (sealed.chapter_windows++ == 0) {
    sealed.chapter_first = builder.first_step();
  }
  sealed.chapter_steps += steps;
  return sealed;
}

// Whether binding the open chapter has begun, and a crash has ended it.
absl::StatusOr<bool> IsHalfBound(const Engine& engine, const BranchKey& key,
                                 const Sealed& sealed) {
  if (sealed.chapter_windows < 2) return false;
  rocksdb::PinnableSlice chapter;
  const rocksdb::Status got = engine.db()->Get(
      rocksdb::ReadOptions(), engine.windows(),
      keys::Chapter(key.run_id, key.stream, key.branch, sealed.chapter_first),
      &chapter);
  if (!got.ok() && !got.IsNotFound()) return ToStatus(got, kReading);
  return got.ok();
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

absl::StatusOr<std::uint64_t> RocksdbStore::SealWindow(const ToSeal& from) {
  {
    MutexLock write_lock(write_mu_);
    if (failed_) return absl::UnavailableError("the database is failing");
    sealing_ = true;
  }
  absl::StatusOr<std::uint64_t> lacking = SealWindowMarked(from);
  {
    MutexLock write_lock(write_mu_);
    sealing_ = false;
  }
  sealing_ended_.NotifyAll();
  return lacking;
}

absl::StatusOr<std::uint64_t> RocksdbStore::SealWindowMarked(
    const ToSeal& from) {
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return absl::UnavailableError("not open");
  const auto write = [&](rocksdb::WriteBatch* batch, const Sealed* sealed) {
    return WriteSealed(from.key, open.get(), batch, sealed);
  };
  const absl::StatusOr<bool> half = IsHalfBound(*open, from.key, from.sealed);
  if (!half.ok()) return half.status();
  if (from.to_bind || *half) {
    return BindChapter(open, from.key, from.sealed, write);
  }
  const auto started = std::chrono::steady_clock::now();
  std::uint64_t values = 0;
  SealedBatch batch(open, from.key, sealed_write_bytes_, write);
  WindowBuilder builder(
      [&](std::uint32_t id) { return LayoutOf(from.key.stream, id); },
      kSlabBytes, window_steps_);
  bool stopped = false;  // By a row of the next window.
  absl::Status s = ForEachRow(
      *open, from.key, from.sealed.end,
      [&](std::uint64_t ordinal, std::string_view body,
          const StepView& step) -> absl::StatusOr<bool> {
        const absl::StatusOr<bool> taken = builder.Take(step, ordinal);
        if (!taken.ok()) return taken;
        stopped = !*taken;
        if (*taken) values += ValuesOf(step);
        if (*taken && step.has_histograms()) {
          const absl::Status put = batch.PutHistograms(body, step);
          if (!put.ok()) return put;
        }
        return *taken;
      });
  if (!s.ok()) return s;
  if (builder.rows() == 0) return kTailRows;
  if (!builder.full() && !stopped && !from.ended) {
    const std::uint32_t steps =
        builder.window_steps() == 0 ? kTileSteps : builder.window_steps();
    return kTailRows + steps - builder.recorded();
  }
  if (!from.ended && from.rows < builder.rows() + kTailRows) {
    return builder.rows() + kTailRows - from.rows;
  }

  const Sealed sealed = AfterWindow(from.sealed, builder);
  if (from.sealed.chapter_windows >= 2 &&
      sealed.chapter_first != from.sealed.chapter_first) {
    // What is open comes to its end without this window. First, as it is known
    // to be open until then.
    const auto bound = BindChapter(open, from.key, from.sealed, write);
    if (!bound.ok()) return bound;
  }

  batch.set_first_step(builder.first_step());
  do {
    s = builder.WriteSlab(&block_writer_, &batch);
    if (!s.ok()) return s;
    if (!builder.NextSlab()) break;
    s = ForEachRow(*open, from.key, builder.first_step(),
                   [&](std::uint64_t, std::string_view,
                       const StepView& step) -> absl::StatusOr<bool> {
                     if (step.step() > builder.last_step()) return false;
                     builder.TakeAgain(step);
                     return true;
                   });
  } while (s.ok());
  if (!s.ok()) return s;
  s = builder.WriteScalars(block_writer_.encoder(), &batch);
  if (!s.ok()) return s;
  s = batch.Finish(builder.Timeline(), sealed);
  if (!s.ok()) return s;
  const auto ended = std::chrono::steady_clock::now();
  window_latency_.Record(ended - started, ended);
  sealed_windows_.Add(1, ended);
  sealed_values_.Add(values, ended);
  {
    MutexLock lock(mu_);
    ++counters_.sealed_windows;
    counters_.sealed_rows += builder.rows();
    counters_.sealed_bytes += batch.bytes();
    counters_.sealed_values += values;
  }
  const bool last = from.ended && builder.rows() == from.rows;
  if (last) to_reclaim_.emplace_back(from.key, sealed.end);
  if (sealed.chapter_windows >= 2 &&
      (last || sealed.chapter_steps >= kChapterSteps)) {
    return BindChapter(open, from.key, sealed, write);
  }
  return 0;
}

absl::StatusOr<std::uint64_t> RocksdbStore::BindChapter(
    const std::shared_ptr<Engine>& engine, const BranchKey& key,
    const Sealed& sealed, const SealedBatch::Write& write) {
  ChapterBinder binder(engine, key, sealed_write_bytes_, [&](std::uint32_t id) {
    return LayoutOf(key.stream, id);
  });
  const absl::Status s =
      binder.Bind(sealed.chapter_first, sealed.chapter_windows,
                  WithoutChapter(sealed), write);
  if (!s.ok()) return s;
  return 0;
}

absl::Status RocksdbStore::WriteSealed(const BranchKey& key,
                                       const Engine* engine,
                                       rocksdb::WriteBatch* batch,
                                       const Sealed* sealed) {
  MutexLock write_lock(write_mu_);
  if (failed_) return absl::UnavailableError("the database is failing");
  {
    MutexLock lock(mu_);
    if (engine_.get() != engine) return absl::UnavailableError("reopened");
    if (catalog_.FindStream(key.stream) == nullptr) {
      return absl::NotFoundError("its run has been deleted");
    }
  }
  rocksdb::WriteOptions unlogged;  // The log has the rows.
  unlogged.disableWAL = true;
  rocksdb::Status written = engine->db()->Write(unlogged, batch);
  if (written.ok() && flush_sealed_writes_) written = engine->Flush();
  if (!written.ok()) return FailedLocked(written);
  if (sealed == nullptr) return absl::OkStatus();
  MutexLock lock(mu_);
  catalog_.sealed[{key.stream, key.branch}] = *sealed;
  const auto waiting = to_seal_.find({key.stream, key.branch});
  if (waiting != to_seal_.end()) LookAtLocked(waiting);
  return absl::OkStatus();
}

}  // namespace gradtap::server
