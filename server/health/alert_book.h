// The alerts of one attempt: when each begins, what it tells, when it ends.
//
//   none   --a verdict with offenders------------------> active
//   active --each rank that broke it has been quiet----> none   (QUIET)
//   active --Close()-----------------------------------> none
//   active --Expire()----------------------------------> none, once it is quiet
//
// A rule that flaps is quiet only after twice as many steps each time, up to a
// thousand times as many: so that a long run has few alerts of it.
//
// Layer: server/health. This file: std, gradtap_proto; no grpc. One thread at a
// time.

#ifndef GRADTAP_SERVER_HEALTH_ALERT_BOOK_H_
#define GRADTAP_SERVER_HEALTH_ALERT_BOOK_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gradtap/v1/alert.pb.h"
#include "gradtap/v1/health_state.pb.h"
#include "server/health/rank_health.h"
#include "server/health/rules.h"

namespace gradtap::server {

// Where and when a verdict was given.
struct Moment {
  std::uint32_t rank = 0;
  std::int64_t step = -1;
  std::int64_t step_before = -1;  // The captured one before; -1: none.
  std::int64_t time_unix_ns = 0;  // Of the step.
  std::int64_t now_unix_ns = 0;   // The collector's.
};

class AlertBook {
 public:
  // `*next_id` numbers the alerts of the run, and outlives the book.
  AlertBook(std::shared_ptr<const Rules> rules, std::string run,
            std::uint64_t* next_id);

  // The number that the attempt goes by now.
  void set_attempt(std::uint32_t attempt) { attempt_ = attempt; }

  // One rank's verdict. What has begun or ended is appended to `*changes`.
  void Apply(v1::HealthRule rule, const Moment& at, const Verdict& verdict,
             std::vector<v1::Alert>* changes);
  // Ends what is active. Of `rule` alone, unless that is UNSPECIFIED.
  void Close(v1::HealthRule rule, v1::AlertEnd why, std::int64_t step,
             std::int64_t now_unix_ns, std::vector<v1::Alert>* changes);
  // Ends those that were raised before `unix_ns`.
  void Expire(std::int64_t unix_ns, std::int64_t now_unix_ns,
              std::vector<v1::Alert>* changes);

  // Null: the rule has no active alert.
  const v1::Alert* active(v1::HealthRule rule) const;
  bool any_active() const;
  // Some rank has broken the rule and does not any more, but has not been quiet
  // for long enough.
  bool IsQuietening(v1::HealthRule rule) const;
  // Who breaks the rule now: how many, over all ranks whose last step does, and
  // at most kWorst of them.
  std::uint64_t DescribeNow(v1::HealthRule rule,
                            std::vector<v1::Offender>* worst) const;

  void Save(v1::AttemptHealthState* state) const;
  void Load(const v1::AttemptHealthState& state);

 private:
  // How a rank has broken a rule: in this alert, last.
  struct RankBreak {
    std::uint32_t quiet = 0;  // Judged steps since.
    std::uint64_t offenders = 0;
    std::vector<v1::Offender> worst;
  };
  struct RuleState {
    std::unique_ptr<v1::Alert> alert;          // Null: none is active.
    std::map<std::uint32_t, RankBreak> ranks;  // That are not quiet.
    std::uint32_t episodes = 0;
    std::uint64_t peak = 0;  // Offenders at its worst.
    v1::Offender first;      // That broke it, of its first step.
    bool muted = false;      // Expired: nothing new until it has been quiet.
  };

  void Break(v1::HealthRule rule, const Moment& at, const Verdict& verdict,
             std::vector<v1::Alert>* changes);
  void Quieten(v1::HealthRule rule, const Moment& at,
               std::vector<v1::Alert>* changes);
  // Whether this is nearer to where it began: what ranks store of one step
  // comes in any order.
  static bool IsEarlier(const RuleState& state, const Moment& at,
                        const Verdict& verdict);
  static void SetFirst(const Moment& at, const Verdict& verdict,
                       RuleState* state);
  void Tell(RuleState* state, const Moment& at);
  void End(RuleState* state, v1::AlertEnd why, std::int64_t step,
           std::int64_t now_unix_ns, std::vector<v1::Alert>* changes);

  const std::shared_ptr<const Rules> rules_;
  const std::string run_;
  std::uint64_t* const next_id_;
  std::uint32_t attempt_ = 0;
  std::array<RuleState, kRuleNumbers> states_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_ALERT_BOOK_H_
