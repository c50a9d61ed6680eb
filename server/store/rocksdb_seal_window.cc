// How RocksdbStore seals a window, and binds windows to a chapter.

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "core/codec.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/chapter_binder.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_store.h"
#include "server/store/sealed_batch.h"
#include "server/store/window/chapter.h"
#include "server/store/window/window_builder.h"

namespace gradtap::server {
namespace {

// Values of rows that are gathered at a time.
constexpr std::size_t kSlabBytes = std::size_t{8} << 20;

// Calls `visit(ordinal, body, step)` for the rows from step `begin` on until it
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

// What the first reading of a window's rows has found.
struct TakenRows {
  std::uint64_t values = 0;
  bool stopped = false;  // By a row of the next window.
};

// Takes the rows from step `begin` on that are the next window's. Their
// histograms go to `*batch` at once: there are too many to be kept.
absl::StatusOr<TakenRows> TakeRows(const Engine& engine,
                                   const BranchKey& branch, std::int64_t begin,
                                   WindowBuilder* builder, SealedBatch* batch) {
  TakenRows found;
  const absl::Status s = ForEachRow(
      engine, branch, begin,
      [&](std::uint64_t ordinal, std::string_view body,
          const StepView& step) -> absl::StatusOr<bool> {
        const absl::StatusOr<bool> taken = builder->Take(step, ordinal);
        if (!taken.ok()) return taken;
        found.stopped = !*taken;
        if (*taken) found.values += ValuesOf(step);
        if (*taken && step.has_histograms()) {
          const absl::Status put = batch->PutHistograms(body, step);
          if (!put.ok()) return put;
        }
        return *taken;
      });
  if (!s.ok()) return s;
  return found;
}

// Writes what `*builder` has taken, reading the rows again for each further
// slab; `sealed` is how far the branch is sealed with it.
absl::Status WriteWindow(const Engine& engine, const BranchKey& branch,
                         const Sealed& sealed, WindowBuilder* builder,
                         BlockWriter* writer, SealedBatch* batch) {
  batch->set_first_step(builder->first_step());
  absl::Status s;
  do {
    s = builder->WriteSlab(writer, batch);
    if (!s.ok()) return s;
    if (!builder->NextSlab()) break;
    s = ForEachRow(engine, branch, builder->first_step(),
                   [&](std::uint64_t, std::string_view,
                       const StepView& step) -> absl::StatusOr<bool> {
                     if (step.step() > builder->last_step()) return false;
                     builder->TakeAgain(step);
                     return true;
                   });
  } while (s.ok());
  if (!s.ok()) return s;
  s = builder->WriteScalars(writer->encoder(), batch);
  if (!s.ok()) return s;
  return batch->Finish(builder->Timeline(), sealed);
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
  SealedBatch batch(open, from.key, sealed_write_bytes_, write);
  WindowBuilder builder(
      [&](std::uint32_t id) { return LayoutOf(from.key.stream, id); },
      kSlabBytes, window_steps_);
  const absl::StatusOr<TakenRows> taken =
      TakeRows(*open, from.key, from.sealed.end, &builder, &batch);
  if (!taken.ok()) return taken.status();
  const std::uint64_t lacking = RowsLacking(from, builder, taken->stopped);
  if (lacking > 0) return lacking;

  const Sealed sealed = AfterWindow(from.sealed, builder);
  if (from.sealed.chapter_windows >= 2 &&
      sealed.chapter_first != from.sealed.chapter_first) {
    // What is open comes to its end without this window. First, as it is known
    // to be open until then.
    const auto bound = BindChapter(open, from.key, from.sealed, write);
    if (!bound.ok()) return bound;
  }
  const absl::Status written =
      WriteWindow(*open, from.key, sealed, &builder, &block_writer_, &batch);
  if (!written.ok()) return written;
  CountWindow(started, builder.rows(), batch.bytes(), taken->values);
  const bool last = from.ended && builder.rows() == from.rows;
  if (last) to_reclaim_.emplace_back(from.key, sealed.end);
  if (sealed.chapter_windows >= 2 &&
      (last || sealed.chapter_steps >= kChapterSteps)) {
    return BindChapter(open, from.key, sealed, write);
  }
  return 0;
}

std::uint64_t RocksdbStore::RowsLacking(const ToSeal& from,
                                        const WindowBuilder& builder,
                                        bool stopped) {
  if (builder.rows() == 0) return kTailRows;
  if (from.ended) return 0;
  if (!builder.full() && !stopped) {
    const std::uint32_t steps =
        builder.window_steps() == 0 ? kTileSteps : builder.window_steps();
    return kTailRows + steps - builder.recorded();
  }
  const std::uint64_t wanted = builder.rows() + kTailRows;
  return from.rows < wanted ? wanted - from.rows : 0;
}

void RocksdbStore::CountWindow(std::chrono::steady_clock::time_point started,
                               std::uint64_t rows, std::uint64_t bytes,
                               std::uint64_t values) {
  const auto ended = std::chrono::steady_clock::now();
  window_latency_.Record(ended - started, ended);
  sealed_windows_.Add(1, ended);
  sealed_values_.Add(values, ended);
  MutexLock lock(mu_);
  ++counters_.sealed_windows;
  counters_.sealed_rows += rows;
  counters_.sealed_bytes += bytes;
  counters_.sealed_values += values;
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
