#include "server/health/alert_book.h"

#include <algorithm>
#include <utility>

#include "server/health/alert_text.h"

namespace gradtap::server {
namespace {

constexpr int kRanksNamed = 16;
constexpr std::uint32_t kMostDoublings = 10;

bool SameThing(const v1::Offender& a, const v1::Offender& b) {
  return a.rank() == b.rank() && a.role() == b.role() &&
         a.parameter() == b.parameter() && a.scalar() == b.scalar();
}

bool BelongsTo(v1::HealthRule rule, std::size_t i) {
  return rule == v1::HEALTH_RULE_UNSPECIFIED ||
         i == static_cast<std::size_t>(rule);
}

}  // namespace

AlertBook::AlertBook(std::shared_ptr<const Rules> rules, std::string run,
                     std::uint64_t* next_id)
    : rules_(std::move(rules)), run_(std::move(run)), next_id_(next_id) {}

void AlertBook::Apply(v1::HealthRule rule, const Moment& at,
                      const Verdict& verdict, std::vector<v1::Alert>* changes) {
  if (!verdict.judged) return;
  if (verdict.offenders > 0) {
    Break(rule, at, verdict, changes);
  } else if (!states_[rule].ranks.empty()) {
    Quieten(rule, at, changes);
  }
}

void AlertBook::Break(v1::HealthRule rule, const Moment& at,
                      const Verdict& verdict, std::vector<v1::Alert>* changes) {
  RuleState& state = states_[rule];
  RankBreak& rank = state.ranks[at.rank];
  rank.quiet = 0;
  rank.offenders = verdict.offenders;
  rank.worst = verdict.worst;
  if (state.muted) return;
  const bool begins = state.alert == nullptr;
  if (begins) {
    state.alert = std::make_unique<v1::Alert>();
    state.peak = 0;
    ++state.episodes;
    state.alert->set_id((*next_id_)++);
    state.alert->set_run(run_);
    state.alert->set_attempt(attempt_);
    state.alert->set_rule(rule);
    state.alert->set_severity(rules_->Severity(rule));
    state.alert->set_active(true);
    state.alert->set_raised_unix_ns(at.now_unix_ns);
    state.alert->set_ended_step(-1);
  }
  if (begins || IsEarlier(state, at, verdict)) SetFirst(at, verdict, &state);
  state.alert->set_last_step(at.step);
  state.alert->set_last_time_unix_ns(at.time_unix_ns);
  Tell(&state, at);
  if (begins) changes->push_back(*state.alert);
}

bool AlertBook::IsEarlier(const RuleState& state, const Moment& at,
                          const Verdict& verdict) {
  if (at.rank == state.alert->rank() || verdict.worst.empty()) return false;
  if (at.step != state.alert->first_step()) {
    return at.step < state.alert->first_step();
  }
  const auto order = [](const v1::Offender& offender) {
    return CausalOrder(static_cast<Role>(static_cast<int>(offender.role())));
  };
  return order(verdict.worst.front()) < order(state.first);
}

void AlertBook::SetFirst(const Moment& at, const Verdict& verdict,
                         RuleState* state) {
  v1::Alert* alert = state->alert.get();
  alert->set_first_step(at.step);
  alert->set_step_before(at.step_before);
  alert->set_first_time_unix_ns(at.time_unix_ns);
  alert->set_rank(at.rank);
  state->first = verdict.worst.empty() ? v1::Offender() : verdict.worst.front();
  state->peak = 0;  // Tell it anew.
}

void AlertBook::Tell(RuleState* state, const Moment& at) {
  v1::Alert* alert = state->alert.get();
  auto* ranks = alert->mutable_ranks();
  const auto place = std::lower_bound(ranks->begin(), ranks->end(), at.rank);
  const bool named = place != ranks->end() && *place == at.rank;
  if (!named && ranks->size() < kRanksNamed) {
    ranks->Add(at.rank);
    std::sort(ranks->begin(), ranks->end());
  }
  alert->set_rank_count(
      std::max({alert->rank_count(), static_cast<std::uint32_t>(ranks->size()),
                static_cast<std::uint32_t>(state->ranks.size())}));
  std::uint64_t offenders = 0;
  for (const auto& [number, rank] : state->ranks) offenders += rank.offenders;
  if (offenders <= state->peak) return;
  state->peak = offenders;
  // Of each rank its worst in turn: those of one rule are comparable only
  // within a rank's step, and the reader wants to see all ranks that have any.
  std::vector<v1::Offender> worst;
  for (std::size_t i = 0; i < kWorst && worst.size() < kWorst; ++i) {
    for (const auto& [number, rank] : state->ranks) {
      if (i < rank.worst.size() && worst.size() < kWorst) {
        worst.push_back(rank.worst[i]);
      }
    }
  }
  for (v1::Offender& offender : worst) {
    offender.set_first_step(at.step);
    for (const v1::Offender& known : alert->worst()) {
      if (SameThing(known, offender)) {
        offender.set_first_step(known.first_step());
      }
    }
  }
  alert->mutable_worst()->Assign(worst.begin(), worst.end());
  alert->set_offenders(offenders);
  alert->set_summary(AlertSummary(*alert, state->first));
  alert->set_link(AlertLink(*alert));
}

void AlertBook::Quieten(v1::HealthRule rule, const Moment& at,
                        std::vector<v1::Alert>* changes) {
  RuleState& state = states_[rule];
  const auto found = state.ranks.find(at.rank);
  if (found == state.ranks.end()) return;
  const std::uint64_t wanted =
      std::uint64_t{rules_->QuietSteps(rule)}
      << std::min(std::max(state.episodes, 1U) - 1, kMostDoublings);
  if (++found->second.quiet < wanted) return;
  state.ranks.erase(found);
  if (!state.ranks.empty()) return;
  state.muted = false;
  if (state.alert == nullptr) return;
  End(&state, v1::ALERT_END_QUIET, at.step, at.now_unix_ns, changes);
}

void AlertBook::End(RuleState* state, v1::AlertEnd why, std::int64_t step,
                    std::int64_t now_unix_ns, std::vector<v1::Alert>* changes) {
  v1::Alert ended = std::move(*state->alert);
  state->alert = nullptr;
  ended.set_active(false);
  ended.set_end(why);
  ended.set_ended_step(step);
  ended.set_ended_unix_ns(now_unix_ns);
  changes->push_back(std::move(ended));
}

void AlertBook::Close(v1::HealthRule rule, v1::AlertEnd why, std::int64_t step,
                      std::int64_t now_unix_ns,
                      std::vector<v1::Alert>* changes) {
  for (std::size_t i = 1; i < states_.size(); ++i) {
    if (!BelongsTo(rule, i)) continue;
    states_[i].ranks.clear();
    states_[i].muted = false;
    if (states_[i].alert != nullptr) {
      End(&states_[i], why, step, now_unix_ns, changes);
    }
  }
}

void AlertBook::Expire(std::int64_t unix_ns, std::int64_t now_unix_ns,
                       std::vector<v1::Alert>* changes) {
  for (RuleState& state : states_) {
    if (state.alert != nullptr && state.alert->raised_unix_ns() < unix_ns) {
      End(&state, v1::ALERT_END_EXPIRED, -1, now_unix_ns, changes);
      state.muted = true;
    }
  }
}

const v1::Alert* AlertBook::active(v1::HealthRule rule) const {
  return states_[rule].alert.get();
}

bool AlertBook::any_active() const {
  return std::any_of(states_.begin(), states_.end(),
                     [](const auto& state) { return state.alert != nullptr; });
}

bool AlertBook::IsQuietening(v1::HealthRule rule) const {
  const auto& ranks = states_[rule].ranks;
  return std::any_of(ranks.begin(), ranks.end(),
                     [](const auto& rank) { return rank.second.quiet > 0; });
}

std::uint64_t AlertBook::DescribeNow(v1::HealthRule rule,
                                     std::vector<v1::Offender>* worst) const {
  std::uint64_t offenders = 0;
  for (const auto& [number, rank] : states_[rule].ranks) {
    if (rank.quiet > 0) continue;
    offenders += rank.offenders;
    for (const v1::Offender& offender : rank.worst) {
      if (worst->size() < kWorst) worst->push_back(offender);
    }
  }
  return offenders;
}

void AlertBook::Save(v1::AttemptHealthState* state) const {
  for (std::size_t i = 1; i < states_.size(); ++i) {
    const RuleState& from = states_[i];
    if (from.episodes == 0) continue;
    v1::RuleAlertState* to = state->add_rules();
    to->set_rule(static_cast<v1::HealthRule>(i));
    if (from.alert != nullptr) *to->mutable_alert() = *from.alert;
    to->set_episodes(from.episodes);
    to->set_peak(from.peak);
    to->set_muted(from.muted);
    *to->mutable_first() = from.first;
    for (const auto& [number, rank] : from.ranks) {
      v1::RankBreakState* broken = to->add_ranks();
      broken->set_rank(number);
      broken->set_quiet(rank.quiet);
      broken->set_offenders(rank.offenders);
      broken->mutable_worst()->Assign(rank.worst.begin(), rank.worst.end());
    }
  }
}

void AlertBook::Load(const v1::AttemptHealthState& state) {
  for (const v1::RuleAlertState& from : state.rules()) {
    const auto i = static_cast<std::size_t>(from.rule());
    if (i == 0 || i >= states_.size()) continue;
    RuleState& to = states_[i];
    to.episodes = std::max(from.episodes(), 1U);
    to.peak = from.peak();
    to.muted = from.muted();
    to.first = from.first();
    if (from.has_alert()) {
      to.alert = std::make_unique<v1::Alert>(from.alert());
    }
    for (const v1::RankBreakState& broken : from.ranks()) {
      RankBreak& rank = to.ranks[broken.rank()];
      rank.quiet = broken.quiet();
      rank.offenders = broken.offenders();
      rank.worst.assign(broken.worst().begin(), broken.worst().end());
    }
  }
}

}  // namespace gradtap::server
