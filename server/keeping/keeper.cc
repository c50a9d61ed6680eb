#include "server/keeping/keeper.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/keeping/option_values.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kRemovalsKept = 100;
// Of the wall clock, before it is taken for a jump.
constexpr std::int64_t kClockSlackNs =
    std::chrono::nanoseconds(std::chrono::hours(1)).count();

v1::Removal::Why ToProto(RemovalWhy why) {
  switch (why) {
    case RemovalWhy::kAge:
      return v1::Removal::WHY_AGE;
    case RemovalWhy::kSize:
      return v1::Removal::WHY_SIZE;
    case RemovalWhy::kReserve:
      return v1::Removal::WHY_RESERVE;
  }
  return v1::Removal::WHY_UNSPECIFIED;
}

std::string ReserveText(const DiskSpace& disk, std::uint64_t reserve) {
  return absl::StrCat(FormatBytes(disk.free_bytes),
                      " of the disk are free and the reserve is ",
                      FormatBytes(reserve));
}

std::uint64_t StepsOf(const RunEntry& run) {
  std::uint64_t steps = 0;
  for (const StreamEntry& stream : run.streams) steps += stream.stored_steps;
  return steps;
}

}  // namespace

absl::StatusOr<DiskSpace> DiskSpaceAt(const std::string& path) {
  struct statvfs disk = {};
  if (::statvfs(path.c_str(), &disk) != 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot tell the free space at ", path, ": ", std::strerror(errno)));
  }
  const std::uint64_t unit = disk.f_frsize;
  return DiskSpace{disk.f_blocks * unit, disk.f_bavail * unit};
}

Keeper::Keeper(KeeperSurroundings surroundings, const KeepingLimits& limits)
    : around_(std::move(surroundings)),
      limits_(limits),
      start_unix_ns_(around_.clock->UnixNanos()),
      start_(around_.clock->Steady()),
      hearing_since_(start_unix_ns_) {
  // What the collector did before it was started anew.
  const auto notes = around_.store->ReadNotes();
  if (!notes.ok()) {
    SayOnce(absl::StrCat("cannot tell what was removed before: ",
                         std::string(notes.status().message())));
  }
  MutexLock lock(mu_);
  for (const std::string& note :
       notes.ok() ? *notes : std::vector<std::string>()) {
    v1::Removal removal;
    if (removal.ParseFromString(note)) removals_.push_front(std::move(removal));
  }
  while (removals_.size() > kRemovalsKept) removals_.pop_back();
  status_.set_keep_for_ns(limits.keep_for.count());
  status_.set_keep_bytes(limits.keep_bytes);
  status_.set_growth_bytes_per_day(std::numeric_limits<double>::quiet_NaN());
  status_.set_days_until_full(std::numeric_limits<double>::quiet_NaN());
}

std::uint64_t Keeper::ReserveOf(const DiskSpace& disk) const {
  return limits_.disk_reserve_bytes.value_or(DefaultReserve(disk.total_bytes));
}

std::int64_t Keeper::NowUnixNanos() const {
  const std::chrono::nanoseconds since = around_.clock->Steady() - start_;
  return std::min(around_.clock->UnixNanos(),
                  start_unix_ns_ + since.count() + kClockSlackNs);
}

void Keeper::Look() {
  if (stopping_) return;
  const absl::StatusOr<DiskSpace> disk = around_.disk();
  if (!disk.ok()) {
    SayOnce(std::string(disk.status().message()));
    return;
  }
  const std::uint64_t reserve = ReserveOf(*disk);
  const Time now = around_.clock->Steady();
  bool stopped = false;
  {
    MutexLock lock(mu_);
    status_.set_disk_reserve_bytes(reserve);
    status_.set_disk_total_bytes(disk->total_bytes);
    stopped = status_.ingest_stopped();
  }
  const bool touched = disk->free_bytes < reserve;
  const bool due =
      !full_look_.has_value() || now - *full_look_ >= kBetweenFullLooks;
  if (!touched && !stopped && !due) return;

  const std::uint64_t to_free =
      touched ? ReserveToRestore(reserve) - disk->free_bytes : 0;
  const std::int64_t now_unix_ns = NowUnixNanos();
  if (stopped) hearing_since_ = now_unix_ns;  // Agents are sent away.
  std::uint64_t freed =
      RemoveRuns(GatherFacts(now_unix_ns, hearing_since_), *disk, now_unix_ns);
  if (freed < to_free) freed += ShrinkRuns(to_free - freed, *disk);
  if (due) {
    full_look_ = now;
    growth_.Add(now, around_.store->disk_bytes(),
                around_.store->counters().removed_bytes);
    const double per_day = growth_.BytesPerDay();
    MutexLock lock(mu_);
    status_.set_growth_bytes_per_day(per_day);
  }
  if (stopping_) return;
  const absl::StatusOr<DiskSpace> after = around_.disk();
  Decide(after.ok() ? *after : *disk, freed >= to_free);
}

std::vector<RunFacts> Keeper::GatherFacts(std::int64_t now,
                                          std::int64_t hearing_since) {
  std::vector<RunFacts> runs;
  std::uint64_t all = 0, pinned = 0;
  std::uint32_t pins = 0;
  for (const std::shared_ptr<const RunEntry>& entry : around_.store->Runs()) {
    RunFacts facts = FactsOf(entry, now, hearing_since, around_.live_session);
    const auto bytes = around_.store->RunDiskBytes(entry->run);
    if (!bytes.ok()) continue;  // Deleted meanwhile.
    facts.disk_bytes = *bytes;
    all += *bytes;
    if (entry->pinned) {
      pinned += *bytes;
      ++pins;
    }
    runs.push_back(std::move(facts));
  }
  MutexLock lock(mu_);
  status_.set_runs_bytes(all);
  status_.set_pinned_bytes(pinned);
  status_.set_pinned_runs(pins);
  return runs;
}

std::string Keeper::WhyText(RemovalWhy why, const RunFacts& run,
                            const DiskSpace& disk, std::int64_t now) const {
  switch (why) {
    case RemovalWhy::kAge:
      return absl::StrCat(
          "last seen ",
          FormatDuration(std::chrono::nanoseconds(now - run.last_seen_unix_ns)),
          " ago, and runs are kept for ", FormatDuration(limits_.keep_for));
    case RemovalWhy::kSize:
      return absl::StrCat("the oldest finished run, while all took more than ",
                          FormatBytes(limits_.keep_bytes));
    case RemovalWhy::kReserve:
      return absl::StrCat("the oldest finished run, while ",
                          ReserveText(disk, ReserveOf(disk)));
  }
  return "";
}

std::uint64_t Keeper::RemoveRuns(std::vector<RunFacts> runs,
                                 const DiskSpace& disk, std::int64_t now) {
  std::uint64_t freed = 0;
  for (const PlannedRemoval& planned :
       PlanRemovals(std::move(runs), limits_, disk, now)) {
    if (stopping_) break;
    const RunEntry& run = *planned.run.entry;
    const absl::Status s = around_.store->DeleteRunAsSeen(planned.run.entry);
    if (absl::IsAborted(s) || absl::IsNotFound(s)) continue;
    if (!s.ok()) {
      SayOnce(absl::StrCat("cannot remove run ", run.run, ": ",
                           std::string(s.message())));
      break;
    }
    freed += planned.run.disk_bytes;
    around_.say(absl::StrCat(
        "removed run ", run.run, " (", FormatBytes(planned.run.disk_bytes),
        "): ", WhyText(planned.why, planned.run, disk, now)));
    v1::Removal removal;
    removal.set_run(run.run);
    removal.set_what(v1::Removal::WHAT_RUN);
    removal.set_why(ToProto(planned.why));
    removal.set_bytes(planned.run.disk_bytes);
    removal.set_steps(StepsOf(run));
    Note(std::move(removal));
  }
  return freed;
}

std::uint64_t Keeper::ShrinkRuns(std::uint64_t wanted_bytes,
                                 const DiskSpace& disk) {
  std::uint64_t freed = 0;
  std::map<std::string, v1::Removal> by_run;
  while (freed < wanted_bytes && !stopping_) {
    const auto part = around_.store->ShrinkOldest(
        [](const RunEntry& run) { return !run.pinned; });
    if (!part.ok()) {
      SayOnce(absl::StrCat("cannot shrink runs to their roll-ups: ",
                           std::string(part.status().message())));
      break;
    }
    // One that takes nothing would come again.
    if (!part->has_value() || ((*part)->bytes == 0 && (*part)->steps == 0)) {
      break;
    }
    freed += (*part)->bytes;
    v1::Removal& removal = by_run[(*part)->run];
    removal.set_bytes(removal.bytes() + (*part)->bytes);
    removal.set_steps(removal.steps() + (*part)->steps);
  }
  for (auto& [run, removal] : by_run) {
    around_.say(absl::StrCat("shrunk run ", run, " to its roll-ups at ",
                             removal.steps(), " of its oldest steps (",
                             FormatBytes(removal.bytes()),
                             "): ", ReserveText(disk, ReserveOf(disk))));
    removal.set_run(run);
    removal.set_what(v1::Removal::WHAT_TILES);
    removal.set_why(v1::Removal::WHY_RESERVE);
    Note(std::move(removal));
  }
  return freed;
}

void Keeper::Decide(const DiskSpace& disk, bool more_to_remove) {
  const std::uint64_t reserve = ReserveOf(disk);
  bool stopped = false;
  {
    MutexLock lock(mu_);
    status_.set_days_until_full(DaysUntilFull(disk.free_bytes, reserve,
                                              status_.growth_bytes_per_day()));
    stopped = status_.ingest_stopped();
  }
  // A little above the reserve, lest it stops and goes on at every look.
  const bool go_on = stopped && disk.free_bytes >= reserve + reserve / 16;
  const bool stop = !stopped && disk.free_bytes < reserve && !more_to_remove;
  if (!stop && !go_on) return;
  const std::string why = absl::StrCat(
      stop ? "the collector stores nothing: " : "records are stored again: ",
      ReserveText(disk, reserve),
      stop ? ", with nothing left to remove; make room, unpin or delete runs, "
             "or lower --disk-reserve"
           : "");
  around_.store->RefuseRecords(stop ? why : "");
  {
    MutexLock lock(mu_);
    status_.set_ingest_stopped(stop);
    status_.set_ingest_stopped_since_unix_ns(stop ? around_.clock->UnixNanos()
                                                  : 0);
  }
  around_.say(why);
}

void Keeper::Note(v1::Removal removal) {
  removal.set_time_unix_ns(around_.clock->UnixNanos());
  const absl::Status noted =
      around_.store->AddNote(removal.SerializeAsString(), kRemovalsKept);
  if (!noted.ok()) {
    SayOnce(absl::StrCat("what was removed is forgotten at the next start: ",
                         std::string(noted.message())));
  }
  MutexLock lock(mu_);
  if (removal.what() == v1::Removal::WHAT_RUN) {
    status_.set_removed_runs(status_.removed_runs() + 1);
    status_.set_removed_bytes(status_.removed_bytes() + removal.bytes());
  } else {
    status_.set_shrunk_steps(status_.shrunk_steps() + removal.steps());
    status_.set_shrunk_bytes(status_.shrunk_bytes() + removal.bytes());
  }
  removals_.push_front(std::move(removal));
  if (removals_.size() > kRemovalsKept) removals_.pop_back();
}

void Keeper::SayOnce(const std::string& line) {
  if (line == said_) return;
  said_ = line;
  around_.say(line);
}

void Keeper::Describe(v1::KeepingStatus* status) const {
  MutexLock lock(mu_);
  *status = status_;
  for (const v1::Removal& removal : removals_) {
    *status->add_removals() = removal;
  }
}

}  // namespace gradtap::server
