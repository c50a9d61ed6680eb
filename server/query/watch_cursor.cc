#include "server/query/watch_cursor.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/match_limit.h"
#include "server/query/errors.h"
#include "server/query/gaps.h"
#include "server/query/row_find.h"
#include "server/query/series_check.h"

namespace gradtap::server {
namespace {

// Bytes of rows that one watcher holds at a time, or one row.
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
// Rows that one call looks at.
constexpr int kBlockRows = 1'024;
// For matching names with one watcher's pattern before another one's turn.
// With a usual pattern 100,000 names take 10 ms.
constexpr std::chrono::milliseconds kMaxMatching{100};

struct StreamPlace {
  const StreamEntry* stream = nullptr;
  std::uint32_t attempt = 0;
};

StreamPlace FindStream(const RunView& run, StreamId id) {
  for (const Attempt& attempt : run.attempts) {
    for (const StreamEntry* stream : attempt.streams) {
      if (stream->id == id) return {stream, attempt.label};
    }
  }
  return {};
}

}  // namespace

absl::StatusOr<std::unique_ptr<WatchCursor>> WatchCursor::Open(
    const QueryEnvironment* environment, OverheadCache* overheads,
    WatchQuestions* questions, const v1::WatchRequest& request) {
  absl::StatusOr<std::shared_ptr<WatchQuestion>> question =
      questions->Get(environment, request);
  if (!question.ok()) return question.status();
  const SnapshotSelection& selection = (*question)->selection();
  absl::StatusOr<RunView> run = OpenRun(*environment->store, request.run());
  if (!run.ok()) return run.status();
  std::unique_ptr<WatchCursor> cursor(
      new WatchCursor(environment, overheads, *question));
  cursor->request_ = request;
  cursor->created_unix_ns_ = run->entry->created_unix_ns;
  if (!selection.statistics.records.empty()) {
    const MatchLimit matching(kMaxMatching);
    absl::Status status =
        CheckParameters({*run}, 0, StatisticSelection{}, selection.match,
                        request.match(), (*question)->schemas());
    if (!status.ok()) return status;
  }
  const std::uint64_t head = run->entry->ordinal;
  if (request.has_after_ordinal() && request.after_ordinal() > head) {
    return absl::OutOfRangeError(
        "after_ordinal " + std::to_string(request.after_ordinal()) +
        " is beyond the newest ordinal of run " + Quote(request.run()) + ", " +
        std::to_string(head) + "; watch without it");
  }
  cursor->position_ =
      request.has_after_ordinal() ? request.after_ordinal() : head;
  cursor->lossless_until_ = head;
  for (const StreamEntry& stream : run->entry->streams) {
    cursor->accounted_[stream.id] = stream.stored_steps;
  }
  return cursor;
}

bool WatchCursor::WantsRank(std::uint32_t rank) const {
  return request_.ranks().empty() ||
         std::find(request_.ranks().begin(), request_.ranks().end(), rank) !=
             request_.ranks().end();
}

absl::StatusOr<RunView> WatchCursor::View() const {
  RunView run;
  run.entry = environment_->store->FindRun(request_.run());
  if (run.entry == nullptr || run.entry->created_unix_ns != created_unix_ns_) {
    return absl::NotFoundError("run " + Quote(request_.run()) +
                               " has been deleted");
  }
  run.attempts = AttemptsOf(*run.entry);
  return run;
}

absl::StatusOr<bool> WatchCursor::Next(WatchMessage* message) {
  *message = {};
  const MatchLimit matching(kMaxMatching);
  absl::StatusOr<RunView> run = View();
  if (!run.ok()) return run.status();
  if (!started_) {
    absl::Status status = Start(*run);
    if (!status.ok()) return status;
    started_ = true;
    return StateChange(*run, message);
  }
  const std::uint64_t head = run->entry->ordinal;
  if (pending_.empty() && position_ < head) {
    absl::Status status;
    if (position_ < lossless_until_) {
      status = ReadBlock(*run, lossless_until_);
    } else if (head - position_ <= kMaxBacklog) {
      status = ReadBlock(*run, head);
    } else {
      status = Conflate(*run);
    }
    if (!status.ok()) return status;
  }
  behind_ = pending_.empty() && position_ < head;
  if (behind_) return false;
  if (pending_.empty()) return StateChange(*run, message);
  absl::Status status = Emit(pending_.front(), message);
  if (!status.ok()) return status;
  pending_.pop_front();
  return true;
}

absl::Status WatchCursor::Start(const RunView& run) {
  if (request_.has_after_ordinal()) return absl::OkStatus();
  return AddNewest(run);
}

// Queues the newest recorded step of each rank of the newest attempt.
absl::Status WatchCursor::AddNewest(const RunView& run) {
  ReadBudget budget(environment_->limits.max_read_bytes, nullptr);
  std::vector<Event> events;
  std::uint32_t newest = 0;
  for (const std::uint32_t rank : run.Ranks(0)) {
    if (!WantsRank(rank)) continue;
    absl::StatusOr<std::optional<Row>> row = NewestRecorded(
        environment_->store, run.LineOf(rank, 0), StepWindow{}, &budget);
    if (!row.ok()) return row.status();
    if (!row->has_value()) continue;
    newest = std::max(newest, (*row)->segment.attempt);
    Event event;
    event.ordinal = (*row)->ordinal;
    event.rank = rank;
    event.row = **std::move(row);
    event.entry = run.entry;
    events.push_back(std::move(event));
  }
  std::erase_if(events, [newest](const Event& event) {
    return event.row->segment.attempt != newest;
  });
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.ordinal < b.ordinal;
  });
  for (Event& event : events) pending_.push_back(std::move(event));
  return absl::OkStatus();
}

// Queues what follows position_, up to `until` or as much as a block holds.
absl::Status WatchCursor::ReadBlock(const RunView& run, std::uint64_t until) {
  std::map<std::uint32_t, Line> lines;
  std::size_t bytes = 0;
  int visited = 0;
  bool full = false;
  absl::Status opened;
  const auto add_row = [&](const StepRow& row) {
    const StreamPlace place = FindStream(run, row.stream);
    if (place.stream == nullptr) return;
    absl::StatusOr<std::shared_ptr<const StoredStep>> step = OpenStep(row);
    opened = step.status();
    if (!opened.ok()) return;
    if (row.ordinal > lossless_until_ && IsRecorded(**step)) {
      ++accounted_[row.stream];
    }
    const std::uint32_t rank = place.stream->hello.rank;
    if (!WantsRank(rank)) return;
    const auto [line, is_new] = lines.try_emplace(rank);
    if (is_new) line->second = run.LineOf(rank, 0);
    const Segment* segment =
        FindSegment(line->second, row.stream, row.branch, row.step);
    if (segment == nullptr) return;  // Replaced by something newer.
    Event event;
    event.ordinal = row.ordinal;
    event.rank = rank;
    event.row = Row{*segment, row.step, row.ordinal, *std::move(step)};
    event.entry = run.entry;
    bytes += row.body.size();
    pending_.push_back(std::move(event));
  };
  const auto add_gap = [&](const GapRow& row) {
    const StreamPlace place = FindStream(run, row.stream);
    if (place.stream == nullptr || !WantsRank(place.stream->hello.rank)) return;
    Event event;
    event.ordinal = row.ordinal;
    event.gap =
        MakeGap(place.attempt, place.stream->hello.rank, row.branch, row.gap);
    pending_.push_back(std::move(event));
  };
  absl::Status status = environment_->store->ScanByOrdinal(
      request_.run(), position_, [&](const StepRow* row, const GapRow* gap) {
        const std::uint64_t ordinal =
            row != nullptr ? row->ordinal : gap->ordinal;
        if (ordinal > until) return false;
        full = bytes >= kBlockBytes || pending_.size() >= kMaxBacklog ||
               ++visited > kBlockRows;
        if (full) return false;
        row != nullptr ? add_row(*row) : add_gap(*gap);
        if (!opened.ok()) return false;
        position_ = ordinal;
        return true;
      });
  if (!status.ok()) return status;
  if (!opened.ok()) return opened;
  if (!full) position_ = until;
  return absl::OkStatus();
}

absl::Status WatchCursor::Conflate(const RunView& run) {
  const std::uint64_t from = position_;
  const std::uint64_t head = run.entry->ordinal;
  std::uint64_t fresh = 0;
  std::vector<Event> events;
  for (const StreamEntry& stream : run.entry->streams) {
    if (!WantsRank(stream.hello.rank)) continue;
    std::uint64_t& accounted = accounted_[stream.id];
    fresh += stream.stored_steps - std::min(accounted, stream.stored_steps);
    accounted = stream.stored_steps;
    absl::StatusOr<std::vector<GapRow>> gaps =
        environment_->store->ReadGaps(stream.id);
    if (!gaps.ok()) return gaps.status();
    const StreamPlace place = FindStream(run, stream.id);
    for (const GapRow& row : *gaps) {
      if (row.ordinal <= from || row.ordinal > head) continue;
      Event event;
      event.ordinal = row.ordinal;
      event.gap =
          MakeGap(place.attempt, stream.hello.rank, row.branch, row.gap);
      events.push_back(std::move(event));
    }
  }
  absl::Status status = AddNewest(run);
  if (!status.ok()) return status;
  std::erase_if(pending_,
                [from](const Event& event) { return event.ordinal <= from; });
  conflated_ += fresh - std::min<std::uint64_t>(fresh, pending_.size());
  for (Event& event : events) pending_.push_back(std::move(event));
  std::sort(
      pending_.begin(), pending_.end(),
      [](const Event& a, const Event& b) { return a.ordinal < b.ordinal; });
  position_ = head;
  return absl::OkStatus();
}

absl::StatusOr<bool> WatchCursor::StateChange(const RunView& run,
                                              WatchMessage* message) {
  const StateSince state = StateOf(
      run.attempts.back(),
      [this](StreamId id) { return environment_->LiveSession(id).has_value(); },
      environment_->clock->UnixNanos());
  const auto attempts = static_cast<std::uint32_t>(run.attempts.size());
  if (state.state == state_.state && attempts == attempts_) return false;
  absl::StatusOr<v1::RunInfo> info =
      DescribeRun(*environment_, run, nullptr, overheads_);
  if (!info.ok()) return info.status();
  state_ = state;
  attempts_ = attempts;
  v1::WatchResponse told;
  *told.mutable_run() = *std::move(info);
  // Whoever resumes from the first message still gets the steps behind it.
  told.set_ordinal(pending_.empty() ? position_ : pending_.front().ordinal - 1);
  told.set_conflated_steps(std::exchange(conflated_, 0));
  message->rest = told.SerializeAsString();
  return true;
}

absl::Status WatchCursor::Emit(const Event& event, WatchMessage* message) {
  v1::WatchResponse rest;
  if (event.gap.has_value()) {
    rest.set_ordinal(event.ordinal);
    *rest.mutable_gap() = *event.gap;
  } else {
    absl::StatusOr<std::shared_ptr<const EncodedEvent>> encoded =
        question_->Encode(event.rank, *event.row, question_.use_count() > 1);
    if (!encoded.ok()) return encoded.status();
    message->event = *std::move(encoded);
  }
  rest.set_conflated_steps(std::exchange(conflated_, 0));
  message->rest = rest.SerializeAsString();
  return absl::OkStatus();
}

}  // namespace gradtap::server
