#include "server/ingest/commit_runner.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ingest/hello.h"

namespace gradtap::server {

std::size_t WriteBytes(const StreamCommit& commit) {
  constexpr std::size_t kKeysBytes = 200;
  std::size_t keys = commit.steps.size() + commit.gaps.size() +
                     commit.new_branches.size() + commit.schemas.size() +
                     commit.parts.size();
  for (const StreamCommit::Step& step : commit.steps) {
    keys += step.histograms.size();
  }
  return commit.bytes + kKeysBytes * keys;
}

namespace {

// Among the attempts of a run, by start time: which one this is, from 1.
std::uint32_t AttemptLabel(const RunEntry& run, const StreamEntry& stream) {
  std::map<std::string, std::int64_t> started;  // By launch.
  for (const StreamEntry& other : run.streams) {
    const std::int64_t at = other.hello.start_time_unix_ns;
    const auto [it, added] = started.emplace(other.hello.launch, at);
    if (!added) it->second = std::min(it->second, at);
  }
  const std::pair<std::int64_t, std::string> mine{started[stream.hello.launch],
                                                  stream.hello.launch};
  std::uint32_t label = 1;
  for (const auto& [launch, at] : started) {
    label += std::make_pair(at, launch) < mine ? 1 : 0;
  }
  return label;
}

// Null: the run does not have it.
const StreamEntry* FindIn(const RunEntry& run, const StreamHello& hello) {
  const auto found = std::find_if(
      run.streams.begin(), run.streams.end(), [&hello](const StreamEntry& one) {
        return one.hello.rank == hello.rank &&
               one.hello.process_nonce == hello.process_nonce;
      });
  return found == run.streams.end() ? nullptr : &*found;
}

// The highest step of attempts that began before this one; -1: none.
std::int64_t LastStepBefore(const RunEntry& run, const StreamEntry& stream) {
  std::int64_t last = -1;
  for (const StreamEntry& other : run.streams) {
    if (other.hello.launch == stream.hello.launch ||
        other.hello.start_time_unix_ns > stream.hello.start_time_unix_ns) {
      continue;
    }
    for (const Branch& branch : other.branches) {
      last = std::max(last, branch.last_step);
    }
  }
  return last;
}

}  // namespace

void CommitRunner::Run(std::deque<CommitTask> tasks) {
  std::vector<CommitTask> group;
  std::size_t bytes = 0;
  for (CommitTask& task : tasks) {
    const bool opens = task.batch == nullptr;
    if (opens || bytes >= kCommitGroupBytes) {
      CommitGroup(&group);
      bytes = 0;
    }
    if (opens) {
      task.open_done(OpenStream(task.hello));
    } else {
      bytes += WriteBytes(task.batch->commit);
      group.push_back(std::move(task));
    }
  }
  CommitGroup(&group);
}

void CommitRunner::CommitGroup(std::vector<CommitTask>* group) {
  if (group->empty()) return;
  std::vector<StreamCommit> commits;
  commits.reserve(group->size());
  for (CommitTask& task : *group) {
    commits.push_back(std::move(task.batch->commit));
  }
  const absl::Status together = store_->Commit(commits);
  // One that does not fit must not fail the others: then each goes alone.
  const bool apart =
      group->size() > 1 &&
      (absl::IsNotFound(together) || absl::IsFailedPrecondition(together));
  for (std::size_t i = 0; i < group->size(); ++i) {
    CommitTask& task = (*group)[i];
    const absl::Status status =
        apart ? store_->Commit({&commits[i], 1}) : together;
    task.batch->commit = std::move(commits[i]);
    if (!status.ok()) {
      room_->GiveBack(
          task.batch->run,
          StreamRoom::kBranchBytes * task.batch->commit.new_branches.size());
    }
    task.commit_done(*task.batch, status);
  }
  group->clear();
}

StreamId CommitRunner::FindStream(const StreamHello& hello) const {
  const auto run = store_->FindRun(hello.run);
  const StreamEntry* const stream =
      run == nullptr ? nullptr : FindIn(*run, hello);
  return stream == nullptr ? 0 : stream->id;
}

std::uint64_t CommitRunner::RoomOf(const IngestLimits& limits) {
  constexpr std::uint64_t kUsualStreams = 100'000;
  constexpr std::uint64_t kOfAFurtherOne = 2'560;
  const std::uint64_t further =
      std::max<std::uint64_t>(limits.max_streams, kUsualStreams) -
      kUsualStreams;
  return limits.stream_bytes + further * kOfAFurtherOne;
}

absl::Status CommitRunner::CheckCounts(const RunEntry* run) const {
  const auto runs = store_->Runs();
  if (run == nullptr && runs.size() >= limits_.max_runs) {
    limits_.guards.Refused(Limit::kRuns);
    return absl::ResourceExhaustedError(
        absl::StrCat("this collector keeps at most ", limits_.max_runs,
                     " runs; delete one"));
  }
  std::size_t streams = 0;
  for (const auto& one : runs) streams += one->streams.size();
  if (streams < limits_.max_streams) return absl::OkStatus();
  limits_.guards.Refused(Limit::kStreams);
  return absl::ResourceExhaustedError(absl::StrCat(
      "this collector keeps at most ", limits_.max_streams,
      " streams of all runs, one for each process that recorded; delete a "
      "run"));
}

absl::Status CommitRunner::TakeRoom(const StreamHello& hello,
                                    std::uint64_t* taken) {
  room_->LookAt(store_->Runs());
  const auto run = store_->FindRun(hello.run);
  const StreamEntry* const known =
      run == nullptr ? nullptr : FindIn(*run, hello);
  if (known == nullptr) {
    if (const absl::Status s = CheckCounts(run.get()); !s.ok()) return s;
    *taken = StreamRoom::BytesOf(hello);
  } else {
    StreamHello merged = known->hello;
    for (const auto& [key, value] : hello.tags) merged.tags[key] = value;
    if (merged.tags.size() > std::max(kMaxTags, known->hello.tags.size())) {
      limits_.guards.Refused(Limit::kStreamBytes);
      return absl::ResourceExhaustedError(
          absl::StrCat("a stream has at most ", kMaxTags,
                       " tags; with those that this process gave before it "
                       "would have ",
                       merged.tags.size()));
    }
    const std::uint64_t before = StreamRoom::BytesOf(known->hello);
    *taken = std::max(StreamRoom::BytesOf(merged), before) - before;
  }
  absl::Status s = room_->Take(hello.run, *taken);
  if (!s.ok()) limits_.guards.Refused(Limit::kStreamBytes);
  return s;
}

absl::Status CommitRunner::LookForUnfinished(OpenedStream* opened) {
  const StreamId id = opened->entry.id;
  opened->scan_parts = [store = store_, id](std::uint64_t begin,
                                            std::uint64_t end,
                                            const auto& visit) {
    return store->ScanParts(id, begin, end, visit);
  };
  const KeptParts kept = store_->PartsOf(id);
  if (kept.parts == 0) return absl::OkStatus();
  opened->unfinished = FindUnfinished(kept, opened->entry.durable_seq, "");
  return store_->ScanParts(
      id, kept.first_seq, kept.first_seq + 1, [&](std::string_view first) {
        opened->unfinished =
            FindUnfinished(kept, opened->entry.durable_seq, first);
        return false;
      });
}

absl::StatusOr<OpenedStream> CommitRunner::OpenStream(
    const StreamHello& hello) {
  std::uint64_t taken = 0;
  if (const absl::Status s = TakeRoom(hello, &taken); !s.ok()) return s;
  auto entry = store_->OpenStream(hello, clock_->UnixNanos());
  if (!entry.ok()) {
    room_->GiveBack(hello.run, taken);
    return absl::UnavailableError(entry.status().message());
  }
  OpenedStream opened;
  opened.room = room_;
  opened.entry = *std::move(entry);
  const StreamId id = opened.entry.id;
  if (opened.entry.schema_id != 0) {
    auto schema = store_->ReadSchema(id, opened.entry.schema_id);
    if (!schema.ok()) return absl::UnavailableError(schema.status().message());
    opened.schema = *std::move(schema);
  }
  if (const absl::Status s = LookForUnfinished(&opened); !s.ok()) {
    return absl::UnavailableError(s.message());
  }
  if (const auto run = store_->FindRun(hello.run)) {
    opened.attempt = AttemptLabel(*run, opened.entry);
    opened.last_step_of_run = LastStepBefore(*run, opened.entry);
  }
  return opened;
}

}  // namespace gradtap::server
