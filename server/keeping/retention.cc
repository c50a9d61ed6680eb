#include "server/keeping/retention.h"

#include <algorithm>
#include <utility>

#include "server/query/line.h"

namespace gradtap::server {
namespace {

constexpr std::uint64_t kMostReserve = std::uint64_t{2} << 30;

std::int64_t Nanos(std::chrono::nanoseconds duration) {
  return duration.count();
}

bool MayGo(const RunFacts& run) { return run.finished && !run.entry->pinned; }

}  // namespace

std::uint64_t DefaultReserve(std::uint64_t total_bytes) {
  return std::min(total_bytes / 20, kMostReserve);
}

std::uint64_t ReserveToRestore(std::uint64_t reserve_bytes) {
  return reserve_bytes + reserve_bytes / 8;
}

RunFacts FactsOf(
    const std::shared_ptr<const RunEntry>& entry, std::int64_t now_unix_ns,
    std::int64_t hearing_since_unix_ns,
    const std::function<std::optional<std::int64_t>(StreamId)>& live_session) {
  RunFacts facts;
  facts.entry = entry;
  facts.last_seen_unix_ns = entry->created_unix_ns;
  bool live = false;
  for (const StreamEntry& stream : entry->streams) {
    const std::optional<std::int64_t> seen =
        live_session ? live_session(stream.id) : std::nullopt;
    live |= seen.has_value();
    facts.last_seen_unix_ns = std::max(
        {facts.last_seen_unix_ns, stream.last_seen_unix_ns, seen.value_or(0)});
  }
  const std::vector<Attempt> attempts = AttemptsOf(*entry);
  if (live || attempts.empty()) return facts;
  switch (StateOf(attempts.back(), nullptr, now_unix_ns).state) {
    case v1::RUN_STATE_FINISHED:
    case v1::RUN_STATE_STOPPED:
      facts.finished = true;
      break;
    case v1::RUN_STATE_LOST:
      facts.finished = now_unix_ns - std::max(facts.last_seen_unix_ns,
                                              hearing_since_unix_ns) >=
                       Nanos(kLostForGood);
      break;
    default:
      break;
  }
  return facts;
}

std::vector<PlannedRemoval> PlanRemovals(std::vector<RunFacts> runs,
                                         const KeepingLimits& limits,
                                         const DiskSpace& disk,
                                         std::int64_t now_unix_ns) {
  std::stable_sort(runs.begin(), runs.end(),
                   [](const RunFacts& a, const RunFacts& b) {
                     return a.last_seen_unix_ns < b.last_seen_unix_ns;
                   });
  std::uint64_t all_bytes = 0;
  for (const RunFacts& run : runs) all_bytes += run.disk_bytes;
  const std::uint64_t reserve =
      limits.disk_reserve_bytes.value_or(DefaultReserve(disk.total_bytes));
  std::uint64_t to_free = 0;
  if (disk.free_bytes < reserve) {
    to_free = ReserveToRestore(reserve) - disk.free_bytes;
  }

  std::vector<PlannedRemoval> plan;
  std::uint64_t freed = 0;
  const auto go_while = [&](RemovalWhy why, const auto& wanted) {
    std::vector<RunFacts> rest;
    for (RunFacts& run : runs) {
      if (MayGo(run) && wanted(run)) {
        all_bytes -= run.disk_bytes;
        freed += run.disk_bytes;
        plan.push_back({std::move(run), why});
      } else {
        rest.push_back(std::move(run));
      }
    }
    runs = std::move(rest);
  };
  go_while(RemovalWhy::kAge, [&](const RunFacts& run) {
    return limits.keep_for.count() > 0 &&
           now_unix_ns - run.last_seen_unix_ns > Nanos(limits.keep_for);
  });
  go_while(RemovalWhy::kSize, [&](const RunFacts&) {
    return limits.keep_bytes > 0 && all_bytes > limits.keep_bytes;
  });
  go_while(RemovalWhy::kReserve,
           [&](const RunFacts&) { return freed < to_free; });
  return plan;
}

}  // namespace gradtap::server
