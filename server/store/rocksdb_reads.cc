// The reading half of RocksdbStore.

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "rocksdb/snapshot.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_store.h"
#include "server/store/step_scan.h"

namespace gradtap::server {
namespace {

// Calls `visit(key, value)` for the keys of [begin, end) until it returns
// false; from one snapshot, the iterator's own or `snapshot`.
template <typename Visit>
absl::Status Scan(const Engine& engine, rocksdb::ColumnFamilyHandle* family,
                  const std::string& begin, const std::string& end,
                  const rocksdb::Snapshot* snapshot, const Visit& visit) {
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  options.snapshot = snapshot;
  std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, family));
  for (it->Seek(begin); it->Valid(); it->Next()) {
    if (!visit(View(it->key()), View(it->value()))) return absl::OkStatus();
  }
  return ToStatus(it->status(), kReading);
}

// Reads what an ordinal stands for and visits it; false: that is enough.
absl::StatusOr<bool> VisitOrdinal(
    const Engine& engine, const rocksdb::Snapshot* snapshot, StepScan* steps,
    StepScan* sealed_since, std::uint64_t run_id, std::uint64_t ordinal,
    const keys::OrdinalValue& at,
    const std::function<bool(const StepRow*, const GapRow*)>& visit) {
  if (!at.is_gap) {
    bool found = false;
    bool goes_on = false;
    const auto visit_step = [&](const StepRow& row) {
      found = true;
      goes_on = visit(&row, nullptr);
      return false;
    };
    for (StepScan* scan : {steps, sealed_since}) {
      const absl::Status s =
          scan->ScanOne({run_id, at.stream, at.branch}, at.step, visit_step);
      if (!s.ok()) return s;
      if (found) return goes_on;
    }
    return Damaged("index");
  }
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  rocksdb::PinnableSlice value;
  const rocksdb::Status got = engine.db()->Get(
      options, engine.index(),
      keys::Gap(run_id, at.stream, at.branch, at.step, ordinal), &value);
  if (got.IsNotFound()) return Damaged("index");
  if (!got.ok()) return ToStatus(got, kReading);
  auto gap = DecodeGapValue(View(value));
  if (!gap.ok()) return gap.status();
  const GapRow row{at.stream, at.branch, ordinal, *std::move(gap)};
  return visit(nullptr, &row);
}

}  // namespace

absl::StatusOr<RocksdbStore::Reader> RocksdbStore::ReaderOfStream(
    StreamId stream) const {
  MutexLock lock(mu_);
  return ReaderOfStreamLocked(stream);
}

absl::StatusOr<RocksdbStore::Reader> RocksdbStore::ReaderOfStreamLocked(
    StreamId stream) const {
  const CatalogRun* run = catalog_.FindStream(stream);
  if (run == nullptr) {
    return absl::NotFoundError(absl::StrCat("there is no stream ", stream));
  }
  if (engine_ == nullptr) {
    return absl::UnavailableError(
        "data folder: the database is being opened again");
  }
  return Reader{engine_, run->run_id};
}

std::vector<std::shared_ptr<const RunEntry>> RocksdbStore::Runs() const {
  std::vector<std::shared_ptr<const RunEntry>> runs;
  MutexLock lock(mu_);
  runs.reserve(catalog_.runs.size());
  for (const auto& [name, run] : catalog_.runs) runs.push_back(run.entry);
  return runs;
}

std::shared_ptr<const RunEntry> RocksdbStore::FindRun(
    std::string_view run) const {
  MutexLock lock(mu_);
  const auto found = catalog_.runs.find(run);
  return found == catalog_.runs.end() ? nullptr : found->second.entry;
}

absl::StatusOr<std::shared_ptr<const Schema>> RocksdbStore::ReadSchema(
    StreamId stream, std::uint32_t schema_id) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  if (auto cached = schemas_.Find(stream, schema_id)) return cached;
  std::string body;
  const rocksdb::Status found = reader->engine->db()->Get(
      rocksdb::ReadOptions(), reader->engine->index(),
      keys::Schema(reader->run_id, stream, schema_id), &body);
  if (found.IsNotFound()) {
    return absl::NotFoundError(
        absl::StrCat("stream ", stream, " has no schema ", schema_id));
  }
  if (!found.ok()) return ToStatus(found, kReading);
  auto schema = DecodeSchema(body);
  if (!schema.ok()) {
    return Damaged(absl::StrCat("schema (", schema.status().ToString(), ")"));
  }
  auto shared = std::make_shared<const Schema>(*std::move(schema));
  schemas_.Insert(stream, schema_id, shared);
  return shared;
}

absl::StatusOr<std::shared_ptr<const TileLayout>> RocksdbStore::LayoutOf(
    StreamId stream, std::uint32_t schema_id) {
  if (auto layout = schemas_.FindLayout(stream, schema_id)) return layout;
  const auto schema = ReadSchema(stream, schema_id);
  if (!schema.ok()) return schema.status();
  return std::make_shared<const TileLayout>(**schema);
}

absl::StatusOr<std::int64_t> RocksdbStore::RolledUpEnd(
    const BranchKey& branch) const {
  MutexLock lock(mu_);
  const CatalogRun* run = catalog_.FindStream(branch.stream);
  if (run == nullptr) return RunDeleted();
  const StreamEntry& stream =
      run->entry->streams[IndexOf(*run->entry, branch.stream)];
  return branch.branch < stream.branches.size()
             ? stream.branches[branch.branch].rolled_up_end
             : 0;
}

absl::Status RocksdbStore::ScanSteps(
    StreamId stream, std::uint32_t branch, std::int64_t begin, std::int64_t end,
    const std::function<bool(const StepRow&)>& visit) {
  Reader reader;
  TailRecords rows;
  std::int64_t database_end = end;  // What comes after that is in `rows`.
  std::optional<rocksdb::ManagedSnapshot> snapshot;
  {
    MutexLock lock(mu_);
    absl::StatusOr<Reader> found = ReaderOfStreamLocked(stream);
    if (!found.ok()) return found.status();
    reader = *std::move(found);
    std::optional<std::int64_t> first;
    rows = tail_.Steps(reader.run_id, stream, branch, begin, end, &first);
    if (first.has_value()) database_end = std::min(end, *first);
    ++(begin < database_end ? counters_.database_scans : counters_.tail_scans);
    // Both parts are as of one moment: no delete comes between them.
    if (begin < database_end) snapshot.emplace(reader.engine->db());
  }
  bool goes_on = true;
  if (snapshot.has_value()) {
    StepScan scan(
        reader.engine, snapshot->snapshot(),
        [&](std::uint32_t id) { return LayoutOf(stream, id); },
        [&](const BranchKey& at) { return RolledUpEnd(at); });
    const BranchKey key{reader.run_id, stream, branch};
    const absl::Status s =
        scan.Scan(key, begin, database_end,
                  [&](const StepRow& row) { return goes_on = visit(row); });
    // What a scan misses whose run was deleted under it is no damage.
    if (const auto there = RolledUpEnd(key); !there.ok()) return there.status();
    if (!s.ok()) return s;
  }
  for (auto row = rows.begin(); goes_on && row != rows.end(); ++row) {
    goes_on = visit(RowOf(*row));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> RocksdbStore::ReadHistogramBlock(
    StreamId stream, std::uint32_t branch, std::int64_t step, Role role,
    std::uint32_t block) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  std::string body;
  const rocksdb::Status found = reader->engine->db()->Get(
      rocksdb::ReadOptions(), reader->engine->histograms(),
      keys::Histogram(reader->run_id, stream, branch, step,
                      static_cast<std::uint8_t>(role), block),
      &body);
  if (found.IsNotFound()) return std::optional<std::string>();
  if (!found.ok()) return ToStatus(found, kReading);
  return std::optional<std::string>(std::move(body));
}

absl::StatusOr<std::optional<std::int64_t>> RocksdbStore::FindHistogramStep(
    StreamId stream, std::uint32_t branch, std::int64_t begin, std::int64_t end,
    bool highest) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  if (begin >= end) return std::optional<std::int64_t>();
  const auto key_of = [&](std::int64_t step) {
    return keys::HistogramStep(reader->run_id, stream, branch, step);
  };
  const std::string from = key_of(begin);
  const std::string to = key_of(end);
  const rocksdb::Slice lower(from);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower;
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      reader->engine->db()->NewIterator(options, reader->engine->histograms()));
  highest ? it->SeekToLast() : it->SeekToFirst();
  if (!it->Valid()) {
    if (!it->status().ok()) return ToStatus(it->status(), kReading);
    return std::optional<std::int64_t>();
  }
  const auto parsed = keys::ParseStreamKey(0, View(it->key()));
  ByteReader rest(parsed.has_value() ? parsed->rest : "");
  rest.U32();  // The branch.
  const std::int64_t step = rest.I64();
  if (!rest.ok()) return Damaged("histogram");
  return std::optional<std::int64_t>(step);
}

absl::StatusOr<std::vector<GapRow>> RocksdbStore::ReadGaps(StreamId stream) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  const std::string begin = keys::OfStream(keys::kGap, reader->run_id, stream);
  std::vector<GapRow> gaps;
  bool damaged = false;
  const absl::Status scanned =
      Scan(*reader->engine, reader->engine->index(), begin, keys::After(begin),
           nullptr, [&](std::string_view key, std::string_view value) {
             const auto parsed = keys::ParseStreamKey(keys::kGap, key);
             ByteReader rest(parsed.has_value() ? parsed->rest : "");
             GapRow row;
             row.stream = stream;
             row.branch = rest.U32();
             rest.I64();  // The first step is in the value, too.
             row.ordinal = rest.U64();
             auto gap = DecodeGapValue(value);
             damaged = !rest.ok() || !rest.at_end() || !gap.ok();
             if (damaged) return false;
             row.gap = *std::move(gap);
             gaps.push_back(std::move(row));
             return true;
           });
  if (damaged) return Damaged("gap");
  if (!scanned.ok()) return scanned;
  return gaps;
}

KeptParts RocksdbStore::PartsOf(StreamId stream) const {
  MutexLock lock(mu_);
  const auto found = catalog_.parts.find(stream);
  return found == catalog_.parts.end() ? KeptParts() : found->second;
}

absl::Status RocksdbStore::ScanParts(
    StreamId stream, std::uint64_t begin, std::uint64_t end,
    const std::function<bool(std::string_view)>& visit) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  return Scan(
      *reader->engine, reader->engine->index(),
      keys::Part(reader->run_id, stream, begin),
      keys::Part(reader->run_id, stream, end), nullptr,
      [&](std::string_view, std::string_view value) { return visit(value); });
}

absl::Status RocksdbStore::ScanByOrdinal(
    std::string_view run, std::uint64_t after,
    const std::function<bool(const StepRow*, const GapRow*)>& visit) {
  Reader reader;
  TailRecords records;
  std::uint64_t database_end = 0;  // What comes from there on is in `records`.
  std::optional<rocksdb::ManagedSnapshot> snapshot;
  {
    MutexLock lock(mu_);
    const auto found = catalog_.runs.find(run);
    if (found == catalog_.runs.end()) {
      return absl::NotFoundError(
          absl::StrCat("there is no run ", std::string(run)));
    }
    const std::uint64_t head = found->second.entry->ordinal;
    if (after >= head) return absl::OkStatus();
    reader = {engine_, found->second.run_id};
    if (reader.engine == nullptr) {
      return absl::UnavailableError(
          "data folder: the database is being opened again");
    }
    records = tail_.After(reader.run_id, after);
    database_end = records.empty() ? head + 1 : records.front()->ordinal;
    ++(after + 1 < database_end ? counters_.database_scans
                                : counters_.tail_scans);
    // Both parts are as of one moment: no delete comes between them.
    if (after + 1 < database_end) snapshot.emplace(reader.engine->db());
  }
  bool goes_on = true;
  if (snapshot.has_value()) {
    const auto visit_some = [&](const StepRow* row, const GapRow* gap) {
      return goes_on = visit(row, gap);
    };
    const absl::Status s = ScanOrdinals(reader, snapshot->snapshot(), after + 1,
                                        database_end, visit_some);
    if (FindEntry(run).run_id != reader.run_id) return RunDeleted();
    if (!s.ok()) return s;
  }
  for (auto it = records.begin(); goes_on && it != records.end(); ++it) {
    PrefetchAfter(it, records.end());
    const TailRecord& record = **it;
    if (record.gap.has_value()) {
      goes_on = visit(nullptr, &*record.gap);
    } else {
      const StepRow row = RowOf(*it);
      goes_on = visit(&row, nullptr);
    }
  }
  return absl::OkStatus();
}

absl::Status RocksdbStore::ScanOrdinals(
    const Reader& reader, const rocksdb::Snapshot* snapshot,
    std::uint64_t begin, std::uint64_t end,
    const std::function<bool(const StepRow*, const GapRow*)>& visit) {
  const Engine& engine = *reader.engine;
  StreamId stream = 0;  // Of the row at hand.
  const auto layout_of = [&](std::uint32_t id) { return LayoutOf(stream, id); };
  const auto rolled_up_end = [&](const BranchKey& at) {
    return RolledUpEnd(at);
  };
  StepScan steps(reader.engine, snapshot, layout_of, rolled_up_end);
  // Files of rows go once all are sealed, whatever a snapshot shows: what is
  // missed there is in a window since.
  StepScan sealed_since(reader.engine, nullptr, layout_of, rolled_up_end);
  absl::Status failure;
  const absl::Status scanned = Scan(
      engine, engine.index(), keys::Ordinal(reader.run_id, begin),
      keys::Ordinal(reader.run_id, end), snapshot,
      [&](std::string_view key, std::string_view value) {
        // Its second number is the ordinal.
        const auto parsed = keys::ParseStreamKey(keys::kOrdinal, key);
        const auto at = keys::DecodeOrdinalValue(value);
        if (!parsed.has_value() || !parsed->rest.empty() || !at.has_value()) {
          failure = Damaged("index");
          return false;
        }
        stream = at->stream;
        const auto goes_on =
            VisitOrdinal(engine, snapshot, &steps, &sealed_since, reader.run_id,
                         parsed->stream, *at, visit);
        failure = goes_on.status();
        return goes_on.ok() && *goes_on;
      });
  return failure.ok() ? scanned : failure;
}

std::size_t RocksdbStore::tail_bytes() const {
  MutexLock lock(mu_);
  return tail_.bytes();
}

}  // namespace gradtap::server
