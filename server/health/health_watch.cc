#include "server/health/health_watch.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/health/rules_replay.h"
#include "server/query/run_view.h"

namespace gradtap::server {
namespace {

constexpr char kState[] = "health/state";
// How long rows are looked at while the lock is held. A scan costs something to
// begin: the store's newest rows are listed, or a sealed window is opened.
constexpr std::chrono::milliseconds kBlock{25};
constexpr std::uint64_t kRowsBetweenLooks = 16;  // At the time.
// A run without a state that was there before: if it has more rows its history
// is left alone.
constexpr std::uint64_t kMostOldRows = 10'000;
constexpr std::uint32_t kMaxNames = 100'000;
constexpr std::chrono::seconds kBetweenClocks{1};
// Lines that are remembered as said.
constexpr std::size_t kMostSaid = 1000;

// That the calling thread has had so far.
std::int64_t ThreadCpuNanos() {
  timespec now = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HealthWatch>> HealthWatch::Start(
    Store* store, const Clock* clock, Connected connected,
    HealthOptions options) {
  std::unique_ptr<HealthWatch> watch(
      new HealthWatch(store, clock, std::move(connected), std::move(options)));
  if (absl::Status s = watch->log_.Load(); !s.ok()) return s;
  for (const std::shared_ptr<const RunEntry>& run : store->Runs()) {
    watch->old_.emplace(run->run, run->created_unix_ns);
    watch->MarkDue(run->run);
  }
  watch->listener_ = store->AddListener(
      [raw = watch.get()](const std::string& run) { raw->MarkDue(run); });
  watch->thread_ = std::thread([raw = watch.get()] { raw->Run(); });
  return watch;
}

HealthWatch::HealthWatch(Store* store, const Clock* clock, Connected connected,
                         HealthOptions options)
    : store_(store),
      clock_(clock),
      connected_(std::move(connected)),
      options_(std::move(options)),
      since_unix_ns_(clock->UnixNanos()),
      log_(store, clock) {}

HealthWatch::~HealthWatch() { Stop(); }

void HealthWatch::Stop() {
  if (!thread_.joinable()) return;
  ending_ = true;
  store_->RemoveListener(listener_);
  {
    MutexLock lock(due_mu_);
    stopping_ = true;
  }
  due_changed_.NotifyAll();
  thread_.join();
  log_.Wake();
}

void HealthWatch::MarkDue(const std::string& run) {
  {
    MutexLock lock(due_mu_);
    due_.insert(run);
    if (!idle_) return;  // Or each commit would wake it.
  }
  due_changed_.NotifyAll();
}

std::set<std::string> HealthWatch::TakeDue() {
  MutexLock lock(due_mu_);
  return std::exchange(due_, {});
}

bool HealthWatch::stopping() const {
  MutexLock lock(due_mu_);
  return stopping_;
}

bool HealthWatch::LookAtDue(std::chrono::steady_clock::time_point until) {
  bool more = false;
  for (const std::string& run : TakeDue()) {
    if (std::chrono::steady_clock::now() >= until) return false;
    if (LookAt(run)) {
      MarkDue(run);
      more = true;
    }
  }
  return more;
}

void HealthWatch::Run() {
  auto next_clock = std::chrono::steady_clock::now();
  auto end = std::chrono::steady_clock::time_point::max();
  for (bool last = false; !last;) {
    last = stopping();  // What has come by now is still looked at.
    if (last) {
      end =
          std::min(end, std::chrono::steady_clock::now() + options_.last_look);
    }
    const bool more = LookAtDue(end);
    const auto now = std::chrono::steady_clock::now();
    if (!last && now >= next_clock) {
      LookAtClocks();
      next_clock = now + kBetweenClocks;
    }
    {
      MutexLock lock(runs_mu_);
      figures_.busy_ns = ThreadCpuNanos();
    }
    if (more) {
      last = false;
      continue;
    }
    MutexLock lock(due_mu_);
    const auto paced = std::chrono::steady_clock::now() + options_.pace;
    while (!stopping_ && due_changed_.WaitUntil(due_mu_, paced)) {
    }
    idle_ = true;
    while (!stopping_ && due_.empty() &&
           due_changed_.WaitUntil(due_mu_, next_clock)) {
    }
    idle_ = false;
  }
  WriteAll();
}

bool HealthWatch::LookAt(const std::string& run) {
  const std::shared_ptr<const RunEntry> entry = store_->FindRun(run);
  bool more = false;
  bool changed = false;
  {
    MutexLock lock(runs_mu_);
    if (entry == nullptr) {
      runs_.erase(run);
      log_.Forget(run);
      return false;
    }
    Watched* watched = Find(entry);
    if (watched == nullptr) return false;
    RunHealth* health = watched->health.get();
    health->SetEntry(entry);
    const std::uint64_t before = health->ordinal();
    const absl::StatusOr<bool> read = Read(*entry, health);
    if (!read.ok()) {
      // The same rows again, when the clock is looked at next.
      SayOnce(absl::StrCat("health rules of run ", run, ": ",
                           std::string(read.status().message())));
    } else {
      more = *read;
      if (!more) LookAtClock(health);
    }
    watched->dirty |= health->ordinal() != before;
    for (v1::Alert& alert : health->TakeChanges()) {
      watched->unwritten.push_back(std::move(alert));
    }
    changed = !watched->unwritten.empty() || (health->over() && !more);
    if (!changed) log_.Update(health->Active());
  }
  Write(entry, changed);
  return more;
}

HealthWatch::Watched* HealthWatch::Find(
    const std::shared_ptr<const RunEntry>& entry) {
  if (!options_.rules->CoversRun(entry->run)) return nullptr;
  Watched& watched = runs_[entry->run];
  if (watched.health != nullptr &&
      watched.created_unix_ns == entry->created_unix_ns) {
    return &watched;
  }
  if (watched.health != nullptr) log_.Forget(entry->run);  // Its predecessor's.
  watched = Watched();
  watched.created_unix_ns = entry->created_unix_ns;
  watched.written_at = std::chrono::steady_clock::now();
  watched.health = Open(entry);
  if (watched.health != nullptr) return &watched;
  runs_.erase(entry->run);
  return nullptr;
}

bool HealthWatch::IsDone(const RunEntry& entry,
                         const v1::RunHealthState& state) const {
  return state.created_unix_ns() == entry.created_unix_ns &&
         state.ordinal() >= entry.ordinal && state.has_at_end();
}

std::unique_ptr<RunHealth> HealthWatch::Open(
    const std::shared_ptr<const RunEntry>& entry) {
  auto health = std::make_unique<RunHealth>(
      options_.rules, entry->run,
      [store = store_](StreamId stream, std::uint32_t schema) {
        return store->ReadSchema(stream, schema);
      });
  health->SetEntry(entry);
  const auto stored = store_->ReadAttachments(*entry, kState);
  v1::RunHealthState state;
  absl::Status status = stored.status();
  if (stored.ok() && !stored->empty()) {
    if (!state.ParseFromString(stored->front().value)) {
      status = absl::DataLossError("the stored state is damaged");
    } else if (IsDone(*entry, state)) {
      return nullptr;
    } else {
      status = health->Load(state);
    }
    if (status.ok()) return health;
  }
  if (!status.ok()) {
    SayOnce(absl::StrCat(
        "health rules of run ", entry->run,
        " go on from its newest step: ", std::string(status.message())));
    health->StartAt(entry->ordinal);
    return health;
  }
  const auto old = old_.find(entry->run);
  if (old == old_.end() || old->second != entry->created_unix_ns) {
    return health;
  }
  const std::vector<Attempt> attempts = AttemptsOf(*entry);
  const bool goes_on =
      !attempts.empty() &&
      StateOf(attempts.back(), connected_, clock_->UnixNanos()).state ==
          v1::RUN_STATE_RUNNING;
  if (!goes_on) return nullptr;
  if (entry->ordinal > kMostOldRows) health->StartAt(entry->ordinal);
  return health;
}

absl::StatusOr<bool> HealthWatch::Read(const RunEntry& entry,
                                       RunHealth* health) {
  if (health->ordinal() >= entry.ordinal) return false;
  std::uint64_t rows = 0;
  std::uint64_t unread = 0;
  bool more = false;
  const auto until = std::chrono::steady_clock::now() + kBlock;
  const std::int64_t now = clock_->UnixNanos();
  const absl::Status status = store_->ScanByOrdinal(
      entry.run, health->ordinal(), [&](const StepRow* row, const GapRow* gap) {
        const std::uint64_t ordinal =
            row != nullptr ? row->ordinal : gap->ordinal;
        // What came after the entry was read may be of streams it lacks.
        if (ordinal > entry.ordinal) return false;
        more = rows > 0 && rows % kRowsBetweenLooks == 0 &&
               std::chrono::steady_clock::now() >= until;
        if (more) return false;
        ++rows;
        if (gap != nullptr) {
          health->LookAtGap(*gap, now);
        } else if (const absl::Status s = health->LookAtRow(*row, now);
                   !s.ok()) {
          ++unread;
          SayOnce(absl::StrCat(
              "health rules of run ", entry.run,
              ": a step cannot be read: ", std::string(s.message())));
        }
        return true;
      });
  if (absl::IsDataLoss(status)) {
    // It stays so: what is behind it is judged all the same.
    ++unread;
    health->StartAt(entry.ordinal);
  }
  figures_.rows += rows;
  figures_.unread_rows += unread;
  if (!status.ok()) return status;
  return more;
}

void HealthWatch::LookAtClock(RunHealth* health) {
  if (ending_) return;
  health->LookAtClock({clock_->UnixNanos(), since_unix_ns_, connected_});
}

void HealthWatch::LookAtClocks() {
  std::vector<std::string> runs;
  {
    MutexLock lock(runs_mu_);
    for (const auto& [run, watched] : runs_) runs.push_back(run);
  }
  for (const std::string& run : runs) {
    if (LookAt(run)) MarkDue(run);
  }
}

void HealthWatch::Write(const std::shared_ptr<const RunEntry>& entry,
                        bool at_once) {
  std::vector<v1::Alert> changes;
  std::vector<v1::Alert> active;
  std::vector<Attachment> state;
  bool over = false;
  {
    MutexLock lock(runs_mu_);
    const auto found = runs_.find(entry->run);
    if (found == runs_.end()) return;
    Watched& watched = found->second;
    const bool due = watched.dirty &&
                     std::chrono::steady_clock::now() - watched.written_at >=
                         options_.checkpoint;
    if (!at_once && !due) return;
    over = watched.health->over();
    if (over && !watched.dirty && watched.unwritten.empty()) {
      runs_.erase(found);
      return;
    }
    changes = std::exchange(watched.unwritten, {});
    active = watched.health->Active();
    state.push_back({kState, watched.health->Save().SerializeAsString()});
    watched.dirty = false;
    watched.written_at = std::chrono::steady_clock::now();
  }
  const absl::Status status =
      log_.Write(*entry, changes, active, std::move(state));
  MutexLock lock(runs_mu_);
  const auto found = runs_.find(entry->run);
  if (found == runs_.end()) return;
  if (status.ok()) {
    if (over && !found->second.dirty) runs_.erase(found);
    return;
  }
  ++figures_.failed_writes;
  found->second.dirty = true;
  if (!absl::IsNotFound(status)) {
    SayOnce(absl::StrCat("alerts of run ", entry->run, " are not stored yet: ",
                         std::string(status.message())));
  }
}

void HealthWatch::WriteAll() {
  std::vector<std::string> runs;
  {
    MutexLock lock(runs_mu_);
    for (const auto& [run, watched] : runs_) {
      if (watched.dirty) runs.push_back(run);
    }
  }
  for (const std::string& run : runs) {
    const std::shared_ptr<const RunEntry> entry = store_->FindRun(run);
    if (entry != nullptr) Write(entry, true);
  }
}

void HealthWatch::SayOnce(const std::string& line) {
  if (!options_.say || said_.size() >= kMostSaid) return;
  if (said_.insert(line).second) options_.say(line);
}

HealthFigures HealthWatch::figures() const {
  MutexLock lock(runs_mu_);
  HealthFigures figures = figures_;
  figures.runs = static_cast<std::uint32_t>(runs_.size());
  for (const auto& [run, watched] : runs_) {
    const std::shared_ptr<const RunEntry> entry = store_->FindRun(run);
    if (entry != nullptr && entry->ordinal > watched.health->ordinal()) {
      figures.behind += entry->ordinal - watched.health->ordinal();
    }
  }
  return figures;
}

absl::Status HealthWatch::TestRules(const QueryEnvironment& environment,
                                    const v1::TestRulesRequest& request,
                                    const Cancelled& cancelled,
                                    v1::TestRulesResponse* response) {
  if (testing_.exchange(true)) {
    return absl::ResourceExhaustedError(
        "another test of rules is running; try again when it is done");
  }
  const absl::Status status = server::TestRules(environment, options_.rules,
                                                request, cancelled, response);
  testing_ = false;
  return status;
}

absl::Status HealthWatch::GetHealth(const v1::GetHealthRequest& request,
                                    v1::GetHealthResponse* response) {
  if (request.max_names() > kMaxNames) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_names: ", request.max_names(), " is more than ", kMaxNames));
  }
  absl::StatusOr<RunView> run = OpenRun(*store_, request.run());
  if (!run.ok()) return run.status();
  const RunEntry& entry = *run->entry;
  bool watched = false;
  {
    MutexLock lock(runs_mu_);
    const auto found = runs_.find(entry.run);
    watched = found != runs_.end() &&
              found->second.created_unix_ns == entry.created_unix_ns;
    if (watched) {
      found->second.health->Describe(request.max_names(), response);
      if (entry.ordinal > found->second.health->ordinal()) {
        response->set_behind(entry.ordinal - found->second.health->ordinal());
      }
    }
  }
  if (!watched) {
    const auto stored = store_->ReadAttachments(entry, kState);
    if (!stored.ok()) return stored.status();
    v1::RunHealthState state;
    if (!stored->empty() && state.ParseFromString(stored->front().value)) {
      RunHealth::DescribeEnd(state, request.max_names(), response);
    }
  }
  response->set_run(entry.run);
  for (v1::RuleHealth& rule : *response->mutable_rules()) {
    v1::Alert alert;
    if (log_.Newest(entry.run, response->attempt(), rule.rule(), &alert)) {
      *rule.mutable_alert() = std::move(alert);
    }
  }
  return absl::OkStatus();
}

absl::Status HealthWatch::ListAlerts(const v1::ListAlertsRequest& request,
                                     v1::ListAlertsResponse* response) const {
  if (!request.run().empty()) {
    absl::StatusOr<RunView> run = OpenRun(*store_, request.run());
    if (!run.ok()) return run.status();
  }
  return log_.List(request, response);
}

}  // namespace gradtap::server
