// Keeps the collector within its limits: looks now and then, removes what has
// to go, and stops ingest only when nothing else is left.
//
// Layer: server/keeping. This file: std, absl, store, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_KEEPING_KEEPER_H_
#define GRADTAP_SERVER_KEEPING_KEEPER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "gradtap/v1/keeping.pb.h"
#include "server/keeping/disk_growth.h"
#include "server/keeping/retention.h"
#include "server/store/store.h"

namespace gradtap::server {

// What the keeper sees and says. Callbacks: [Threading] that of Look(), `disk`
// also that of Describe(). [Exceptions] must not throw.
struct KeeperSurroundings {
  Store* store = nullptr;
  const Clock* clock = nullptr;
  // Of the disk that the data folder is on.
  std::function<absl::StatusOr<DiskSpace>()> disk;
  // When the live session of a stream last said anything; empty without one.
  std::function<std::optional<std::int64_t>(StreamId)> live_session;
  // One line for whoever operates the collector.
  std::function<void(const std::string& line)> say;
};

// Space of the disk that `path` is on.
absl::StatusOr<DiskSpace> DiskSpaceAt(const std::string& path);

class Keeper {
 public:
  // How often Look() is meant to be called, and how often it looks at ages and
  // sizes while the reserve is not touched.
  static constexpr std::chrono::seconds kBetweenLooks{5};
  static constexpr std::chrono::seconds kBetweenFullLooks{60};

  // Reads from the store what was removed before it was started anew.
  Keeper(KeeperSurroundings surroundings, const KeepingLimits& limits);

  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Does what is due; may take as long as deleting takes. One thread at a time.
  void Look() ABSL_LOCKS_EXCLUDED(mu_);

  // Look() returns after the run or piece that it has in hand, and does nothing
  // from then on. Any thread; does not wait for it.
  void Stop() { stopping_ = true; }

  // Any thread; never waits for Look().
  void Describe(v1::KeepingStatus* status) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Time = std::chrono::steady_clock::time_point;

  std::uint64_t ReserveOf(const DiskSpace& disk) const;
  // The wall clock, but not ahead of where it was at the start plus the time
  // since: a clock that jumps must not make everything old.
  std::int64_t NowUnixNanos() const;
  std::vector<RunFacts> GatherFacts(std::int64_t now,
                                    std::int64_t hearing_since)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The two return about how many bytes were freed.
  std::uint64_t RemoveRuns(std::vector<RunFacts> runs, const DiskSpace& disk,
                           std::int64_t now) ABSL_LOCKS_EXCLUDED(mu_);
  std::uint64_t ShrinkRuns(std::uint64_t wanted_bytes, const DiskSpace& disk)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Stops ingest or lets it go on.
  void Decide(const DiskSpace& disk, bool more_to_remove)
      ABSL_LOCKS_EXCLUDED(mu_);
  std::string WhyText(RemovalWhy why, const RunFacts& run,
                      const DiskSpace& disk, std::int64_t now) const;
  void Note(v1::Removal removal) ABSL_LOCKS_EXCLUDED(mu_);
  // Says it unless it was the last thing said of its kind.
  void SayOnce(const std::string& line);

  const KeeperSurroundings around_;
  const KeepingLimits limits_;
  const std::int64_t start_unix_ns_;
  const Time start_;

  std::atomic<bool> stopping_{false};

  // Look()'s own.
  std::optional<Time> full_look_;
  std::int64_t hearing_since_;  // From when on nobody has been refused.
  DiskGrowth growth_;
  std::string said_;

  mutable Mutex mu_;
  v1::KeepingStatus status_ ABSL_GUARDED_BY(mu_);          // But its removals.
  std::deque<v1::Removal> removals_ ABSL_GUARDED_BY(mu_);  // The newest first.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_KEEPING_KEEPER_H_
