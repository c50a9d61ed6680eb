// One stream's records, judged step by step: which rules a captured step
// breaks, and by what. A state machine without time, threads or store.
//
// A rule counts captured steps in a row. What was skipped or lost neither goes
// on with a row nor ends it. Memory: 32 bytes for each parameter that has
// gradients and updates, and the schema's names.
//
// Layer: server/health. This file: std, core, gradtap_proto; no grpc. One
// thread at a time.

#ifndef GRADTAP_SERVER_HEALTH_RANK_HEALTH_H_
#define GRADTAP_SERVER_HEALTH_RANK_HEALTH_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/schema.h"
#include "gradtap/v1/alert.pb.h"
#include "gradtap/v1/health_state.pb.h"
#include "server/health/follow.h"
#include "server/health/health_step.h"
#include "server/health/loss_level.h"
#include "server/health/rules.h"

namespace gradtap::server {

// What one step says of one rule.
struct Verdict {
  bool judged = false;              // It says something.
  std::uint64_t offenders = 0;      // 0: it does not break the rule.
  std::vector<v1::Offender> worst;  // At most kWorst, the worst first.
};
using Verdicts = std::array<Verdict, kRuleNumbers>;

// In which order within a step NaN spreads; kUnspecified: the loss, the first.
int CausalOrder(Role role);

class RankHealth {
 public:
  RankHealth(std::shared_ptr<const Rules> rules, std::uint32_t rank);

  // Before the first step of a schema. What is known of parameters that go on
  // is kept, by name.
  void SetSchema(std::shared_ptr<const Schema> schema);
  std::uint32_t schema_id() const {
    return schema_ == nullptr ? 0 : schema_->schema_id;
  }

  // A captured step, of the schema; or one that carries scalars only.
  void Look(const HealthStep& step, Verdicts* verdicts);
  // Steps that are not there: NONFINITE counts those that the loop skipped.
  void LookAtGap(GapCause cause, std::uint64_t steps, Verdicts* verdicts);

  std::uint32_t rank() const { return rank_; }
  // The newest captured step; -1: none. Its time.
  std::int64_t last_step() const { return last_step_; }
  std::int64_t last_time_unix_ns() const { return last_time_unix_ns_; }
  // Usually between two steps; 0: not known yet.
  double step_seconds() const { return step_seconds_; }

  // What breaks a rule as of the last step, of the parameters' rules; visits
  // each parameter's index in the schema, in order.
  void ForEachBroken(v1::HealthRule rule,
                     const std::function<void(std::size_t)>& visit) const;
  const Schema* schema() const { return schema_.get(); }

  void Save(v1::StreamHealthState* state) const;
  // Of a state that Save() made with this schema set; columns of another size
  // are passed over, as if nothing had been seen.
  void Load(const v1::StreamHealthState& state);

 private:
  // Indexes into the schema, by a role's places.
  using Places = std::vector<std::uint32_t>;

  bool Breaks(v1::HealthRule rule, std::int32_t row) const;
  bool Covers(v1::HealthRule rule, std::uint32_t parameter) const {
    return covered_[rule].empty() || covered_[rule][parameter] != 0;
  }
  const Places& PlacesOf(Role role) const {
    return places_[static_cast<std::size_t>(role)];
  }
  bool HasColumns(const HealthStep& step, Role role) const;
  void PairUpdates(
      const std::array<std::vector<std::int32_t>, kRoleCount>& place_of);
  void FindCovered();
  void LookAtNonfinite(const HealthStep& step, Verdict* verdict);
  void LookAtGradients(const HealthStep& step, Verdicts* verdicts);
  void LookAtStillness(const HealthStep& step, Verdict* verdict);
  void LookAtRatios(const HealthStep& step, Verdict* verdict);
  void LookAtLoss(double loss, Verdicts* verdicts);
  // Of a rule with a row for each place: all that break it.
  void Collect(v1::HealthRule rule, const HealthStep& step, Verdict* verdict);
  // What a place's row says.
  struct Measure {
    double value = 0;
    double limit = 0;
    double badness = 0;  // Orders those of one rule.
  };
  Measure MeasureOf(v1::HealthRule rule, const HealthStep& step,
                    std::size_t place) const;
  const std::vector<std::int32_t>& RowsOf(v1::HealthRule rule) const;
  v1::Offender Named(Role role, std::uint32_t parameter) const;
  void NoteTime(const HealthStep& step);

  const std::shared_ptr<const Rules> rules_;
  const std::uint32_t rank_;
  LevelLimits limits_;
  RatioLimits ratios_;

  std::shared_ptr<const Schema> schema_;
  std::array<Places, kRoleCount> places_;
  // By rule; empty: all parameters.
  std::array<std::vector<std::uint8_t>, kRuleNumbers> covered_;
  // Of each place of updates: its place among weights and gradients, or -1.
  std::vector<std::int32_t> weight_of_, grad_of_;
  bool weights_in_order_ = false;
  std::vector<std::int32_t> checked_;    // Of updates: UPDATE_RATIO judges it.
  std::vector<std::int32_t> trainable_;  // Of updates: requires_grad.

  Levels levels_;
  Stillness still_;
  std::vector<std::int32_t> ratio_rows_;
  LossLevel loss_;
  std::uint64_t skipped_row_ = 0;
  // Non-finite at the last captured step: parameters, each once, rising.
  std::vector<std::uint32_t> nonfinite_;

  std::int64_t last_step_ = -1;
  std::int64_t last_time_unix_ns_ = 0;
  double step_seconds_ = 0;

  // Of the step at hand; kept for their memory.
  std::vector<std::int32_t> counts_;
  std::vector<float> weight_mean_, weight_std_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_RANK_HEALTH_H_
