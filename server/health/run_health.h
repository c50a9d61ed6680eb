// One run's rules: its streams judged, its attempts' alerts, and what of both
// is kept. A state machine: rows and gaps go in, in the order of their
// ordinals, and changes of alerts come out. The same rows give the same.
//
// Layer: server/health. This file: std, absl, store, query's lines,
// gradtap_proto; no grpc. One thread at a time; nothing here waits, but for
// schemas that are read.

#ifndef GRADTAP_SERVER_HEALTH_RUN_HEALTH_H_
#define GRADTAP_SERVER_HEALTH_RUN_HEALTH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/alert.pb.h"
#include "gradtap/v1/health_state.pb.h"
#include "server/health/alert_book.h"
#include "server/health/rank_health.h"
#include "server/health/rules.h"
#include "server/query/line.h"
#include "server/store/store.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

using SchemaOf = std::function<absl::StatusOr<std::shared_ptr<const Schema>>(
    StreamId stream, std::uint32_t schema_id)>;

// What goes by the clock.
struct ClockView {
  std::int64_t now_unix_ns = 0;
  // Since when the collector has been listening: before that it heard nothing.
  std::int64_t listening_since_unix_ns = 0;
  Connected connected;
};

class RunHealth {
 public:
  RunHealth(std::shared_ptr<const Rules> rules, std::string run,
            SchemaOf schema_of);

  // As of `entry`: attempts and their numbers.
  void SetEntry(std::shared_ptr<const RunEntry> entry);

  // The next row or gap, of a stream of the entry. An error: it cannot be read,
  // and is passed over.
  absl::Status LookAtRow(const StepRow& row, std::int64_t now_unix_ns);
  void LookAtGap(const GapRow& gap, std::int64_t now_unix_ns);

  // Once all that the entry has is looked at: attempts that are over, silence,
  // alerts that expire.
  void LookAtClock(const ClockView& clock);
  // The first moment after `clock` at which LookAtClock() may say something
  // else, if nothing comes until then. The highest number: none.
  std::int64_t NextClock(const ClockView& clock) const;
  // No more is to be expected of it.
  bool over() const { return over_; }

  // Everything up to here has been looked at. Given, if it is not 0: rows
  // below are never looked at.
  std::uint64_t ordinal() const { return ordinal_; }
  void StartAt(std::uint64_t ordinal) { ordinal_ = ordinal; }

  // What has begun or ended since the last call, in order.
  std::vector<v1::Alert> TakeChanges();
  // Those that are active, as they are now.
  std::vector<v1::Alert> Active() const;

  // All but `behind` and each rule's newest alert.
  void Describe(std::uint32_t max_names, v1::GetHealthResponse* health) const;

  // The same of a state whose run was over when it was saved.
  static void DescribeEnd(const v1::RunHealthState& state,
                          std::uint32_t max_names,
                          v1::GetHealthResponse* health);

  v1::RunHealthState Save() const;
  // kFailedPrecondition: it is of another run of that name.
  absl::Status Load(const v1::RunHealthState& state);

  struct Counts {
    std::uint64_t steps = 0;  // Captured.
    std::uint64_t records = 0;
    std::uint64_t rolled_up_steps = 0;
    std::uint64_t unread_rows = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Stream {
    std::string launch;
    RankHealth health;
    // When it was last known to be connected.
    std::int64_t connected_unix_ns = 0;
  };

  // How long nothing has come from an attempt.
  struct Silence {
    Moment at;  // Its newest step.
    std::int64_t heard_unix_ns = 0;
    std::int64_t limit_ns = 0;  // More than this is too long.
  };

  Stream* FindStream(StreamId id);
  AlertBook* BookOf(const std::string& launch);
  absl::Status Look(const StepRow& row, Stream* stream);
  absl::Status ReadStep(const StepRow& row);  // Into step_.
  void Apply(Stream* stream, std::int64_t step, std::int64_t step_before,
             std::int64_t time_unix_ns, std::int64_t now_unix_ns);
  Silence SilenceIn(const Attempt& attempt, const ClockView& clock) const;
  void LookAtSilence(const Attempt& attempt, const ClockView& clock,
                     AlertBook* book);
  void LookForLostRanks(const Attempt& attempt, const ClockView& clock,
                        AlertBook* book);
  void EndAttempt(const Attempt& attempt, std::int64_t now_unix_ns);
  void DescribeRule(v1::HealthRule rule, std::uint32_t max_names,
                    v1::RuleHealth* health) const;

  const std::shared_ptr<const Rules> rules_;
  const std::string run_;
  const SchemaOf schema_of_;

  std::shared_ptr<const RunEntry> entry_;
  std::vector<Attempt> attempts_;  // Into *entry_.
  std::uint64_t ordinal_ = 0;
  std::uint64_t next_id_ = 1;
  bool over_ = false;
  std::map<StreamId, Stream> streams_;
  std::map<std::string, std::unique_ptr<AlertBook>> books_;  // By launch.
  std::vector<v1::Alert> changes_;
  // As it was when the newest attempt ended.
  std::optional<v1::GetHealthResponse> at_end_;
  Counts counts_;

  // Of the step at hand; kept for their memory.
  StepView view_;
  HealthStep step_;
  Verdicts verdicts_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_RUN_HEALTH_H_
