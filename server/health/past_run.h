// A stored run seen again as it came about: what the rules say of each row, and
// what its silences say.
//
// Time is that of the steps, as if each had been heard when it was made. Which
// process was connected when is not stored: one that is heard of again, or that
// said its End, was there meanwhile; one that is not has gone with its last
// row, unless it is connected now.
//
// Layer: server/health. This file: std, absl, query; no grpc. One thread at a
// time.

#ifndef GRADTAP_SERVER_HEALTH_PAST_RUN_H_
#define GRADTAP_SERVER_HEALTH_PAST_RUN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "server/health/run_health.h"
#include "server/query/environment.h"
#include "server/store/store.h"

namespace gradtap::server {

class PastRun {
 public:
  // `health` is to have seen nothing; both pointers must outlive this.
  PastRun(std::shared_ptr<const RunEntry> run,
          const QueryEnvironment* environment, RunHealth* health);

  // The next row or gap in the order of ordinals. Errors are those of reading
  // it.
  absl::Status LookAtRow(const StepRow& row);
  void LookAtGap(const GapRow& gap);
  // All of it has been looked at: what has happened since, up to now.
  void Finish();

 private:
  struct Stream {
    const StreamEntry* entry = nullptr;
    // Branch and step of its last row or gap.
    std::pair<std::uint32_t, std::int64_t> last;
    bool more = false;  // There are rows or gaps that have not been seen.
    bool shown = false;
  };

  // No later than now, and no earlier than what has been.
  std::int64_t Clamp(std::int64_t time_unix_ns) const;
  // Lets time pass, as far as nothing comes.
  void PassTo(std::int64_t time_unix_ns);
  std::int64_t NextMoment() const;
  // What an agent said at or before the moment: that it is there, that it ends.
  void ShowSaid();
  void Show(StreamId id);
  void Hear(StreamId id, std::uint32_t branch, std::int64_t last_step);
  void LookAtClock();
  ClockView clock() const;

  const std::shared_ptr<const RunEntry> run_;
  const QueryEnvironment* const environment_;
  RunHealth* const health_;
  const std::int64_t end_unix_ns_;  // Now.

  std::map<StreamId, Stream> streams_;
  // As it stood: of the streams those that are shown, when each was last heard.
  std::shared_ptr<RunEntry> past_;
  std::int64_t now_unix_ns_ = 0;
  std::int64_t begin_unix_ns_ = 0;
  std::int64_t looked_unix_ns_ = 0;  // At the clock.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_PAST_RUN_H_
