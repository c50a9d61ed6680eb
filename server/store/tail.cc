#include "server/store/tail.h"

#include <algorithm>

namespace gradtap::server {
namespace {

// Two deques, the control block and what the allocator adds.
constexpr std::size_t kOverhead = 96;

// How far ahead of a reader records and their bodies are fetched, and of a body
// how much: a large one takes long enough for the machine to see what comes.
constexpr std::ptrdiff_t kRecordsAhead = 4;
constexpr std::ptrdiff_t kBodiesAhead = 1;
constexpr std::size_t kMostPrefetched = 4096;
constexpr std::size_t kCacheLine = 64;

std::size_t BytesOf(const TailRecord& record) {
  std::size_t bytes = sizeof(TailRecord) + kOverhead + record.body.capacity();
  if (record.gap.has_value()) bytes += record.gap->gap.detail.capacity();
  return bytes;
}

}  // namespace

void PrefetchAfter(TailRecords::const_iterator at,
                   TailRecords::const_iterator end) {
  if (end - at > kRecordsAhead) __builtin_prefetch(at[kRecordsAhead].get());
  if (end - at <= kBodiesAhead) return;
  const std::string& body = at[kBodiesAhead]->body;
  const std::size_t bytes = std::min(body.size(), kMostPrefetched);
  for (std::size_t i = 0; i < bytes; i += kCacheLine) {
    __builtin_prefetch(body.data() + i);
  }
}

StepRow RowOf(const SharedTailRecord& record) {
  StepRow row;
  row.stream = record->stream;
  row.branch = record->branch;
  row.step = record->step;
  row.ordinal = record->ordinal;
  row.body = record->body;
  row.body_owner = record;
  return row;
}

Tail::Turn Tail::TurnOf(std::uint64_t run_id, const Run& run) {
  const bool kept =
      run.live && run.records.front()->ordinal >= run.newest_step_ordinal;
  return {kept, run.serials.front(), run_id};
}

void Tail::Append(std::uint64_t run_id, TailRecords records, bool live) {
  if (limits_.bytes == 0) return;
  const auto found = runs_.find(run_id);
  if (found == runs_.end() && records.empty()) return;
  Run& run = found == runs_.end() ? runs_[run_id] : found->second;
  if (!run.records.empty()) turns_.erase(TurnOf(run_id, run));
  run.live = live;
  for (SharedTailRecord& record : records) {
    bytes_ += BytesOf(*record);
    if (!record->gap.has_value()) {
      run.newest_step_ordinal = record->ordinal;
      run.branches[{record->stream, record->branch}].push_back(record);
    }
    run.records.push_back(std::move(record));
    run.serials.push_back(next_serial_++);
    if (run.records.size() > limits_.records_of_run) DropOldest(&run);
  }
  turns_.insert(TurnOf(run_id, run));
  while (bytes_ > limits_.bytes) DropOldestOfAll();
}

void Tail::DropOldest(Run* run) {
  const TailRecord& oldest = *run->records.front();
  bytes_ -= BytesOf(oldest);
  if (!oldest.gap.has_value()) {
    const auto branch = run->branches.find({oldest.stream, oldest.branch});
    branch->second.pop_front();
    if (branch->second.empty()) run->branches.erase(branch);
  }
  run->records.pop_front();
  run->serials.pop_front();
}

void Tail::DropOldestOfAll() {
  const std::uint64_t run_id = std::get<2>(*turns_.begin());
  turns_.erase(turns_.begin());
  Run& run = runs_.at(run_id);
  DropOldest(&run);
  if (run.records.empty()) {
    runs_.erase(run_id);
  } else {
    turns_.insert(TurnOf(run_id, run));
  }
}

void Tail::Forget(std::uint64_t run_id) {
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) return;
  turns_.erase(TurnOf(run_id, found->second));
  for (const SharedTailRecord& record : found->second.records) {
    bytes_ -= BytesOf(*record);
  }
  runs_.erase(found);
}

void Tail::Clear() {
  runs_.clear();
  turns_.clear();
  bytes_ = 0;
}

TailRecords Tail::After(std::uint64_t run_id, std::uint64_t after) const {
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) return {};
  const std::deque<SharedTailRecord>& records = found->second.records;
  const auto begin = std::upper_bound(
      records.begin(), records.end(), after,
      [](std::uint64_t ordinal, const SharedTailRecord& record) {
        return ordinal < record->ordinal;
      });
  return {begin, records.end()};
}

TailRecords Tail::Steps(std::uint64_t run_id, StreamId stream,
                        std::uint32_t branch, std::int64_t begin,
                        std::int64_t end,
                        std::optional<std::int64_t>* first) const {
  first->reset();
  const auto run = runs_.find(run_id);
  if (run == runs_.end()) return {};
  const auto found = run->second.branches.find({stream, branch});
  if (found == run->second.branches.end()) return {};
  const std::deque<SharedTailRecord>& rows = found->second;
  *first = rows.front()->step;
  const auto below = [](const SharedTailRecord& record, std::int64_t step) {
    return record->step < step;
  };
  const auto from = std::lower_bound(rows.begin(), rows.end(), begin, below);
  return {from, std::lower_bound(from, rows.end(), end, below)};
}

}  // namespace gradtap::server
