#include "server/forward/remote_writer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/forward/write_request.h"

namespace gradtap::server {
namespace {

// Of a run: the ordinal up to which it has been forwarded.
constexpr char kCursor[] = "remote_write";
// Without news.
constexpr std::chrono::milliseconds kLongestWait{5'000};
// After that they are counted alone.
constexpr std::uint64_t kMostRefusalsSaid = 5;

std::size_t SamplesOf(const std::vector<promql::SampledSeries>& series) {
  std::size_t samples = 0;
  for (const promql::SampledSeries& one : series) samples += one.samples.size();
  return samples;
}

// Those of one time.
std::vector<promql::SampledSeries> At(
    std::int64_t time_ms, const std::vector<promql::SampledSeries>& series) {
  std::vector<promql::SampledSeries> at;
  for (const promql::SampledSeries& one : series) {
    for (const promql::Sample& sample : one.samples) {
      if (sample.time_ms == time_ms) at.push_back({one.labels, {sample}});
    }
  }
  return at;
}

const StreamEntry* FindStream(const RunEntry& run, StreamId id) {
  for (const StreamEntry& stream : run.streams) {
    if (stream.id == id) return &stream;
  }
  return nullptr;
}

}  // namespace

RemoteWriter::RemoteWriter(Store* store, RemoteWriteOptions options)
    : store_(store), options_(std::move(options)) {
  listener_ = store_->AddListener([this](const std::string&) {
    MutexLock lock(mu_);
    news_ = true;
    changed_.NotifyAll();
  });
  thread_ = std::thread([this] { Loop(); });
}

RemoteWriter::~RemoteWriter() {
  store_->RemoveListener(listener_);
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  poster_.Stop();
  thread_.join();
}

ForwardFigures RemoteWriter::figures() const {
  return {sent_.load(), refused_.load(), failed_.load()};
}

bool RemoteWriter::stopping() {
  MutexLock lock(mu_);
  return stopping_;
}

void RemoteWriter::Loop() {
  std::chrono::milliseconds retry = options_.first_retry;
  next_remember_ = std::chrono::steady_clock::now();
  for (;;) {
    {
      MutexLock lock(mu_);
      if (stopping_) break;
      news_ = false;
    }
    Follow();
    const absl::StatusOr<bool> more = SendSome();
    Remember(/*at_once=*/false);
    if (more.ok()) {
      if (std::exchange(away_, false)) Say("is back; nothing was lost");
      retry = options_.first_retry;
      if (!*more) Wait(kLongestWait);
      continue;
    }
    if (stopping()) break;  // It was cut off.
    if (!std::exchange(away_, true)) {
      Say(absl::StrCat("cannot be sent to; samples wait: ",
                       std::string(more.status().message())));
    }
    ++failed_;
    // News do not make it come back sooner.
    const auto until = std::chrono::steady_clock::now() + retry;
    MutexLock lock(mu_);
    while (!stopping_ && changed_.WaitUntil(mu_, until)) {
    }
    retry = std::min(retry * 2, options_.last_retry);
  }
  Remember(/*at_once=*/true);
}

void RemoteWriter::Wait(std::chrono::milliseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  MutexLock lock(mu_);
  while (!stopping_ && !news_ && changed_.WaitUntil(mu_, until)) {
  }
}

void RemoteWriter::Follow() {
  std::set<std::string> there;
  for (const std::shared_ptr<const RunEntry>& entry : store_->Runs()) {
    there.insert(entry->run);
    const auto [it, is_new] = runs_.try_emplace(entry->run);
    FollowedRun& run = it->second;
    // One that was deleted, and is there again.
    const bool again =
        !is_new && run.entry->created_unix_ns != entry->created_unix_ns;
    if (is_new || again) Begin(entry, &run);
    run.entry = entry;
    const auto idle = std::chrono::steady_clock::now() - run.read;
    if (idle > options_.forget_after && run.sent >= entry->ordinal) {
      run.rows = nullptr;
    }
  }
  std::erase_if(
      runs_, [&there](const auto& one) { return there.count(one.first) == 0; });
  first_look_ = false;
}

void RemoteWriter::Begin(const std::shared_ptr<const RunEntry>& entry,
                         FollowedRun* run) {
  run->rows = nullptr;
  run->waiting.clear();
  run->sent = first_look_ ? entry->ordinal : 0;
  run->remembered = 0;
  const auto stored = store_->ReadAttachments(*entry, kCursor);
  std::uint64_t ordinal = 0;
  if (stored.ok() && !stored->empty() &&
      absl::SimpleAtoi(stored->front().value, &ordinal)) {
    run->sent = run->remembered = ordinal;
  }
}

void RemoteWriter::Remember(bool at_once) {
  const auto now = std::chrono::steady_clock::now();
  if (!at_once && now < next_remember_) return;
  next_remember_ = now + options_.remember;
  for (auto& [name, run] : runs_) {
    if (run.sent == run.remembered) continue;
    const Attachment cursor{kCursor, std::to_string(run.sent)};
    const absl::Status status =
        store_->WriteAttachments(*run.entry, {&cursor, 1});
    // Without it the same is sent once more.
    if (status.ok()) run.remembered = run.sent;
  }
}

absl::StatusOr<bool> RemoteWriter::SendSome() {
  bool more = false;
  for (auto& [name, run] : runs_) {
    if (run.sent >= run.entry->ordinal) continue;
    const absl::StatusOr<bool> sent = SendOf(&run);
    if (!sent.ok()) return sent;
    more |= *sent;
  }
  return more;
}

absl::StatusOr<bool> RemoteWriter::SendOf(FollowedRun* run) {
  if (run->waiting.empty() && !Read(run)) {
    run->sent = run->entry->ordinal;  // Not for ever.
    return false;
  }
  if (!run->waiting.empty()) {
    const absl::Status status = Send(run->waiting, /*may_split=*/true);
    if (!status.ok()) return status;
    run->waiting.clear();
  }
  run->sent = run->waiting_until;
  return run->sent < run->entry->ordinal;
}

ForwardedRows* RemoteWriter::RowsOf(FollowedRun* run) {
  run->read = std::chrono::steady_clock::now();
  if (run->rows == nullptr || run->rows->knows_too_many()) {
    run->rows = std::make_unique<ForwardedRows>(store_, &options_.selection,
                                                run->entry->run);
  }
  return run->rows.get();
}

bool RemoteWriter::Read(FollowedRun* run) {
  ForwardedRows* const rows = RowsOf(run);
  std::uint64_t reached = run->sent;
  bool enough = false;
  absl::Status read;
  const absl::Status scanned = store_->ScanByOrdinal(
      run->entry->run, run->sent, [&](const StepRow* row, const GapRow* gap) {
        const std::uint64_t ordinal =
            row != nullptr ? row->ordinal : gap->ordinal;
        // The next look has the streams that came since.
        if (ordinal > run->entry->ordinal) return false;
        reached = ordinal;
        enough = stopping();
        if (row == nullptr) return !enough;
        const StreamEntry* stream = FindStream(*run->entry, row->stream);
        if (stream != nullptr) read = rows->Add(*row, stream->hello.rank);
        enough |= rows->waiting() >= options_.samples_a_request;
        return read.ok() && !enough;
      });
  run->waiting = rows->Take();
  run->waiting_until = enough ? reached : run->entry->ordinal;
  const absl::Status& status = scanned.ok() ? read : scanned;
  if (status.ok()) return true;
  if (!absl::IsNotFound(status)) {  // It was deleted.
    Say(absl::StrCat("run '", run->entry->run, "' cannot be read from ordinal ",
                     reached, " on: ", std::string(status.message())));
  }
  return false;
}

absl::Status RemoteWriter::Send(
    const std::vector<promql::SampledSeries>& series, bool may_split) {
  const absl::Status status =
      poster_.Post(options_.url,
                   {options_.url.path.empty() ? "/" : options_.url.path,
                    EncodeWriteRequest(series),
                    {{"Content-Type", "application/x-protobuf"},
                     {"Content-Encoding", "snappy"},
                     {"X-Prometheus-Remote-Write-Version", "0.1.0"}}},
                   options_.timeout);
  if (status.ok()) {
    sent_ += SamplesOf(series);
    return status;
  }
  if (!absl::IsFailedPrecondition(status)) return status;
  return Refused(series, may_split, status);
}

absl::Status RemoteWriter::Refused(
    const std::vector<promql::SampledSeries>& series, bool may_split,
    const absl::Status& why) {
  std::set<std::int64_t> times;
  for (const promql::SampledSeries& one : series) {
    for (const promql::Sample& sample : one.samples) {
      times.insert(sample.time_ms);
    }
  }
  // One sample that is refused takes the others of its request along.
  if (may_split && times.size() > 1) {
    for (const std::int64_t time : times) {
      const absl::Status status = Send(At(time, series), /*may_split=*/false);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  refused_ += SamplesOf(series);
  if (refusals_said_++ < kMostRefusalsSaid) {
    Say(absl::StrCat(SamplesOf(series),
                     " samples are refused: ", std::string(why.message())));
  }
  return absl::OkStatus();
}

void RemoteWriter::Say(const std::string& line) const {
  if (options_.say) options_.say(absl::StrCat("remote write: ", line));
}

}  // namespace gradtap::server
