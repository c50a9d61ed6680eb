// A transport without a network: a model collector behind a lock.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_FAKE_TRANSPORT_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_FAKE_TRANSPORT_H_

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "agent/delivery/model_collector.h"
#include "agent/delivery/transport.h"
#include "core/sync.h"

namespace gradtap::testing {

// The far side. Thread-safe but for `collector`, which is the test's to read
// once the worker has stopped.
struct FakeNetwork {
  // kRejecting: there, and refuses each process for now.
  enum class Mode { kUp, kRefusing, kRejecting, kBlackHole, kThrowing };

  void Set(Mode to) {
    MutexLock lock(mu);
    mode = to;
    changed.NotifyAll();
  }

  Mutex mu;
  CondVar changed;
  Mode mode ABSL_GUARDED_BY(mu) = Mode::kUp;
  int connects ABSL_GUARDED_BY(mu) = 0;
  ModelCollector collector;
};

class FakeTransport : public agent::Transport {
 public:
  using Event = agent::TransportEvent;

  explicit FakeTransport(FakeNetwork* network) : network_(network) {}

  void Connect() override {
    MutexLock lock(network_->mu);
    ++network_->connects;
    network_->changed.NotifyAll();
    open_ = true;
    if (network_->mode == FakeNetwork::Mode::kThrowing) {
      throw std::runtime_error("no more memory");
    }
    if (network_->mode == FakeNetwork::Mode::kRefusing) {
      Close(absl::UnavailableError("refused"));
    } else if (network_->mode == FakeNetwork::Mode::kUp) {
      network_->collector.Open();
      Push(Event::Kind::kConnected);
    } else if (network_->mode == FakeNetwork::Mode::kRejecting) {
      Push(Event::Kind::kConnected);
    }
  }

  void Send(const v1::AgentMessage& message) override {
    MutexLock lock(network_->mu);
    if (network_->mode == FakeNetwork::Mode::kRejecting) {
      Push(Event::Kind::kSent);
      Push(Event::Kind::kMessage);
      v1::Reject& reject = *events_.back().message.mutable_reject();
      reject.set_code(v1::Reject::CODE_LIMIT);
      reject.set_retry(true);
      reject.set_detail("too many runs");
      return;
    }
    if (network_->mode != FakeNetwork::Mode::kUp) return;
    Push(Event::Kind::kSent);
    ModelCollector::Reply reply = network_->collector.OnMessage(message);
    for (auto& answer : reply.messages) {
      Event event;
      event.kind = Event::Kind::kMessage;
      event.message = std::move(answer);
      events_.push_back(std::move(event));
    }
    if (reply.close) Close(absl::OutOfRangeError(reply.close_reason));
  }

  void HalfClose() override {
    Push(Event::Kind::kSent);
    Close(absl::OkStatus());
  }

  void Cancel() override {
    if (open_) Close(absl::CancelledError("cancelled"));
  }

  std::optional<Event> Wait(
      std::chrono::steady_clock::time_point deadline) override {
    MutexLock lock(network_->mu);
    while (events_.empty()) {
      if (!network_->changed.WaitUntil(network_->mu, deadline) &&
          std::chrono::steady_clock::now() >= deadline) {
        return std::nullopt;
      }
    }
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

  void Abandon(std::chrono::steady_clock::time_point) override {}

 private:
  void Push(Event::Kind kind) {
    Event event;
    event.kind = kind;
    events_.push_back(std::move(event));
  }
  void Close(absl::Status status) {
    Event event;
    event.kind = Event::Kind::kClosed;
    event.status = std::move(status);
    events_.push_back(std::move(event));
    open_ = false;
  }

  FakeNetwork* const network_;
  std::deque<Event> events_;
  bool open_ = false;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_FAKE_TRANSPORT_H_
