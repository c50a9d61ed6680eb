// Which runs go, and why: decisions about facts, without a store or a clock.
//
// Layer: server/keeping. Pure functions.

#ifndef GRADTAP_SERVER_KEEPING_RETENTION_H_
#define GRADTAP_SERVER_KEEPING_RETENTION_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "server/store/store.h"

namespace gradtap::server {

struct KeepingLimits {
  // Finished runs go this long after they were last seen. 0: never.
  std::chrono::nanoseconds keep_for{0};
  // While all runs take more, the oldest finished ones go. 0: no limit.
  std::uint64_t keep_bytes = 0;
  // Free bytes of the disk below which runs, then values, then ingest have to
  // yield. Not set: DefaultReserve(). 0: none.
  std::optional<std::uint64_t> disk_reserve_bytes;
};

struct DiskSpace {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // For us.
};

// The smaller of a twentieth of the disk and 2 GiB: what it takes to delete and
// to compact.
std::uint64_t DefaultReserve(std::uint64_t total_bytes);

// What is to be free again once the reserve was touched: an eighth more, so
// that it is not touched at once.
std::uint64_t ReserveToRestore(std::uint64_t reserve_bytes);

// A run that has been silent without an End may still come back, with what its
// agent has spooled: it has finished after a day of which nothing was missed.
inline constexpr std::chrono::hours kLostForGood{24};

struct RunFacts {
  std::shared_ptr<const RunEntry> entry;
  bool finished = false;  // Nobody is to add to it.
  std::int64_t last_seen_unix_ns = 0;
  std::uint64_t disk_bytes = 0;
};

// `hearing_since`: from when on agents could have been heard. `live_session`:
// when the live session of a stream last said anything, empty without one.
RunFacts FactsOf(
    const std::shared_ptr<const RunEntry>& entry, std::int64_t now_unix_ns,
    std::int64_t hearing_since_unix_ns,
    const std::function<std::optional<std::int64_t>(StreamId)>& live_session);

enum class RemovalWhy { kAge, kSize, kReserve };

struct PlannedRemoval {
  RunFacts run;
  RemovalWhy why = RemovalWhy::kAge;
};

// What has to go, the oldest first. Pinned runs and those that have not
// finished never do, though their bytes count. What is planned is counted as
// gone for the rules behind it: age, size, reserve.
std::vector<PlannedRemoval> PlanRemovals(std::vector<RunFacts> runs,
                                         const KeepingLimits& limits,
                                         const DiskSpace& disk,
                                         std::int64_t now_unix_ns);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_KEEPING_RETENTION_H_
