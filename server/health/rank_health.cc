#include "server/health/rank_health.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace gradtap::server {
namespace {

// The share by which a step moves what is usual between two.
constexpr double kTimeRate = 0.05;

// The state of places that go on; `from` says where each stood, -1: nowhere.
template <typename T>
void Carry(const std::vector<std::int64_t>& from, T fresh,
           std::vector<T>* column) {
  std::vector<T> next(from.size(), fresh);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto old = static_cast<std::size_t>(from[i]);
    if (from[i] >= 0 && old < column->size()) next[i] = (*column)[old];
  }
  *column = std::move(next);
}

template <typename T, typename Repeated>
void SaveColumn(const std::vector<T>& column, Repeated* to) {
  to->Assign(column.begin(), column.end());
}

// False, and nothing done, if it is of another size.
template <typename T, typename Repeated>
bool LoadColumn(const Repeated& from, std::vector<T>* column) {
  if (static_cast<std::size_t>(from.size()) != column->size()) return false;
  column->assign(from.begin(), from.end());
  return true;
}

}  // namespace

RankHealth::RankHealth(std::shared_ptr<const Rules> rules, std::uint32_t rank)
    : rules_(std::move(rules)), rank_(rank) {
  const v1::RulesFile& file = rules_->file();
  limits_.rate = static_cast<float>(file.level_rate());
  limits_.warm_up = static_cast<float>(file.warm_up_steps());
  limits_.high_log2 = static_cast<float>(std::log2(file.exploding().factor()));
  limits_.high_spreads = static_cast<float>(file.exploding().spreads());
  limits_.low_log2 = static_cast<float>(std::log2(file.vanishing().factor()));
  limits_.low_spreads = static_cast<float>(file.vanishing().spreads());
  const v1::UpdateRatioRule& ratio = file.update_ratio();
  ratios_ = {ratio.min() * ratio.min(), ratio.max() * ratio.max()};
}

void RankHealth::SetSchema(std::shared_ptr<const Schema> schema) {
  const std::array<Places, kRoleCount> before = std::move(places_);
  const std::shared_ptr<const Schema> old = std::exchange(schema_, schema);
  const std::vector<Parameter>& parameters = schema_->parameters;
  std::array<std::vector<std::int32_t>, kRoleCount> place_of;
  for (auto& places : place_of) places.assign(parameters.size(), -1);
  places_ = {};
  for (std::uint32_t p = 0; p < parameters.size(); ++p) {
    for (const Role role : parameters[p].roles) {
      const auto r = static_cast<std::size_t>(role);
      place_of[r][p] = static_cast<std::int32_t>(places_[r].size());
      places_[r].push_back(p);
    }
  }
  const auto moved_from = [&](Role role) {
    const Places& was = before[static_cast<std::size_t>(role)];
    std::unordered_map<std::string_view, std::int64_t> known;
    for (std::size_t i = 0; i < was.size(); ++i) {
      known.emplace(old->parameters[was[i]].name, i);
    }
    std::vector<std::int64_t> from;
    for (const std::uint32_t p : PlacesOf(role)) {
      const auto found = known.find(parameters[p].name);
      from.push_back(found == known.end() ? -1 : found->second);
    }
    return from;
  };
  const std::vector<std::int64_t> grads = moved_from(Role::kGrad);
  Carry(grads, 0.0F, &levels_.level);
  Carry(grads, 1.0F, &levels_.spread);
  Carry(grads, 0.0F, &levels_.seen);
  Carry(grads, 0, &levels_.row);
  const std::vector<std::int64_t> updates = moved_from(Role::kUpdate);
  Carry(updates, 0, &still_.row);
  Carry(updates, 0, &still_.moved);
  Carry(updates, 0, &ratio_rows_);
  PairUpdates(place_of);
  FindCovered();
  nonfinite_.clear();
}

void RankHealth::PairUpdates(
    const std::array<std::vector<std::int32_t>, kRoleCount>& place_of) {
  const std::size_t least = rules_->file().update_ratio().min_dimensions();
  weight_of_.clear();
  grad_of_.clear();
  checked_.clear();
  trainable_.clear();
  weights_in_order_ = true;
  for (const std::uint32_t p : PlacesOf(Role::kUpdate)) {
    const Parameter& parameter = schema_->parameters[p];
    const std::int32_t weight = place_of[static_cast<int>(Role::kWeight)][p];
    weights_in_order_ &= weight == static_cast<std::int32_t>(weight_of_.size());
    weight_of_.push_back(weight);
    grad_of_.push_back(place_of[static_cast<int>(Role::kGrad)][p]);
    checked_.push_back(weight >= 0 && parameter.shape.size() >= least ? 1 : 0);
    trainable_.push_back(parameter.requires_grad ? 1 : 0);
  }
}

void RankHealth::FindCovered() {
  for (int r = 1; r < static_cast<int>(kRuleNumbers); ++r) {
    const auto rule = static_cast<v1::HealthRule>(r);
    covered_[r].clear();
    bool all = true;
    for (const Parameter& parameter : schema_->parameters) {
      covered_[r].push_back(rules_->Covers(rule, parameter.name) ? 1 : 0);
      all &= covered_[r].back() != 0;
    }
    if (all) covered_[r].clear();
  }
}

void RankHealth::Look(const HealthStep& step, Verdicts* verdicts) {
  if (step.skipped == GapCause::kLoop ||
      step.skipped == GapCause::kOptimizerThrew) {
    // Whatever its loss was: the step did not happen.
    return LookAtGap(step.skipped, 1, verdicts);
  }
  for (Verdict& verdict : *verdicts) verdict = Verdict();
  skipped_row_ = 0;
  if (step.captured && schema_ != nullptr) {
    LookAtNonfinite(step, &(*verdicts)[v1::HEALTH_RULE_NONFINITE]);
    LookAtGradients(step, verdicts);
    LookAtStillness(step, &(*verdicts)[v1::HEALTH_RULE_DEAD]);
    LookAtRatios(step, &(*verdicts)[v1::HEALTH_RULE_UPDATE_RATIO]);
    NoteTime(step);
  }
  if (step.loss.has_value()) LookAtLoss(*step.loss, verdicts);
  for (int r = 1; r < static_cast<int>(kRuleNumbers); ++r) {
    if (!rules_->Enabled(static_cast<v1::HealthRule>(r))) {
      (*verdicts)[r] = Verdict();
    }
  }
}

void RankHealth::LookAtGap(GapCause cause, std::uint64_t steps,
                           Verdicts* verdicts) {
  for (Verdict& verdict : *verdicts) verdict = Verdict();
  if (cause != GapCause::kLoop) return;
  const std::uint32_t most = rules_->file().nonfinite().skipped_steps();
  skipped_row_ += steps;
  if (most == 0 || skipped_row_ < most ||
      !rules_->Enabled(v1::HEALTH_RULE_NONFINITE)) {
    return;
  }
  v1::Offender offender;
  offender.set_rank(rank_);
  offender.set_value(static_cast<double>(skipped_row_));
  offender.set_limit(most);
  Verdict& verdict = (*verdicts)[v1::HEALTH_RULE_NONFINITE];
  verdict.judged = true;
  verdict.offenders = 1;
  verdict.worst.push_back(std::move(offender));
}

bool RankHealth::HasColumns(const HealthStep& step, Role role) const {
  const HealthColumns& columns = step.of(role);
  return columns.present && columns.places == PlacesOf(role).size();
}

void RankHealth::LookAtGradients(const HealthStep& step, Verdicts* verdicts) {
  if (!HasColumns(step, Role::kGrad)) return;
  const HealthColumns& grads = step.of(Role::kGrad);
  const RowEnds ends =
      FollowLevels(limits_, grads.mean.data(), grads.std.data(), &levels_);
  for (const auto rule :
       {v1::HEALTH_RULE_EXPLODING, v1::HEALTH_RULE_VANISHING}) {
    Verdict& verdict = (*verdicts)[rule];
    verdict.judged = true;
    if (Breaks(rule, ends.highest) || Breaks(rule, ends.lowest)) {
      Collect(rule, step, &verdict);
    }
  }
}

void RankHealth::LookAtStillness(const HealthStep& step, Verdict* verdict) {
  if (!HasColumns(step, Role::kUpdate)) return;
  const HealthColumns& updates = step.of(Role::kUpdate);
  const HealthColumns& grads = step.of(Role::kGrad);
  const std::int32_t* counts = trainable_.data();
  if (HasColumns(step, Role::kGrad) && !grads.absent.empty()) {
    counts_.assign(trainable_.begin(), trainable_.end());
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const std::int32_t grad = grad_of_[i];
      if (grad >= 0 && grads.absent[grad] != 0) counts_[i] = 0;
    }
    counts = counts_.data();
  }
  const std::int32_t highest =
      FollowStillness(updates.mean.data(), updates.std.data(), counts, &still_);
  verdict->judged = true;
  if (Breaks(v1::HEALTH_RULE_DEAD, highest)) {
    Collect(v1::HEALTH_RULE_DEAD, step, verdict);
  }
}

void RankHealth::LookAtRatios(const HealthStep& step, Verdict* verdict) {
  if (!HasColumns(step, Role::kUpdate) || !HasColumns(step, Role::kWeight)) {
    return;
  }
  const HealthColumns& updates = step.of(Role::kUpdate);
  const HealthColumns& weights = step.of(Role::kWeight);
  const float* mean = weights.mean.data();
  const float* std = weights.std.data();
  if (!weights_in_order_) {
    weight_mean_.resize(weight_of_.size());
    weight_std_.resize(weight_of_.size());
    for (std::size_t i = 0; i < weight_of_.size(); ++i) {
      const std::int32_t place = weight_of_[i];
      weight_mean_[i] = place < 0 ? 0 : weights.mean[place];
      weight_std_[i] = place < 0 ? 0 : weights.std[place];
    }
    mean = weight_mean_.data();
    std = weight_std_.data();
  }
  const RowEnds ends =
      FollowRatios(ratios_, updates.mean.data(), updates.std.data(), mean, std,
                   checked_.data(), &ratio_rows_);
  verdict->judged = true;
  if (Breaks(v1::HEALTH_RULE_UPDATE_RATIO, ends.highest) ||
      Breaks(v1::HEALTH_RULE_UPDATE_RATIO, ends.lowest)) {
    Collect(v1::HEALTH_RULE_UPDATE_RATIO, step, verdict);
  }
}

void RankHealth::LookAtLoss(double loss, Verdicts* verdicts) {
  v1::Offender offender;
  offender.set_scalar(rules_->file().loss_spike().scalar());
  offender.set_rank(rank_);
  offender.set_value(loss);
  if (!std::isfinite(loss)) {
    Verdict& verdict = (*verdicts)[v1::HEALTH_RULE_NONFINITE];
    offender.set_limit(std::numeric_limits<double>::quiet_NaN());
    verdict.judged = true;
    ++verdict.offenders;
    verdict.worst.insert(verdict.worst.begin(), std::move(offender));
    if (verdict.worst.size() > kWorst) verdict.worst.pop_back();
    return;
  }
  Verdict& verdict = (*verdicts)[v1::HEALTH_RULE_LOSS_SPIKE];
  verdict.judged = true;
  if (!loss_.Look(rules_->file(), loss)) return;
  offender.set_limit(loss_.limit());
  verdict.offenders = 1;
  verdict.worst.push_back(std::move(offender));
}

void RankHealth::NoteTime(const HealthStep& step) {
  if (last_time_unix_ns_ > 0 && step.step > last_step_) {
    const double seconds =
        static_cast<double>(step.time_unix_ns - last_time_unix_ns_) * 1e-9;
    if (step_seconds_ == 0) {
      step_seconds_ = std::max(seconds, 0.0);
    } else {
      // One pause must not make the next one usual.
      const double most = 4 * step_seconds_ + 1e-3;
      step_seconds_ +=
          kTimeRate * (std::clamp(seconds, 0.0, most) - step_seconds_);
    }
  }
  last_step_ = step.step;
  last_time_unix_ns_ = step.time_unix_ns;
}

void RankHealth::Save(v1::StreamHealthState* state) const {
  state->set_schema_id(schema_id());
  state->set_last_step(last_step_);
  state->set_last_time_unix_ns(last_time_unix_ns_);
  state->set_step_seconds(step_seconds_);
  SaveColumn(levels_.level, state->mutable_level());
  SaveColumn(levels_.spread, state->mutable_spread());
  SaveColumn(levels_.seen, state->mutable_seen());
  SaveColumn(levels_.row, state->mutable_level_row());
  SaveColumn(still_.row, state->mutable_still_row());
  SaveColumn(still_.moved, state->mutable_moved());
  SaveColumn(ratio_rows_, state->mutable_ratio_row());
  loss_.Save(state);
  state->set_skipped_row(skipped_row_);
  SaveColumn(nonfinite_, state->mutable_nonfinite());
}

void RankHealth::Load(const v1::StreamHealthState& state) {
  last_step_ = state.last_step();
  last_time_unix_ns_ = state.last_time_unix_ns();
  step_seconds_ = state.step_seconds();
  loss_.Load(state);
  skipped_row_ = state.skipped_row();
  Levels levels = levels_;
  if (LoadColumn(state.level(), &levels.level) &&
      LoadColumn(state.spread(), &levels.spread) &&
      LoadColumn(state.seen(), &levels.seen) &&
      LoadColumn(state.level_row(), &levels.row)) {
    levels_ = std::move(levels);
  }
  Stillness still = still_;
  if (LoadColumn(state.still_row(), &still.row) &&
      LoadColumn(state.moved(), &still.moved)) {
    still_ = std::move(still);
  }
  LoadColumn(state.ratio_row(), &ratio_rows_);
  nonfinite_.clear();
  for (const std::uint32_t parameter : state.nonfinite()) {
    if (schema_ != nullptr && parameter < schema_->parameters.size()) {
      nonfinite_.push_back(parameter);
    }
  }
}

}  // namespace gradtap::server
