#include "server/query/line.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace gradtap::server {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// From where a branch replaces older ones; kNever: nowhere yet. A rollback is a
// branch's first word: what it named is replaced, stored or not.
std::int64_t FirstStepOf(const Branch& branch) {
  std::int64_t first = kNever;
  for (const std::int64_t step : {branch.first_step, branch.rollback_step}) {
    if (step >= 0) first = std::min(first, step);
  }
  return first;
}

std::int64_t FirstStepOf(const StreamEntry& stream) {
  std::int64_t first = kNever;
  for (const Branch& branch : stream.branches) {
    first = std::min(first, FirstStepOf(branch));
  }
  return first;
}

std::int64_t FirstStepOf(const Attempt& attempt) {
  std::int64_t first = kNever;
  for (const StreamEntry* stream : attempt.streams) {
    first = std::min(first, FirstStepOf(*stream));
  }
  return first;
}

// Prepends, newest first, the segments of an attempt's streams of `rank`; none
// reaches `cut`. The caller reverses.
void AppendNewestFirst(const Attempt& attempt, std::uint32_t rank,
                       std::int64_t cut, std::vector<Segment>* segments) {
  for (auto it = attempt.streams.rbegin(); it != attempt.streams.rend(); ++it) {
    const StreamEntry& stream = **it;
    if (stream.hello.rank != rank) continue;
    std::int64_t branch_cut = cut;
    for (auto branch = stream.branches.rbegin();
         branch != stream.branches.rend(); ++branch) {
      const std::int64_t past_last =
          branch->last_step == kNever ? kNever : branch->last_step + 1;
      const std::int64_t end = std::min(past_last, branch_cut);
      if (branch->first_step >= 0 && branch->first_step < end) {
        segments->push_back(
            {&stream, attempt.label, branch->branch, branch->first_step, end});
      }
      branch_cut = std::min(branch_cut, FirstStepOf(*branch));
    }
    cut = std::min(cut, FirstStepOf(stream));
  }
}

std::vector<std::uint32_t> SortedUnique(std::vector<std::uint32_t> ranks) {
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

}  // namespace

std::vector<Attempt> AttemptsOf(const RunEntry& run) {
  std::map<std::string, Attempt> by_launch;
  std::map<std::string, StreamId> first_id;
  for (const StreamEntry& stream : run.streams) {
    auto [it, is_new] = by_launch.try_emplace(stream.hello.launch);
    Attempt& attempt = it->second;
    if (is_new) {
      attempt.launch = stream.hello.launch;
      attempt.start_time_unix_ns = stream.hello.start_time_unix_ns;
      first_id[attempt.launch] = stream.id;
    }
    attempt.start_time_unix_ns =
        std::min(attempt.start_time_unix_ns, stream.hello.start_time_unix_ns);
    attempt.world_size = std::max(attempt.world_size, stream.hello.world_size);
    attempt.streams.push_back(&stream);
  }
  std::vector<Attempt> attempts;
  attempts.reserve(by_launch.size());
  for (auto& [launch, attempt] : by_launch) {
    std::sort(
        attempt.streams.begin(), attempt.streams.end(),
        [](const StreamEntry* a, const StreamEntry* b) {
          return std::tie(a->hello.rank, a->hello.start_time_unix_ns, a->id) <
                 std::tie(b->hello.rank, b->hello.start_time_unix_ns, b->id);
        });
    attempts.push_back(std::move(attempt));
  }
  std::sort(attempts.begin(), attempts.end(),
            [&first_id](const Attempt& a, const Attempt& b) {
              if (a.start_time_unix_ns != b.start_time_unix_ns) {
                return a.start_time_unix_ns < b.start_time_unix_ns;
              }
              return first_id[a.launch] < first_id[b.launch];
            });
  std::uint32_t label = 0;
  for (Attempt& attempt : attempts) attempt.label = ++label;
  return attempts;
}

StateSince StateOf(const Attempt& attempt, const Connected& connected,
                   std::int64_t now_unix_ns) {
  // Streams are sorted by rank, then age: the last of a rank is its newest.
  bool all_ended = !attempt.streams.empty();
  bool any_stopped = false;
  bool any_connected = false;
  std::int64_t last_end = 0;
  std::int64_t last_seen = 0;  // By our clock, not by the agent's.
  for (std::size_t i = 0; i < attempt.streams.size(); ++i) {
    const StreamEntry& stream = *attempt.streams[i];
    last_seen = std::max(last_seen, stream.last_seen_unix_ns);
    if (connected && connected(stream.id)) any_connected = true;
    const bool newest_of_rank =
        i + 1 == attempt.streams.size() ||
        attempt.streams[i + 1]->hello.rank != stream.hello.rank;
    if (!newest_of_rank) continue;
    if (!stream.end.has_value()) {
      all_ended = false;
      continue;
    }
    any_stopped |= stream.end->reason == EndReason::kStopped;
    last_end = std::max(last_end, stream.end->wall_time_unix_ns);
  }
  if (all_ended) {
    return {any_stopped ? v1::RUN_STATE_STOPPED : v1::RUN_STATE_FINISHED,
            last_end};
  }
  constexpr std::int64_t kLimitNs =
      std::chrono::nanoseconds(kSilentLimit).count();
  if (!any_connected && now_unix_ns - last_seen >= kLimitNs) {
    return {v1::RUN_STATE_LOST, last_seen + kLimitNs};
  }
  return {v1::RUN_STATE_RUNNING, attempt.start_time_unix_ns};
}

std::vector<std::uint32_t> RanksOf(const Attempt& attempt) {
  std::vector<std::uint32_t> ranks;
  for (const StreamEntry* stream : attempt.streams) {
    ranks.push_back(stream->hello.rank);
  }
  return SortedUnique(std::move(ranks));
}

std::vector<std::uint32_t> RanksOf(const std::vector<Attempt>& attempts) {
  std::vector<std::uint32_t> ranks;
  for (const Attempt& attempt : attempts) {
    for (const StreamEntry* stream : attempt.streams) {
      ranks.push_back(stream->hello.rank);
    }
  }
  return SortedUnique(std::move(ranks));
}

Line CanonicalLine(const std::vector<Attempt>& attempts, std::uint32_t rank) {
  Line line;
  line.rank = rank;
  std::int64_t cut = kNever;
  for (auto attempt = attempts.rbegin(); attempt != attempts.rend();
       ++attempt) {
    AppendNewestFirst(*attempt, rank, cut, &line.segments);
    cut = std::min(cut, FirstStepOf(*attempt));
  }
  std::reverse(line.segments.begin(), line.segments.end());
  return line;
}

Line AttemptLine(const Attempt& attempt, std::uint32_t rank) {
  Line line;
  line.rank = rank;
  AppendNewestFirst(attempt, rank, kNever, &line.segments);
  std::reverse(line.segments.begin(), line.segments.end());
  return line;
}

const Segment* FindSegment(const Line& line, StreamId stream,
                           std::uint32_t branch, std::int64_t step) {
  for (auto it = line.segments.rbegin(); it != line.segments.rend(); ++it) {
    if (it->stream->id == stream && it->branch == branch && it->begin <= step &&
        step < it->end) {
      return &*it;
    }
  }
  return nullptr;
}

StepWindow ResolveSteps(const v1::StepRange& range, std::int64_t last_step) {
  const auto resolve = [last_step](std::int64_t step) {
    if (step >= 0) return step;
    return std::max<std::int64_t>(0, last_step + 1 + step);
  };
  StepWindow window;
  if (range.has_begin()) window.begin = resolve(range.begin());
  if (range.has_end()) window.end = resolve(range.end());
  return window;
}

std::uint64_t RowsOf(const Line& line, const StepWindow& window) {
  double rows = 0;
  for (const Segment& segment : line.segments) {
    const Branch& branch = segment.stream->branches[segment.branch];
    const std::int64_t begin = std::max(segment.begin, window.begin);
    const std::int64_t end = std::min(segment.end, window.end);
    if (begin >= end) continue;
    const double all = static_cast<double>(branch.last_step) -
                       static_cast<double>(branch.first_step) + 1;
    rows += static_cast<double>(branch.rows) *
            (static_cast<double>(end) - static_cast<double>(begin)) / all;
  }
  return static_cast<std::uint64_t>(rows);
}

}  // namespace gradtap::server
