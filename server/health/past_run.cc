#include "server/health/past_run.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "server/store/stored_step.h"

namespace gradtap::server {
namespace {

// As often as a collector does while rows come.
constexpr std::int64_t kBetweenLooks = 1'000'000'000;

StreamEntry* Find(RunEntry* run, StreamId id) {
  for (StreamEntry& stream : run->streams) {
    if (stream.id == id) return &stream;
  }
  return nullptr;
}

}  // namespace

PastRun::PastRun(std::shared_ptr<const RunEntry> run,
                 const QueryEnvironment* environment, RunHealth* health)
    : run_(std::move(run)),
      environment_(environment),
      health_(health),
      end_unix_ns_(environment->clock->UnixNanos()),
      past_(std::make_shared<RunEntry>(*run_)) {
  past_->streams.clear();
  std::int64_t begin = end_unix_ns_;
  for (const StreamEntry& entry : run_->streams) {
    Stream& stream = streams_[entry.id];
    stream.entry = &entry;
    for (const Branch& branch : entry.branches) {
      if (branch.last_step < 0) continue;
      stream.last = {branch.branch, branch.last_step};
      stream.more = true;
    }
    begin = std::min(begin, entry.hello.start_time_unix_ns);
  }
  now_unix_ns_ = begin_unix_ns_ = looked_unix_ns_ = std::max<std::int64_t>(
      begin, std::chrono::nanoseconds(kSilentLimit).count());
  ShowSaid();
}

std::int64_t PastRun::Clamp(std::int64_t time_unix_ns) const {
  return std::max(std::min(time_unix_ns, end_unix_ns_), now_unix_ns_);
}

absl::Status PastRun::LookAtRow(const StepRow& row) {
  const auto stored = OpenStep(row);
  if (!stored.ok()) return stored.status();
  PassTo(Clamp((*stored)->wall_time_unix_ns()));
  Hear(row.stream, row.branch, row.step);
  const absl::Status status = health_->LookAtRow(row, now_unix_ns_);
  LookAtClock();
  return status;
}

void PastRun::LookAtGap(const GapRow& gap) {
  Hear(gap.stream, gap.branch, gap.gap.last_step);
  health_->LookAtGap(gap, now_unix_ns_);
}

void PastRun::Finish() {
  for (auto& [id, stream] : streams_) {
    stream.more = false;  // Whatever the catalog says.
    Show(id);
  }
  PassTo(Clamp(end_unix_ns_));
  looked_unix_ns_ = 0;
  LookAtClock();
}

void PastRun::PassTo(std::int64_t time_unix_ns) {
  while (time_unix_ns - looked_unix_ns_ >= kBetweenLooks) {
    const std::int64_t next = NextMoment();
    if (next >= time_unix_ns) break;
    now_unix_ns_ = next;
    ShowSaid();
    health_->LookAtClock(clock());
    looked_unix_ns_ = next;
  }
  now_unix_ns_ = time_unix_ns;
}

std::int64_t PastRun::NextMoment() const {
  std::int64_t next = health_->NextClock(clock());
  const auto note = [&](std::int64_t moment) {
    if (moment > now_unix_ns_) next = std::min(next, moment);
  };
  for (const auto& [id, stream] : streams_) {
    if (!stream.shown) note(stream.entry->hello.start_time_unix_ns);
    if (!stream.more && stream.entry->end.has_value()) {
      note(stream.entry->end->wall_time_unix_ns);
    }
  }
  return next;
}

void PastRun::ShowSaid() {
  for (auto& [id, stream] : streams_) {
    if (stream.entry->hello.start_time_unix_ns <= now_unix_ns_) Show(id);
    const std::optional<EndData>& end = stream.entry->end;
    if (!stream.shown || stream.more || !end.has_value()) continue;
    if (Clamp(end->wall_time_unix_ns) > now_unix_ns_) continue;
    Find(past_.get(), id)->end = end;
  }
}

void PastRun::Show(StreamId id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || found->second.shown) return;
  found->second.shown = true;
  // The entry that the rules look at is not to move under them.
  past_ = std::make_shared<RunEntry>(*past_);
  past_->streams.push_back(*found->second.entry);
  past_->streams.back().last_seen_unix_ns = now_unix_ns_;
  past_->streams.back().end.reset();
  health_->SetEntry(past_);
}

void PastRun::Hear(StreamId id, std::uint32_t branch, std::int64_t last_step) {
  Show(id);
  StreamEntry* seen = Find(past_.get(), id);
  if (seen == nullptr) return;  // Of a stream that the entry lacks.
  seen->last_seen_unix_ns = now_unix_ns_;
  Stream& stream = streams_.at(id);
  if (std::pair(branch, last_step) >= stream.last) stream.more = false;
}

void PastRun::LookAtClock() {
  if (now_unix_ns_ - looked_unix_ns_ < kBetweenLooks) return;
  ShowSaid();
  health_->LookAtClock(clock());
  looked_unix_ns_ = now_unix_ns_;
}

ClockView PastRun::clock() const {
  ClockView view;
  view.now_unix_ns = now_unix_ns_;
  // It has been listening for long enough.
  view.listening_since_unix_ns =
      begin_unix_ns_ - std::chrono::nanoseconds(kSilentLimit).count();
  view.connected = [this](StreamId id) {
    const auto found = streams_.find(id);
    if (found == streams_.end()) return false;
    const Stream& stream = found->second;
    if (stream.more) return true;
    const std::optional<EndData>& end = stream.entry->end;
    if (end.has_value()) return end->wall_time_unix_ns > now_unix_ns_;
    return environment_->LiveSession(id).has_value();
  };
  return view;
}

}  // namespace gradtap::server
