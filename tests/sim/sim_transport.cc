#include "sim/sim_transport.h"

#include <string_view>
#include <utility>
#include <vector>

#include "core/codec.h"

namespace gradtap::sim {
namespace {

// What the code under test owns.
class Lent : public agent::Transport {
 public:
  explicit Lent(std::shared_ptr<SimTransport> own) : own_(std::move(own)) {}
  ~Lent() override { own_->Close(); }

  void Connect() override { own_->Connect(); }
  void Send(const v1::AgentMessage& message) override { own_->Send(message); }
  void HalfClose() override { own_->HalfClose(); }
  void Cancel() override { own_->Cancel(); }
  std::optional<agent::TransportEvent> Wait(
      std::chrono::steady_clock::time_point deadline) override {
    return own_->Wait(deadline);
  }
  void Abandon(std::chrono::steady_clock::time_point deadline) override {
    own_->Abandon(deadline);
  }

 private:
  const std::shared_ptr<SimTransport> own_;
};

}  // namespace

std::unique_ptr<agent::Transport> SimTransport::Lend() {
  return std::make_unique<Lent>(shared_from_this());
}

// ---- What the process asks for.

void SimTransport::Connect() {
  ++calls_;
  if (mutant_ == Mutant::kNeverReconnect && calls_ > 3) return;
  batches_in_call_ = 0;
  credit_ = flying_bytes_ = 0;
  flights_.clear();
  call_ = connect_(this);
  world_->Trace(name_, " connects: call ", call_->id());
}

void SimTransport::Send(const v1::AgentMessage& message) {
  if (message.has_batch()) return SendBatch(message);
  call_->Send(message);
}

void SimTransport::Cancel() {
  if (call_ == nullptr) return;
  world_->Trace(name_, " cancels call ", call_->id());
  call_->Cancel(*partitioned_);
}

void SimTransport::Close() {
  if (closed_) return;
  closed_ = true;
  events_.clear();
  if (call_ != nullptr) call_->Cancel(*partitioned_);
}

void SimTransport::SendBatch(v1::AgentMessage message) {
  v1::Batch* const batch = message.mutable_batch();
  const std::uint64_t last_seq = batch->first_seq() + batch->record_count() - 1;
  CheckCredit(*batch);
  ++batches_in_call_;
  Falsify(batch);
  world_->Trace(name_, " sends seqs ", batch->first_seq(), " to ",
                batch->first_seq() + batch->record_count() - 1, ", ",
                batch->frame().size(), " bytes");
  call_->Send(message);
  if (mutant_ == Mutant::kFreeOnSend) {
    agent::TransportEvent forged;
    forged.kind = agent::TransportEvent::Kind::kMessage;
    forged.message.mutable_ack()->set_durable_seq(last_seq);
    forged.message.mutable_ack()->set_credit_bytes(credit_);
    Post(call_.get(), std::move(forged));
  }
}

void SimTransport::Falsify(v1::Batch* batch) const {
  if (mutant_ == Mutant::kReuseSeq && batches_in_call_ > 2 &&
      batch->first_seq() > 1) {
    batch->set_first_seq(batch->first_seq() - 1);
  }
  const bool skips = mutant_ == Mutant::kSkipAfterReconnect && calls_ > 1 &&
                     batches_in_call_ == 1 && batch->record_count() > 1;
  if (!skips && mutant_ != Mutant::kLoseGap) return;
  const std::string content = *DecompressFrame(batch->frame(), 4u << 20);
  const std::vector<std::string_view> records = *SplitRecordList(content);
  std::string falsified;
  for (std::size_t i = skips ? 1 : 0; i < records.size(); ++i) {
    const auto record = ParseRecord(records[i]);
    const bool gap = record.ok() && record->kind == RecordKind::kGap;
    AppendToRecordList(gap && !skips ? std::string_view() : records[i],
                       &falsified);
  }
  batch->set_frame(CompressFrame(falsified));
  if (skips) batch->set_record_count(batch->record_count() - 1);
}

// ---- What the collector allows.

void SimTransport::CheckCredit(const v1::Batch& batch) {
  const std::uint64_t bytes = batch.frame().size();
  Require(credit_ > 0, name_, " sends a batch without credit");
  if (flights_.empty()) {
    Require(bytes <= credit_ || batch.record_count() == 1, name_, " sends ",
            bytes, " bytes with a credit of ", credit_);
  } else {
    Require(flying_bytes_ + bytes <= credit_, name_, " sends ", bytes,
            " bytes on top of ", flying_bytes_, " with a credit of ", credit_);
  }
  flights_.push_back({batch.first_seq() + batch.record_count() - 1, bytes});
  flying_bytes_ += bytes;
}

void SimTransport::NoteCredit(const v1::CollectorMessage& message) {
  if (message.has_welcome()) credit_ = message.welcome().credit_bytes();
  if (!message.has_ack()) return;
  credit_ = message.ack().credit_bytes();
  while (!flights_.empty() &&
         flights_.front().last_seq <= message.ack().durable_seq()) {
    flying_bytes_ -= flights_.front().bytes;
    flights_.pop_front();
  }
}

// ---- What comes from the network.

std::optional<agent::TransportEvent> SimTransport::Wait(
    std::chrono::steady_clock::time_point) {
  while (!events_.empty()) {
    Arrived arrived = std::move(events_.front());
    events_.pop_front();
    if (!Current(arrived.call)) continue;
    agent::TransportEvent& event = arrived.event;
    if (event.kind == agent::TransportEvent::Kind::kClosed) {
      world_->Trace(name_, " has lost call ", call_->id(), ": ",
                    event.status.ToString());
    }
    NoteCredit(event.message);
    if (mutant_ == Mutant::kIgnoreCredit) {
      constexpr std::uint64_t kMuch = 1u << 30;
      if (event.message.has_welcome()) {
        event.message.mutable_welcome()->set_credit_bytes(kMuch);
      }
      if (event.message.has_ack()) {
        event.message.mutable_ack()->set_credit_bytes(kMuch);
      }
    }
    return std::move(event);
  }
  return std::nullopt;
}

void SimTransport::Post(Call* call, agent::TransportEvent event) {
  if (!Current(call)) return;
  events_.push_back({call, std::move(event)});
  wake_();
}

void SimTransport::OnConnected(Call* call) {
  agent::TransportEvent event;
  event.kind = agent::TransportEvent::Kind::kConnected;
  Post(call, std::move(event));
}

void SimTransport::OnSent(Call* call) {
  agent::TransportEvent event;
  event.kind = agent::TransportEvent::Kind::kSent;
  Post(call, std::move(event));
}

void SimTransport::OnMessage(Call* call, const v1::CollectorMessage& message) {
  agent::TransportEvent event;
  event.kind = agent::TransportEvent::Kind::kMessage;
  event.message = message;
  Post(call, std::move(event));
}

void SimTransport::OnClosed(Call* call, const absl::Status& status) {
  agent::TransportEvent event;
  event.kind = agent::TransportEvent::Kind::kClosed;
  event.status = status;
  Post(call, std::move(event));
}

}  // namespace gradtap::sim
