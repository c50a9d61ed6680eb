#include "server/health/alert_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gradtap/v1/health_state.pb.h"

namespace gradtap::server {
namespace {

constexpr char kPrefix[] = "alert/";
constexpr std::uint32_t kDefaultLimit = 1000;

std::string NameOf(std::uint64_t id) {
  return absl::StrFormat("%s%020u", kPrefix, id);
}

Attachment Encode(const v1::Alert& alert, std::uint32_t told) {
  v1::StoredAlert stored;
  *stored.mutable_alert() = alert;
  stored.set_told(told);
  return {NameOf(alert.id()), stored.SerializeAsString()};
}

std::uint32_t BitOf(Destination to, bool ended) {
  return static_cast<std::uint32_t>(to) << (ended ? 1 : 0);
}

std::int64_t ChangedAt(const v1::Alert& alert) {
  return std::max({alert.raised_unix_ns(), alert.ended_unix_ns(),
                   alert.last_time_unix_ns()});
}

bool IsNewer(const v1::Alert& a, const v1::Alert& b) {
  if (a.raised_unix_ns() != b.raised_unix_ns()) {
    return a.raised_unix_ns() > b.raised_unix_ns();
  }
  if (a.run() != b.run()) return a.run() < b.run();
  return a.id() > b.id();
}

// Whether they say the same, whenever that was.
bool SaysTheSame(const v1::Alert& a, v1::Alert b) {
  b.set_change(a.change());
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

absl::Status AlertLog::Load() {
  for (const std::shared_ptr<const RunEntry>& run : store_->Runs()) {
    const auto attachments = store_->ReadAttachments(*run, kPrefix);
    if (absl::IsNotFound(attachments.status())) continue;  // Deleted just now.
    if (!attachments.ok()) return attachments.status();
    MutexLock lock(mu_);
    for (const Attachment& attachment : *attachments) {
      v1::StoredAlert stored;
      if (!stored.ParseFromString(attachment.value)) {
        return absl::DataLossError(absl::StrCat("the stored alert ",
                                                attachment.name, " of run ",
                                                run->run, " is damaged"));
      }
      const v1::Alert& alert = stored.alert();
      runs_[run->run][alert.id()] = {alert, stored.told(), true};
      order_[alert.change()] = {run->run, alert.id()};
      change_ = std::max(change_, alert.change());
    }
  }
  return absl::OkStatus();
}

// Runs that are deleted take their numbers with them: the clock sees to it that
// none comes again.
std::uint64_t AlertLog::NextChangeLocked() {
  change_ =
      std::max(change_ + 1, static_cast<std::uint64_t>(clock_->UnixNanos()));
  return change_;
}

void AlertLog::PutLocked(const v1::Alert& alert) {
  Entry& entry = runs_[alert.run()][alert.id()];
  order_.erase(entry.alert.change());
  entry.alert = alert;
  entry.alert.set_change(NextChangeLocked());
  entry.written = false;
  order_[entry.alert.change()] = {alert.run(), alert.id()};
}

void AlertLog::TrimLocked(Entries* entries, std::vector<Attachment>* writes) {
  for (auto it = entries->begin();
       it != entries->end() && entries->size() > kMaxAlertsOfRun;) {
    if (it->second.alert.active()) {
      ++it;
      continue;
    }
    order_.erase(it->second.alert.change());
    writes->push_back({NameOf(it->first), ""});
    it = entries->erase(it);
  }
}

absl::Status AlertLog::Write(const RunEntry& run,
                             const std::vector<v1::Alert>& changes,
                             const std::vector<v1::Alert>& active,
                             std::vector<Attachment> others) {
  std::vector<Attachment> writes = std::move(others);
  std::vector<std::uint64_t> ids;
  MutexLock write_lock(write_mu_);
  {
    MutexLock lock(mu_);
    for (const v1::Alert& alert : changes) PutLocked(alert);
    Entries& entries = runs_[run.run];
    for (const v1::Alert& alert : active) {
      const auto known = entries.find(alert.id());
      if (known == entries.end() || !SaysTheSame(known->second.alert, alert)) {
        PutLocked(alert);
      }
    }
    for (const auto& [id, entry] : entries) {
      if (entry.written) continue;
      writes.push_back(Encode(entry.alert, entry.told));
      ids.push_back(id);
    }
    TrimLocked(&entries, &writes);
  }
  const absl::Status status =
      writes.empty() ? absl::OkStatus() : store_->WriteAttachments(run, writes);
  {
    MutexLock lock(mu_);
    const auto entries = runs_.find(run.run);
    for (const std::uint64_t id : ids) {
      if (!status.ok() || entries == runs_.end()) break;
      const auto entry = entries->second.find(id);
      if (entry != entries->second.end()) entry->second.written = true;
    }
    if (entries != runs_.end() && entries->second.empty()) {
      runs_.erase(entries);
    }
  }
  changed_.NotifyAll();
  return status;
}

bool AlertLog::Update(const std::vector<v1::Alert>& active) {
  bool any = false;
  {
    MutexLock lock(mu_);
    for (const v1::Alert& alert : active) {
      const auto run = runs_.find(alert.run());
      if (run == runs_.end()) continue;
      const auto known = run->second.find(alert.id());
      if (known == run->second.end() ||
          SaysTheSame(known->second.alert, alert)) {
        continue;
      }
      PutLocked(alert);
      any = true;
    }
  }
  if (any) changed_.NotifyAll();
  return any;
}

void AlertLog::Forget(const std::string& run) {
  MutexLock lock(mu_);
  const auto entries = runs_.find(run);
  if (entries == runs_.end()) return;
  for (const auto& [id, entry] : entries->second) {
    order_.erase(entry.alert.change());
  }
  runs_.erase(entries);
}

absl::Status AlertLog::List(const v1::ListAlertsRequest& request,
                            v1::ListAlertsResponse* response) const {
  if (!v1::HealthRule_IsValid(request.rule())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rule: there is none of number ", static_cast<int>(request.rule())));
  }
  if (request.since_unix_ns() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("since_unix_ns: ", request.since_unix_ns(),
                     " is before 1970; 0 is no limit"));
  }
  std::vector<v1::Alert> found;
  {
    MutexLock lock(mu_);
    response->set_change(change_);
    for (const auto& [run, entries] : runs_) {
      if (!request.run().empty() && run != request.run()) continue;
      for (const auto& [id, entry] : entries) {
        const v1::Alert& alert = entry.alert;
        if (request.active() && !alert.active()) continue;
        if (ChangedAt(alert) < request.since_unix_ns()) continue;
        if (request.rule() != v1::HEALTH_RULE_UNSPECIFIED &&
            alert.rule() != request.rule()) {
          continue;
        }
        found.push_back(alert);
      }
    }
  }
  std::sort(found.begin(), found.end(), IsNewer);
  const std::size_t limit =
      request.limit() == 0 ? kDefaultLimit : request.limit();
  if (found.size() > limit) {
    response->set_omitted(found.size() - limit);
    found.resize(limit);
  }
  for (v1::Alert& alert : found) *response->add_alerts() = std::move(alert);
  return absl::OkStatus();
}

bool AlertLog::Newest(const std::string& run, std::uint32_t attempt,
                      v1::HealthRule rule, v1::Alert* alert) const {
  MutexLock lock(mu_);
  const auto entries = runs_.find(run);
  if (entries == runs_.end()) return false;
  for (auto it = entries->second.rbegin(); it != entries->second.rend(); ++it) {
    const v1::Alert& known = it->second.alert;
    if (known.rule() != rule || known.attempt() != attempt) continue;
    *alert = known;
    return true;
  }
  return false;
}

std::vector<v1::Alert> AlertLog::After(std::uint64_t change,
                                       const std::string& run,
                                       std::size_t most) const {
  MutexLock lock(mu_);
  std::vector<v1::Alert> found;
  for (auto it = order_.upper_bound(change);
       it != order_.end() && found.size() < most; ++it) {
    const auto& [of_run, id] = it->second;
    if (!run.empty() && of_run != run) continue;
    found.push_back(runs_.at(of_run).at(id).alert);
  }
  return found;
}

std::uint64_t AlertLog::change() const {
  MutexLock lock(mu_);
  return change_;
}

void AlertLog::Wait(std::uint64_t change, std::uint64_t wakes,
                    std::chrono::steady_clock::time_point deadline) const {
  MutexLock lock(mu_);
  while (change_ <= change && wakes_ == wakes &&
         changed_.WaitUntil(mu_, deadline)) {
  }
}

std::uint64_t AlertLog::wakes() const {
  MutexLock lock(mu_);
  return wakes_;
}

void AlertLog::Wake() {
  {
    MutexLock lock(mu_);
    ++wakes_;
  }
  changed_.NotifyAll();
}

std::vector<AlertLog::ToTell> AlertLog::Untold(
    Destination to, std::int64_t ended_since_unix_ns) const {
  MutexLock lock(mu_);
  std::vector<ToTell> untold;
  for (const auto& [change, place] : order_) {
    const Entry& entry = runs_.at(place.first).at(place.second);
    const bool begin_told = (entry.told & BitOf(to, false)) != 0;
    const bool end_told = (entry.told & BitOf(to, true)) != 0;
    if (entry.alert.active() ? begin_told : end_told) continue;
    if (!entry.alert.active() &&
        entry.alert.ended_unix_ns() < ended_since_unix_ns) {
      continue;
    }
    untold.push_back({entry.alert, begin_told});
  }
  return untold;
}

std::vector<v1::Alert> AlertLog::Active() const {
  MutexLock lock(mu_);
  std::vector<v1::Alert> active;
  for (const auto& [run, entries] : runs_) {
    for (const auto& [id, entry] : entries) {
      if (entry.alert.active()) active.push_back(entry.alert);
    }
  }
  return active;
}

absl::Status AlertLog::SetTold(Destination to, const std::string& run,
                               std::uint64_t id, bool ended) {
  const std::shared_ptr<const RunEntry> entry_of_run = store_->FindRun(run);
  std::vector<Attachment> writes;
  MutexLock write_lock(write_mu_);
  {
    MutexLock lock(mu_);
    const auto entries = runs_.find(run);
    if (entries == runs_.end()) return absl::OkStatus();
    const auto entry = entries->second.find(id);
    if (entry == entries->second.end()) return absl::OkStatus();
    entry->second.told |= BitOf(to, false);
    if (ended) entry->second.told |= BitOf(to, true);
    writes.push_back(Encode(entry->second.alert, entry->second.told));
  }
  if (entry_of_run == nullptr) return absl::OkStatus();
  return store_->WriteAttachments(*entry_of_run, writes);
}

void AlertLog::CountCall(Destination to, bool ok) {
  MutexLock lock(mu_);
  CallCounts& counts = calls_[to];
  ++(ok ? counts.sent : counts.failed);
}

CallCounts AlertLog::calls(Destination to) const {
  MutexLock lock(mu_);
  const auto found = calls_.find(to);
  return found == calls_.end() ? CallCounts() : found->second;
}

}  // namespace gradtap::server
