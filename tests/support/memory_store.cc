#include "support/memory_store.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/codec.h"
#include "tests/support/memory_window.h"

namespace gradtap::testing {

using server::GapRow;
using server::RunEntry;
using server::StepRow;
using server::StreamCommit;
using server::StreamEntry;
using server::StreamId;

namespace {

// 0: no windows.
std::size_t WindowRows() {
  const char* rows = std::getenv("GRADTAP_TEST_WINDOW_ROWS");
  return rows == nullptr ? 0 : std::strtoul(rows, nullptr, 10);
}

std::string BodyOf(const std::string& record) {
  return std::string(ParseRecord(record)->body);
}

std::string EncodedStep(const StepData& step) {
  std::string record(EncodedStepSize(step), '\0');
  EncodeStep(step, record);
  return record;
}

}  // namespace

void MemoryStore::CommitOne(StreamId stream, StreamCommit commit) {
  {
    MutexLock lock(mu_);
    RunEntry* run = nullptr;
    const StreamEntry* entry = Find(stream, &run);
    commit.stream = stream;
    commit.first_seq = commit.last_seq = entry->durable_seq + 1;
    commit.last_seen_unix_ns = entry->last_seen_unix_ns;
  }
  (void)Commit({&commit, 1});
}

void MemoryStore::AddSchema(StreamId stream, const Schema& schema) {
  const std::string body = BodyOf(EncodeSchema(schema));
  StreamCommit commit;
  commit.schemas.push_back({schema.schema_id, body, schema.optimizers});
  commit.bytes = body.size();
  CommitOne(stream, commit);
}

void MemoryStore::CommitStep(StreamId stream, std::uint32_t branch,
                             const StepData& step, const SplitStep& split) {
  StreamCommit commit;
  StreamCommit::Step row;
  row.branch = branch;
  row.step = step.step;
  row.has_statistics = step.skipped == GapCause::kUnspecified;
  row.body = split.row;
  row.histograms = split.blocks;
  commit.steps.push_back(row);
  commit.bytes = split.row.size();
  CommitOne(stream, commit);
}

void MemoryStore::AddStep(StreamId stream, std::uint32_t branch,
                          const StepData& step) {
  const std::string body = BodyOf(EncodedStep(step));
  CommitStep(stream, branch, step,
             SplitHistograms(body, *StepView::Parse(body)));
}

void MemoryStore::AddStepOfFormat1(StreamId stream, std::uint32_t branch,
                                   const StepData& step) {
  CommitStep(stream, branch, step, {BodyOf(EncodedStep(step)), {}});
}

void MemoryStore::AddGap(StreamId stream, std::uint32_t branch,
                         const GapData& gap) {
  StreamCommit commit;
  commit.gaps.push_back({branch, gap});
  CommitOne(stream, commit);
}

void MemoryStore::AddBranch(StreamId stream, std::uint32_t branch,
                            std::int64_t rollback_step) {
  StreamCommit commit;
  commit.new_branches.push_back({branch, rollback_step});
  CommitOne(stream, commit);
}

void MemoryStore::AddEnd(StreamId stream, const EndData& end) {
  StreamCommit commit;
  commit.end = end;
  CommitOne(stream, commit);
}

std::uint64_t MemoryStore::bytes_read() const {
  MutexLock lock(mu_);
  return bytes_read_;
}

std::uint64_t MemoryStore::blocks_read() const {
  MutexLock lock(mu_);
  return blocks_read_;
}

StreamEntry* MemoryStore::Find(StreamId stream, RunEntry** run) {
  for (auto& [name, entry] : runs_) {
    for (StreamEntry& one : entry->streams) {
      if (one.id != stream) continue;
      *run = entry.get();
      return &one;
    }
  }
  return nullptr;
}

absl::StatusOr<StreamEntry> MemoryStore::OpenStream(
    const server::StreamHello& hello, std::int64_t now_unix_ns) {
  StreamEntry opened;
  {
    MutexLock lock(mu_);
    std::shared_ptr<RunEntry>& current = runs_[hello.run];
    auto run = current == nullptr ? std::make_shared<RunEntry>()
                                  : std::make_shared<RunEntry>(*current);
    if (current == nullptr) {
      run->run = hello.run;
      run->created_unix_ns = now_unix_ns;
    }
    for (const StreamEntry& stream : run->streams) {
      if (stream.hello.rank == hello.rank &&
          stream.hello.process_nonce == hello.process_nonce) {
        return stream;
      }
    }
    opened.id = next_stream_++;
    opened.hello = hello;
    opened.last_seen_unix_ns = now_unix_ns;
    opened.branches.emplace_back();
    run->streams.push_back(opened);
    current = run;
  }
  Notify(hello.run);
  return opened;
}

void MemoryStore::Touch(StreamEntry* stream, std::uint32_t branch,
                        std::int64_t first, std::int64_t last) {
  for (server::Branch& one : stream->branches) {
    if (one.branch != branch) continue;
    if (one.first_step < 0 || first < one.first_step) one.first_step = first;
    one.last_step = std::max(one.last_step, last);
    ++one.rows;
  }
}

void MemoryStore::CommitLocked(const StreamCommit& commit, RunEntry* run,
                               StreamEntry* stream) {
  for (const auto& schema : commit.schemas) {
    schemas_[{stream->id, schema.schema_id}] =
        std::make_shared<const Schema>(*DecodeSchema(schema.body));
    stream->schema_id = schema.schema_id;
    stream->optimizers = schema.optimizers;
  }
  for (const auto& added : commit.new_branches) {
    stream->branches.push_back({added.branch, -1, -1, 0, added.rollback_step});
  }
  for (const auto& step : commit.steps) {
    rows_[{stream->id, step.branch, step.step}] = {++run->ordinal,
                                                   std::string(step.body)};
    for (const HistogramBlock& block : step.histograms) {
      blocks_[{stream->id, step.branch, step.step}][{block.role, block.block}] =
          block.body;
    }
    Touch(stream, step.branch, step.step, step.step);
    ++(step.has_statistics ? stream->stored_steps : stream->skipped_steps);
    ++counters_.stored_steps;
  }
  for (const auto& gap : commit.gaps) {
    gaps_[stream->id].push_back(
        {stream->id, gap.branch, ++run->ordinal, gap.gap});
    Touch(stream, gap.branch, gap.gap.first_step, gap.gap.last_step);
    (IsLost(gap.gap.cause) ? stream->lost_steps : stream->skipped_steps) +=
        gap.gap.steps;
  }
  if (commit.end.has_value()) stream->end = commit.end;
  stream->durable_seq = commit.last_seq;
  stream->bytes += commit.bytes;
  stream->rejected_records += commit.rejected_records;
  stream->last_seen_unix_ns =
      std::max(stream->last_seen_unix_ns, commit.last_seen_unix_ns);
  counters_.stored_bytes += commit.bytes;
}

absl::Status MemoryStore::Commit(std::span<const StreamCommit> commits) {
  std::vector<std::string> changed;
  {
    MutexLock lock(mu_);
    for (const StreamCommit& commit : commits) {
      RunEntry* run = nullptr;
      if (Find(commit.stream, &run) == nullptr) {
        return absl::NotFoundError("no such stream");
      }
      const auto copy = std::make_shared<RunEntry>(*run);
      runs_[copy->run] = copy;
      StreamEntry* stream = Find(commit.stream, &run);
      CommitLocked(commit, run, stream);
      changed.push_back(copy->run);
    }
    ++counters_.commits;
  }
  for (const std::string& run : changed) Notify(run);
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const RunEntry>> MemoryStore::Runs() const {
  MutexLock lock(mu_);
  std::vector<std::shared_ptr<const RunEntry>> all;
  for (const auto& [name, run] : runs_) all.push_back(run);
  return all;
}

std::shared_ptr<const RunEntry> MemoryStore::FindRun(
    std::string_view run) const {
  MutexLock lock(mu_);
  const auto it = runs_.find(run);
  return it == runs_.end() ? nullptr : it->second;
}

absl::StatusOr<std::shared_ptr<const Schema>> MemoryStore::ReadSchema(
    StreamId stream, std::uint32_t schema_id) {
  MutexLock lock(mu_);
  const auto it = schemas_.find({stream, schema_id});
  if (it == schemas_.end()) return absl::NotFoundError("no such schema");
  return it->second;
}

std::shared_ptr<server::SealedWindow> MemoryStore::WindowOf(
    const std::vector<std::pair<RowKey, Row>>& branch, std::size_t first) {
  std::vector<std::pair<std::uint64_t, std::string>> rows;
  std::uint32_t schema_id = 0;
  for (std::size_t i = first; i < first + WindowRows(); ++i) {
    if (i + 1 >= branch.size()) return nullptr;  // The newest stays a row.
    const Row& row = branch[i].second;
    const auto step = StepView::Parse(row.body);
    if (!step.ok() || step->has_histograms()) return nullptr;
    if (!step->columns().empty()) {
      if (schema_id != 0 && schema_id != step->schema_id()) return nullptr;
      schema_id = step->schema_id();
    }
    rows.emplace_back(row.ordinal, row.body);
  }
  std::shared_ptr<const Schema> schema = std::make_shared<const Schema>();
  {
    MutexLock lock(mu_);
    const auto it =
        schemas_.find({std::get<0>(branch[first].first), schema_id});
    if (it != schemas_.end()) schema = it->second;
  }
  auto window = SealInMemory(rows, *schema);
  return window.ok() ? *window : nullptr;
}

absl::Status MemoryStore::ScanSteps(
    StreamId stream, std::uint32_t branch, std::int64_t begin, std::int64_t end,
    const std::function<bool(const StepRow&)>& visit) {
  std::vector<std::pair<RowKey, Row>> rows;
  {
    MutexLock lock(mu_);
    rows.assign(rows_.lower_bound({stream, branch, INT64_MIN}),
                rows_.lower_bound({stream, branch + 1, INT64_MIN}));
  }
  std::shared_ptr<server::SealedWindow> window;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& [key, row] = rows[i];
    const std::int64_t step = std::get<2>(key);
    const std::size_t at = WindowRows() == 0 ? 0 : i % WindowRows();
    if (WindowRows() != 0 && at == 0) window = WindowOf(rows, i);
    if (step < begin || step >= end) continue;
    StepRow visited{stream,
                    branch,
                    step,
                    row.ordinal,
                    row.body,
                    window,
                    static_cast<std::uint32_t>(at)};
    if (window != nullptr) {
      visited.body = {};
    } else {
      MutexLock lock(mu_);
      bytes_read_ += row.body.size();
    }
    if (!visit(visited)) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> MemoryStore::ReadHistogramBlock(
    StreamId stream, std::uint32_t branch, std::int64_t step, Role role,
    std::uint32_t block) {
  MutexLock lock(mu_);
  ++blocks_read_;
  const auto blocks = blocks_.find({stream, branch, step});
  if (blocks == blocks_.end()) return std::optional<std::string>();
  const auto found = blocks->second.find({role, block});
  if (found == blocks->second.end()) return std::optional<std::string>();
  return std::optional<std::string>(found->second);
}

absl::StatusOr<std::optional<std::int64_t>> MemoryStore::FindHistogramStep(
    StreamId stream, std::uint32_t branch, std::int64_t begin, std::int64_t end,
    bool highest) {
  MutexLock lock(mu_);
  ++blocks_read_;
  const auto from = blocks_.lower_bound({stream, branch, begin});
  const auto to = blocks_.lower_bound({stream, branch, std::max(begin, end)});
  if (from == to) return std::optional<std::int64_t>();
  return std::optional<std::int64_t>(
      std::get<2>(highest ? std::prev(to)->first : from->first));
}

absl::StatusOr<std::vector<GapRow>> MemoryStore::ReadGaps(StreamId stream) {
  MutexLock lock(mu_);
  std::vector<GapRow> gaps = gaps_[stream];
  std::stable_sort(gaps.begin(), gaps.end(),
                   [](const GapRow& a, const GapRow& b) {
                     return std::tie(a.branch, a.gap.first_step) <
                            std::tie(b.branch, b.gap.first_step);
                   });
  return gaps;
}

absl::Status MemoryStore::ScanByOrdinal(
    std::string_view run, std::uint64_t after,
    const std::function<bool(const StepRow*, const GapRow*)>& visit) {
  std::map<std::uint64_t, std::pair<RowKey, std::string>> rows;
  std::map<std::uint64_t, GapRow> gaps;
  {
    MutexLock lock(mu_);
    const auto it = runs_.find(run);
    if (it == runs_.end()) return absl::NotFoundError("no such run");
    for (const StreamEntry& stream : it->second->streams) {
      for (auto row = rows_.lower_bound({stream.id, 0, INT64_MIN});
           row != rows_.end() && std::get<0>(row->first) == stream.id; ++row) {
        if (row->second.ordinal > after) {
          rows[row->second.ordinal] = {row->first, row->second.body};
        }
      }
      for (const GapRow& gap : gaps_[stream.id]) {
        if (gap.ordinal > after) gaps[gap.ordinal] = gap;
      }
    }
  }
  auto row = rows.begin();
  auto gap = gaps.begin();
  while (row != rows.end() || gap != gaps.end()) {
    bool more;
    if (gap == gaps.end() || (row != rows.end() && row->first < gap->first)) {
      const auto& [key, body] = row->second;
      const StepRow step{std::get<0>(key),
                         std::get<1>(key),
                         std::get<2>(key),
                         row->first,
                         body,
                         nullptr,
                         0};
      more = visit(&step, nullptr);
      ++row;
    } else {
      more = visit(nullptr, &gap->second);
      ++gap;
    }
    if (!more) break;
  }
  return absl::OkStatus();
}

absl::Status MemoryStore::DeleteRun(std::string_view run) {
  {
    MutexLock lock(mu_);
    const auto it = runs_.find(run);
    if (it == runs_.end()) return absl::NotFoundError("no such run");
    if (it->second->pinned) return absl::FailedPreconditionError("pinned");
    for (const StreamEntry& stream : it->second->streams) {
      std::erase_if(rows_, [&stream](const auto& row) {
        return std::get<0>(row.first) == stream.id;
      });
      std::erase_if(blocks_, [&stream](const auto& block) {
        return std::get<0>(block.first) == stream.id;
      });
      gaps_.erase(stream.id);
    }
    std::erase_if(attachments_, [run](const auto& attachment) {
      return attachment.first.first == run;
    });
    runs_.erase(it);
  }
  Notify(std::string(run));
  return absl::OkStatus();
}

absl::Status MemoryStore::WriteAttachments(
    const server::RunEntry& run,
    std::span<const server::Attachment> attachments) {
  MutexLock lock(mu_);
  const auto it = runs_.find(run.run);
  if (it == runs_.end() || it->second->created_unix_ns != run.created_unix_ns) {
    return absl::NotFoundError("no such run");
  }
  for (const server::Attachment& attachment : attachments) {
    const std::pair<std::string, std::string> key(run.run, attachment.name);
    if (attachment.value.empty()) {
      attachments_.erase(key);
    } else {
      attachments_[key] = attachment.value;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<server::Attachment>> MemoryStore::ReadAttachments(
    const server::RunEntry& run, std::string_view prefix) {
  MutexLock lock(mu_);
  const auto it = runs_.find(run.run);
  if (it == runs_.end() || it->second->created_unix_ns != run.created_unix_ns) {
    return absl::NotFoundError("no such run");
  }
  std::vector<server::Attachment> found;
  for (auto at = attachments_.lower_bound({run.run, std::string(prefix)});
       at != attachments_.end() && at->first.first == run.run &&
       at->first.second.starts_with(prefix);
       ++at) {
    found.push_back({at->first.second, at->second});
  }
  return found;
}

absl::StatusOr<bool> MemoryStore::PinRun(std::string_view run, bool pinned) {
  MutexLock lock(mu_);
  const auto it = runs_.find(run);
  if (it == runs_.end()) return absl::NotFoundError("no such run");
  if (it->second->pinned == pinned) return false;
  it->second = std::make_shared<RunEntry>(*it->second);
  it->second->pinned = pinned;
  return true;
}

int MemoryStore::AddListener(
    std::function<void(const std::string& run)> listener) {
  MutexLock lock(listeners_mu_);
  listeners_[next_listener_] = std::move(listener);
  return next_listener_++;
}

void MemoryStore::RemoveListener(int id) {
  MutexLock lock(listeners_mu_);
  listeners_.erase(id);
}

void MemoryStore::Notify(const std::string& run) {
  MutexLock lock(listeners_mu_);
  for (const auto& [id, listener] : listeners_) listener(run);
}

server::StoreCounters MemoryStore::counters() const {
  MutexLock lock(mu_);
  return counters_;
}

}  // namespace gradtap::testing
