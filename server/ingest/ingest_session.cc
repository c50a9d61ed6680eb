#include "server/ingest/ingest_session.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ingest/commit_runner.h"

namespace gradtap::server {
namespace {

// A failed commit as the agent sees it. Whatever it is, the agent connects
// again and goes on from the durable cursor.
absl::Status ToCallStatus(const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return absl::AbortedError(status.message());  // The run was deleted.
  }
  return absl::UnavailableError(status.message());
}

template <typename T>
std::size_t SizeOf(const std::vector<T>& some) {
  return some.capacity() * sizeof(T);
}

double Seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

std::size_t BytesHeld(const ValidatedBatch& batch) {
  const StreamCommit& commit = batch.commit;
  std::size_t bytes = batch.content->size() + sizeof batch;
  for (const std::string& record : batch.joined) bytes += record.size();
  for (const SplitStep& step : batch.split) {
    bytes += step.row.size() + sizeof step;
    for (const HistogramBlock& block : step.blocks) {
      bytes += block.body.size() + sizeof block;
    }
  }
  for (const RejectedRecord& record : batch.rejected) {
    bytes += record.reason.size() + sizeof record;
  }
  for (const StreamCommit::Gap& gap : commit.gaps) {
    bytes += gap.gap.detail.size();
  }
  for (const StreamCommit::SchemaBody& schema : commit.schemas) {
    for (const std::string& name : schema.optimizers) {
      bytes += name.size() + sizeof name;
    }
  }
  return bytes + SizeOf(commit.steps) + SizeOf(commit.gaps) +
         SizeOf(commit.schemas) + SizeOf(commit.new_branches) +
         2 * SizeOf(commit.parts) +  // The session keeps them, too.
         (WriteBytes(commit) - commit.bytes);
}

IngestSession::IngestSession(const IngestLimits& limits, TimePoint now)
    : limits_(limits), last_activity_(now) {}

bool IngestSession::wants_read() const {
  if (phase_ == Phase::kHello) return true;
  return phase_ == Phase::kStreaming && pending_bytes_ < limits_.credit_bytes;
}

std::uint64_t IngestSession::BytesIfEndsWithin(std::uint64_t records) const {
  return phase_ == Phase::kStreaming ? validator_->BytesIfEndsWithin(records)
                                     : 0;
}

SessionActions IngestSession::Finish(absl::Status status) {
  SessionActions actions;
  if (phase_ == Phase::kFinished) return actions;
  phase_ = Phase::kFinished;
  validator_.reset();  // With what it keeps of batches under way.
  actions.finish = std::move(status);
  return actions;
}

SessionActions IngestSession::Refuse(RejectCode code, std::string detail) {
  const bool retry =
      code != RejectCode::kInvalid && code != RejectCode::kVersion;
  SessionActions actions = Finish(absl::OkStatus());
  if (actions.finish.has_value()) {
    actions.send.push_back(RejectOut{code, retry, std::move(detail)});
  }
  return actions;
}

SessionActions IngestSession::OutOfOrder(std::string_view what) {
  return Finish(absl::InvalidArgumentError(std::string(what)));
}

// ---- From the peer. ----

SessionActions IngestSession::OnHello(const HelloUntrusted& hello_untrusted,
                                      TimePoint now) {
  if (phase_ == Phase::kFinished) return {};
  if (phase_ != Phase::kHello) return OutOfOrder("a second Hello in one call");
  last_activity_ = now;
  auto hello = ValidateHello(hello_untrusted);
  if (!hello.ok()) {
    return Refuse(absl::IsUnimplemented(hello.status()) ? RejectCode::kVersion
                                                        : RejectCode::kInvalid,
                  std::string(hello.status().message()));
  }
  phase_ = Phase::kOpening;
  SessionActions actions;
  actions.open = *std::move(hello);
  return actions;
}

SessionActions IngestSession::OnBatch(std::uint64_t first_seq,
                                      std::uint32_t record_count,
                                      std::string_view frame_untrusted,
                                      std::int64_t now_unix_ns, TimePoint now) {
  if (phase_ == Phase::kFinished || phase_ == Phase::kEnding) return {};
  if (phase_ != Phase::kStreaming) {
    return OutOfOrder("a Batch before the Welcome");
  }
  last_activity_ = now;
  if (first_seq == 0 || record_count == 0 ||
      first_seq > std::numeric_limits<std::uint64_t>::max() - record_count) {
    return OutOfOrder(absl::StrCat("a batch of ", record_count,
                                   " records from seq ", first_seq));
  }
  const std::uint64_t last_seq = first_seq + record_count - 1;
  SessionActions actions;
  if (last_seq <= validator_->accepted_seq()) {
    // Known already; if it is not durable yet, its own Ack will come.
    if (last_seq <= durable_seq_) {
      actions.send.push_back(AckOut{durable_seq_, {}});
    }
    return actions;
  }
  if (first_seq > validator_->accepted_seq() + 1) {
    return Finish(absl::OutOfRangeError(
        absl::StrCat("expected seq ", validator_->accepted_seq() + 1,
                     ", got a batch from seq ", first_seq)));
  }
  auto batch = validator_->Accept(first_seq, record_count, frame_untrusted);
  if (!batch.ok()) {
    return Finish(absl::IsInvalidArgument(batch.status())
                      ? batch.status()
                      : ToCallStatus(batch.status()));
  }
  (*batch)->commit.last_seen_unix_ns = now_unix_ns;
  ++pending_batches_;
  pending_bytes_ += BytesHeld(**batch);
  actions.commit = *std::move(batch);
  return actions;
}

SessionActions IngestSession::OnHeartbeat(TimePoint now) {
  if (phase_ == Phase::kHello) {
    return OutOfOrder("a Heartbeat before the Hello");
  }
  last_activity_ = now;
  return {};
}

SessionActions IngestSession::OnBye(TimePoint now) {
  if (phase_ == Phase::kHello) return OutOfOrder("a Bye before the Hello");
  last_activity_ = now;
  return {};
}

SessionActions IngestSession::OnUnknownMessage(TimePoint now) {
  if (phase_ == Phase::kHello) {
    return OutOfOrder("the first message is no Hello");
  }
  last_activity_ = now;  // Of a newer version.
  return {};
}

SessionActions IngestSession::OnHalfClose() {
  if (phase_ == Phase::kStreaming && pending_batches_ > 0) {
    phase_ = Phase::kEnding;
    ending_status_ = absl::OkStatus();
    return {};
  }
  if (phase_ == Phase::kEnding) return {};
  return Finish(absl::OkStatus());
}

SessionActions IngestSession::OnGone() {
  return Finish(absl::CancelledError("the agent has gone"));
}

// ---- From the collector. ----

SessionActions IngestSession::OnOpened(const OpenedStream& opened,
                                       TimePoint now) {
  if (phase_ != Phase::kOpening) return {};
  phase_ = Phase::kStreaming;
  last_activity_ = now;
  validator_.emplace(limits_, opened);
  durable_seq_ = opened.entry.durable_seq;
  SessionActions actions;
  actions.send.push_back(
      WelcomeOut{opened.attempt, durable_seq_ + 1, opened.last_step_of_run});
  return actions;
}

SessionActions IngestSession::OnRefused(RejectCode code, std::string detail) {
  if (phase_ != Phase::kOpening) return {};
  return Refuse(code, std::move(detail));
}

SessionActions IngestSession::OnCommitted(std::uint64_t last_seq,
                                          std::size_t bytes,
                                          std::vector<RejectedRecord> rejected,
                                          const absl::Status& status,
                                          TimePoint now) {
  if (phase_ == Phase::kFinished) return {};
  --pending_batches_;
  pending_bytes_ -= bytes;
  last_activity_ = now;
  if (!status.ok()) return Finish(ToCallStatus(status));
  durable_seq_ = last_seq;
  validator_->OnDurable(last_seq);
  SessionActions actions;
  if (phase_ == Phase::kEnding && pending_batches_ == 0) {
    actions = Finish(ending_status_);
  }
  actions.send.push_back(AckOut{durable_seq_, std::move(rejected)});
  return actions;
}

SessionActions IngestSession::OnDrain() {
  constexpr std::string_view kWhy = "the collector is shutting down";
  if (phase_ == Phase::kHello || phase_ == Phase::kOpening) {
    return Refuse(RejectCode::kUnavailable, std::string(kWhy));
  }
  if (phase_ != Phase::kStreaming) return {};
  if (pending_batches_ == 0) {
    return Finish(absl::UnavailableError(std::string(kWhy)));
  }
  phase_ = Phase::kEnding;
  ending_status_ = absl::UnavailableError(std::string(kWhy));
  return {};
}

SessionActions IngestSession::OnTick(TimePoint now) {
  const auto silent = now - last_activity_;
  if (phase_ == Phase::kHello && silent >= limits_.hello_time) {
    limits_.guards.Refused(Limit::kHelloTime);
    return Finish(absl::DeadlineExceededError(
        absl::StrCat("no Hello within ", Seconds(limits_.hello_time), " s")));
  }
  if (phase_ == Phase::kStreaming && pending_batches_ == 0 &&
      silent >= limits_.idle_time) {
    limits_.guards.Refused(Limit::kIdleTime);
    return Finish(absl::DeadlineExceededError(
        absl::StrCat("no message for ", Seconds(limits_.idle_time),
                     " s, not even a heartbeat")));
  }
  return {};
}

}  // namespace gradtap::server
