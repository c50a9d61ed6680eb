#include "server/health/run_health.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

// Names that are kept of a run that is over.
constexpr std::uint32_t kNamesAtEnd = 1000;
// A run that has been lost for longer is over: a day.
constexpr std::int64_t kForgottenNs = 86'400'000'000'000;

std::int64_t Nanos(double seconds) {
  return static_cast<std::int64_t>(std::min(seconds, 1e9) * 1e9);
}

Verdict SilenceOf(std::uint32_t rank, std::int64_t silent_ns,
                  std::int64_t limit_ns) {
  Verdict verdict;
  verdict.judged = true;
  if (silent_ns <= limit_ns) return verdict;
  v1::Offender offender;
  offender.set_rank(rank);
  offender.set_value(static_cast<double>(silent_ns / 1'000'000) * 1e-3);
  offender.set_limit(static_cast<double>(limit_ns) * 1e-9);
  verdict.offenders = 1;
  verdict.worst.push_back(std::move(offender));
  return verdict;
}

// Lost for so long that nobody waits for it.
bool IsForgotten(const StateSince& state, const ClockView& clock) {
  return state.state == v1::RUN_STATE_LOST &&
         clock.now_unix_ns - state.since_unix_ns > kForgottenNs;
}

void CutNames(const v1::GetHealthResponse& whole, std::uint32_t max_names,
              v1::GetHealthResponse* health) {
  *health = whole;
  for (v1::RuleHealth& rule : *health->mutable_rules()) {
    const int most = static_cast<int>(std::min<std::uint32_t>(
        max_names, static_cast<std::uint32_t>(rule.names_size())));
    rule.mutable_names()->DeleteSubrange(most, rule.names_size() - most);
  }
}

bool IsOver(v1::RunState state) {
  return state == v1::RUN_STATE_FINISHED || state == v1::RUN_STATE_STOPPED;
}

}  // namespace

RunHealth::RunHealth(std::shared_ptr<const Rules> rules, std::string run,
                     SchemaOf schema_of)
    : rules_(std::move(rules)),
      run_(std::move(run)),
      schema_of_(std::move(schema_of)) {}

void RunHealth::SetEntry(std::shared_ptr<const RunEntry> entry) {
  entry_ = std::move(entry);
  attempts_ = AttemptsOf(*entry_);
  for (const Attempt& attempt : attempts_) {
    const auto book = books_.find(attempt.launch);
    if (book != books_.end()) book->second->set_attempt(attempt.label);
  }
}

AlertBook* RunHealth::BookOf(const std::string& launch) {
  std::unique_ptr<AlertBook>& book = books_[launch];
  if (book == nullptr) {
    book = std::make_unique<AlertBook>(rules_, run_, &next_id_);
    for (const Attempt& attempt : attempts_) {
      if (attempt.launch == launch) book->set_attempt(attempt.label);
    }
  }
  return book.get();
}

RunHealth::Stream* RunHealth::FindStream(StreamId id) {
  const auto known = streams_.find(id);
  if (known != streams_.end()) return &known->second;
  for (const StreamEntry& stream : entry_->streams) {
    if (stream.id != id) continue;
    Stream made{stream.hello.launch, RankHealth(rules_, stream.hello.rank)};
    return &streams_.emplace(id, std::move(made)).first->second;
  }
  return nullptr;
}

absl::Status RunHealth::LookAtRow(const StepRow& row,
                                  std::int64_t now_unix_ns) {
  ordinal_ = row.ordinal;
  over_ = false;
  at_end_.reset();
  Stream* stream = FindStream(row.stream);
  if (stream == nullptr) return absl::OkStatus();
  const std::int64_t before = stream->health.last_step();
  const absl::Status status = Look(row, stream);
  if (!status.ok()) {
    ++counts_.unread_rows;
    return status;
  }
  Apply(stream, step_.step, before < step_.step ? before : -1,
        step_.time_unix_ns, now_unix_ns);
  return absl::OkStatus();
}

absl::Status RunHealth::Look(const StepRow& row, Stream* stream) {
  if (absl::Status s = ReadStep(row); !s.ok()) return s;
  if (step_.captured && stream->health.schema_id() != step_.schema_id) {
    auto schema = schema_of_(row.stream, step_.schema_id);
    if (!schema.ok()) return schema.status();
    stream->health.SetSchema(*std::move(schema));
  }
  if (step_.captured) {
    ++counts_.steps;
    for (const HealthColumns& columns : step_.roles) {
      counts_.records += columns.places;
    }
  } else if (step_.skipped == GapCause::kRolledUp) {
    ++counts_.rolled_up_steps;
  }
  stream->health.Look(step_, &verdicts_);
  return absl::OkStatus();
}

absl::Status RunHealth::ReadStep(const StepRow& row) {
  const std::string& loss = rules_->file().loss_spike().scalar();
  if (row.window == nullptr) {
    absl::Status status = view_.Reparse(row.body);
    if (status.ok()) ReadHealthStep(view_, loss, &step_);
    return status;
  }
  const auto stored = OpenStep(row);
  return stored.ok() ? ReadHealthStep(**stored, loss, &step_) : stored.status();
}

void RunHealth::LookAtGap(const GapRow& gap, std::int64_t now_unix_ns) {
  ordinal_ = gap.ordinal;
  over_ = false;
  at_end_.reset();
  Stream* stream = FindStream(gap.stream);
  if (stream == nullptr) return;
  const std::int64_t before = stream->health.last_step();
  stream->health.LookAtGap(gap.gap.cause, gap.gap.steps, &verdicts_);
  Apply(stream, gap.gap.last_step, before, stream->health.last_time_unix_ns(),
        now_unix_ns);
}

void RunHealth::Apply(Stream* stream, std::int64_t step,
                      std::int64_t step_before, std::int64_t time_unix_ns,
                      std::int64_t now_unix_ns) {
  const Moment at = {stream->health.rank(), step, step_before, time_unix_ns,
                     now_unix_ns};
  AlertBook* book = nullptr;
  for (std::size_t r = 1; r < kRuleNumbers; ++r) {
    if (!verdicts_[r].judged) continue;
    if (book == nullptr) book = BookOf(stream->launch);
    book->Apply(static_cast<v1::HealthRule>(r), at, verdicts_[r], &changes_);
  }
}

void RunHealth::LookAtClock(const ClockView& clock) {
  if (attempts_.empty()) return;
  for (const Attempt& attempt : attempts_) {
    const bool newest = &attempt == &attempts_.back();
    const StateSince state =
        StateOf(attempt, clock.connected, clock.now_unix_ns);
    const bool over =
        !newest || IsOver(state.state) || IsForgotten(state, clock);
    if (over) EndAttempt(attempt, clock.now_unix_ns);
    if (newest) over_ = over;
    if (over) continue;
    const auto grace = std::chrono::nanoseconds(kSilentLimit).count();
    if (clock.now_unix_ns - clock.listening_since_unix_ns < grace) continue;
    AlertBook* book = BookOf(attempt.launch);
    if (rules_->Enabled(v1::HEALTH_RULE_STALLED)) {
      LookAtSilence(attempt, clock, book);
    }
    if (rules_->Enabled(v1::HEALTH_RULE_LOST_RANK)) {
      LookForLostRanks(attempt, clock, book);
    }
  }
  const double hours = rules_->file().expire_hours();
  if (hours == 0) return;
  const std::int64_t oldest = clock.now_unix_ns - Nanos(hours * 3600);
  for (auto& [launch, book] : books_) {
    book->Expire(oldest, clock.now_unix_ns, &changes_);
  }
}

RunHealth::Silence RunHealth::SilenceIn(const Attempt& attempt,
                                        const ClockView& clock) const {
  Silence silence;
  silence.heard_unix_ns = clock.listening_since_unix_ns;
  double step_seconds = 0;
  Moment& at = silence.at;
  for (const StreamEntry* stream : attempt.streams) {
    silence.heard_unix_ns =
        std::max(silence.heard_unix_ns, stream->last_seen_unix_ns);
    const auto known = streams_.find(stream->id);
    if (known == streams_.end()) continue;
    const RankHealth& health = known->second.health;
    step_seconds = std::max(step_seconds, health.step_seconds());
    if (health.last_step() > at.step) {
      at.step = health.last_step();
      at.time_unix_ns = health.last_time_unix_ns();
    }
  }
  at.rank = attempt.streams.front()->hello.rank;
  at.step_before = at.step;
  at.now_unix_ns = clock.now_unix_ns;
  const v1::StalledRule& rule = rules_->file().stalled();
  silence.limit_ns =
      Nanos(std::max(rule.seconds(), rule.step_times() * step_seconds));
  return silence;
}

void RunHealth::LookAtSilence(const Attempt& attempt, const ClockView& clock,
                              AlertBook* book) {
  Silence silence = SilenceIn(attempt, clock);
  Moment& at = silence.at;
  // It stays that rank's, though one before it may have turned up.
  const v1::Alert* alert = book->active(v1::HEALTH_RULE_STALLED);
  if (alert != nullptr) at.rank = alert->rank();
  const StateSince state = StateOf(attempt, clock.connected, clock.now_unix_ns);
  // Of a model that is still being set up there is no step, of a run that is
  // lost there will be none.
  const bool counts = state.state == v1::RUN_STATE_RUNNING && at.step >= 0;
  const std::int64_t silent_ns =
      counts ? clock.now_unix_ns - silence.heard_unix_ns : 0;
  book->Apply(v1::HEALTH_RULE_STALLED, at,
              SilenceOf(at.rank, silent_ns, silence.limit_ns), &changes_);
}

void RunHealth::LookForLostRanks(const Attempt& attempt, const ClockView& clock,
                                 AlertBook* book) {
  const std::int64_t limit = Nanos(rules_->file().lost_rank().seconds());
  for (std::size_t i = 0; i < attempt.streams.size(); ++i) {
    const StreamEntry& stream = *attempt.streams[i];
    const std::uint32_t rank = stream.hello.rank;
    const bool newest = i + 1 == attempt.streams.size() ||
                        attempt.streams[i + 1]->hello.rank != rank;
    Stream* known = FindStream(stream.id);
    if (!newest || known == nullptr) continue;
    const bool connected = clock.connected && clock.connected(stream.id);
    if (connected) known->connected_unix_ns = clock.now_unix_ns;
    const std::int64_t heard =
        std::max({stream.last_seen_unix_ns, known->connected_unix_ns,
                  clock.listening_since_unix_ns});
    const bool counts = !connected && !stream.end.has_value();
    const Moment at = {rank, known->health.last_step(),
                       known->health.last_step(),
                       known->health.last_time_unix_ns(), clock.now_unix_ns};
    book->Apply(v1::HEALTH_RULE_LOST_RANK, at,
                SilenceOf(rank, counts ? clock.now_unix_ns - heard : 0, limit),
                &changes_);
  }
}

std::int64_t RunHealth::NextClock(const ClockView& clock) const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  if (attempts_.empty()) return next;
  const auto note = [&](std::int64_t moment) {
    if (moment > clock.now_unix_ns) next = std::min(next, moment);
  };
  const Attempt& newest = attempts_.back();
  const Silence silence = SilenceIn(newest, clock);
  note(silence.heard_unix_ns + silence.limit_ns + 1);
  const StateSince state = StateOf(newest, clock.connected, clock.now_unix_ns);
  if (IsOver(state.state)) return next;
  note(state.since_unix_ns + kForgottenNs + 1);
  const std::int64_t lost = Nanos(rules_->file().lost_rank().seconds());
  for (const StreamEntry* stream : newest.streams) {
    const auto known = streams_.find(stream->id);
    const std::int64_t heard =
        std::max(stream->last_seen_unix_ns,
                 known == streams_.end() ? 0 : known->second.connected_unix_ns);
    note(heard + lost + 1);
    note(stream->last_seen_unix_ns +
         std::chrono::nanoseconds(kSilentLimit).count());
  }
  const std::int64_t expires = Nanos(rules_->file().expire_hours() * 3600);
  for (const auto& [launch, book] : books_) {
    for (std::size_t r = 1; r < kRuleNumbers; ++r) {
      const auto rule = static_cast<v1::HealthRule>(r);
      const v1::Alert* alert = book->active(rule);
      if (alert != nullptr) note(alert->raised_unix_ns() + expires + 1);
      const bool by_clock =
          rule == v1::HEALTH_RULE_STALLED || rule == v1::HEALTH_RULE_LOST_RANK;
      if (by_clock && book->IsQuietening(rule)) {
        note(clock.now_unix_ns + Nanos(1));
      }
    }
  }
  return next;
}

void RunHealth::EndAttempt(const Attempt& attempt, std::int64_t now_unix_ns) {
  const bool newest = &attempt == &attempts_.back();
  if (newest && !at_end_.has_value()) {
    v1::GetHealthResponse health;
    Describe(kNamesAtEnd, &health);
    at_end_ = std::move(health);
  }
  std::int64_t step = -1;
  for (const StreamEntry* stream : attempt.streams) {
    const auto known = streams_.find(stream->id);
    if (known == streams_.end()) continue;
    step = std::max(step, known->second.health.last_step());
    streams_.erase(known);
  }
  const auto book = books_.find(attempt.launch);
  if (book == books_.end()) return;
  book->second->Close(v1::HEALTH_RULE_UNSPECIFIED, v1::ALERT_END_RUN_ENDED,
                      step, now_unix_ns, &changes_);
}

std::vector<v1::Alert> RunHealth::TakeChanges() {
  return std::exchange(changes_, {});
}

std::vector<v1::Alert> RunHealth::Active() const {
  std::vector<v1::Alert> active;
  for (const auto& [launch, book] : books_) {
    for (std::size_t r = 1; r < kRuleNumbers; ++r) {
      const v1::Alert* alert = book->active(static_cast<v1::HealthRule>(r));
      if (alert != nullptr) active.push_back(*alert);
    }
  }
  return active;
}

void RunHealth::DescribeEnd(const v1::RunHealthState& state,
                            std::uint32_t max_names,
                            v1::GetHealthResponse* health) {
  if (state.has_at_end()) CutNames(state.at_end(), max_names, health);
}

void RunHealth::Describe(std::uint32_t max_names,
                         v1::GetHealthResponse* health) const {
  if (at_end_.has_value()) return CutNames(*at_end_, max_names, health);
  health->set_run(run_);
  health->set_evaluated(true);
  health->set_step(-1);
  if (!attempts_.empty()) health->set_attempt(attempts_.back().label);
  for (const auto& [id, stream] : streams_) {
    if (stream.health.last_step() <= health->step()) continue;
    health->set_step(stream.health.last_step());
    health->set_time_unix_ns(stream.health.last_time_unix_ns());
  }
  for (std::size_t r = 1; r < kRuleNumbers; ++r) {
    DescribeRule(static_cast<v1::HealthRule>(r), max_names,
                 health->add_rules());
  }
}

void RunHealth::DescribeRule(v1::HealthRule rule, std::uint32_t max_names,
                             v1::RuleHealth* health) const {
  health->set_rule(rule);
  health->set_enabled(rules_->Enabled(rule));
  if (attempts_.empty() || !health->enabled()) return;
  const std::string& launch = attempts_.back().launch;
  const auto book = books_.find(launch);
  if (book != books_.end()) {
    std::vector<v1::Offender> worst;
    health->set_offenders(book->second->DescribeNow(rule, &worst));
    health->mutable_worst()->Assign(worst.begin(), worst.end());
  }
  std::set<std::string_view> seen;
  for (const auto& [id, stream] : streams_) {
    if (stream.launch != launch) continue;
    const RankHealth& of_rank = stream.health;
    of_rank.ForEachBroken(rule, [&](std::size_t parameter) {
      const std::string& name = of_rank.schema()->parameters[parameter].name;
      if (!seen.insert(name).second) return;
      if (seen.size() <= max_names) health->add_names(name);
    });
  }
  health->set_parameters(seen.size());
}

v1::RunHealthState RunHealth::Save() const {
  v1::RunHealthState state;
  if (entry_ != nullptr) state.set_created_unix_ns(entry_->created_unix_ns);
  state.set_ordinal(ordinal_);
  state.set_next_alert_id(next_id_);
  state.set_unread_rows(counts_.unread_rows);
  for (const auto& [launch, book] : books_) {
    v1::AttemptHealthState* attempt = state.add_attempts();
    attempt->set_launch(launch);
    book->Save(attempt);
  }
  for (const auto& [id, stream] : streams_) {
    v1::StreamHealthState* saved = state.add_streams();
    saved->set_stream(id);
    stream.health.Save(saved);
  }
  if (at_end_.has_value()) *state.mutable_at_end() = *at_end_;
  return state;
}

absl::Status RunHealth::Load(const v1::RunHealthState& state) {
  if (entry_ == nullptr || state.created_unix_ns() != entry_->created_unix_ns) {
    return absl::FailedPreconditionError(
        absl::StrCat("the state is not of this run ", run_));
  }
  ordinal_ = std::min(state.ordinal(), entry_->ordinal);
  next_id_ = std::max<std::uint64_t>(state.next_alert_id(), 1);
  counts_.unread_rows = state.unread_rows();
  for (const v1::AttemptHealthState& attempt : state.attempts()) {
    BookOf(attempt.launch())->Load(attempt);
  }
  for (const v1::StreamHealthState& saved : state.streams()) {
    Stream* stream = FindStream(saved.stream());
    if (stream == nullptr) continue;
    if (saved.schema_id() != 0) {
      auto schema = schema_of_(saved.stream(), saved.schema_id());
      if (!schema.ok()) return schema.status();
      stream->health.SetSchema(*std::move(schema));
    }
    stream->health.Load(saved);
  }
  if (state.has_at_end()) at_end_ = state.at_end();
  return absl::OkStatus();
}

}  // namespace gradtap::server
