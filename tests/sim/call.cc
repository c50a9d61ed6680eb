#include "sim/call.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace gradtap::sim {
namespace {

constexpr Duration kMoment = microseconds(50);

}  // namespace

void Call::Reach(CollectorEnd* collector) {
  collector_ = collector;
  world_->After(world_->random().Between(kMoment, weather_->latency),
                [self = shared_from_this()] {
                  if (!self->agent_open_ || self->broken_) return;
                  self->collector_open_ = true;
                  self->collector_->OnCall(self);
                  if (self->agent_open_) self->agent_->OnConnected(self.get());
                });
}

void Call::MeetNobody() {
  world_->After(world_->random().Between(kMoment, weather_->latency),
                [self = shared_from_this()] {
                  self->CloseAgent(absl::UnavailableError("refused"));
                });
}

Duration Call::NextArrival(Way* way) {
  const Duration at =
      world_->now() + world_->random().Between(kMoment, weather_->latency);
  way->last_at = std::max(way->last_at, at);
  ++way->in_flight;
  return way->last_at - world_->now();
}

// ---- Up. ----

void Call::SendUp(Up message) {
  if (!agent_open_) return;
  const std::size_t bytes = message.has_value() && message->has_batch()
                                ? message->batch().frame().size() + 16
                                : 64;
  unread_bytes_ += bytes;
  if (!broken_) {
    world_->After(NextArrival(&up_), [self = shared_from_this(), message] {
      self->DeliverUp(message, false);
    });
  }
  if (unread_bytes_ <= weather_->window_bytes || unread_bytes_ == bytes) {
    world_->After(kMoment, [self = shared_from_this()] {
      if (self->agent_open_) self->agent_->OnSent(self.get());
    });
  } else {
    sent_pending_ = true;  // Until the collector has read more.
  }
}

void Call::DeliverUp(Up message, bool was_late) {
  if (broken_ && late_ > Duration(0) && !was_late) {
    world_->After(late_, [self = shared_from_this(), message] {
      self->DeliverUp(message, true);
    });
    return;
  }
  --up_.in_flight;
  if (!collector_open_) return;
  if (broken_) {
    if (up_.budget == 0) return;
    --up_.budget;
  }
  arrived_.push_back(std::move(message));
  TryRead();
}

void Call::WantRead() {
  read_wanted_ = true;
  // Not from within the caller.
  world_->After(Duration(0), [self = shared_from_this()] { self->TryRead(); });
}

void Call::TryRead() {
  if (!read_wanted_ || arrived_.empty() || !collector_open_) return;
  read_wanted_ = false;
  const Up message = std::move(arrived_.front());
  arrived_.pop_front();
  const std::size_t bytes = message.has_value() && message->has_batch()
                                ? message->batch().frame().size() + 16
                                : 64;
  unread_bytes_ -= bytes;
  if (sent_pending_ && unread_bytes_ <= weather_->window_bytes && !broken_) {
    sent_pending_ = false;
    world_->After(kMoment, [self = shared_from_this()] {
      if (self->agent_open_) self->agent_->OnSent(self.get());
    });
  }
  collector_->OnRead(this, message.has_value() ? &*message : nullptr);
}

// ---- Down. ----

void Call::DeliverDown(std::function<void()> deliver) {
  world_->After(NextArrival(&down_),
                [self = shared_from_this(), deliver = std::move(deliver)] {
                  --self->down_.in_flight;
                  if (!self->agent_open_) return;
                  if (self->broken_) {
                    if (self->down_.budget == 0) return;
                    --self->down_.budget;
                  }
                  deliver();
                });
}

void Call::Write(const v1::CollectorMessage& message, bool untold) {
  if (!collector_open_) return;
  if (!broken_) {
    DeliverDown([this, message] { agent_->OnMessage(this, message); });
  }
  if (untold) return;
  write_pending_ = true;
  world_->After(world_->random().Between(kMoment, weather_->latency),
                [self = shared_from_this()] {
                  if (!self->collector_open_) return;
                  self->write_pending_ = false;
                  self->collector_->OnWritten(self.get(), true);
                });
}

void Call::Finish(const absl::Status& status) {
  if (!collector_open_) return;
  collector_open_ = false;
  arrived_.clear();
  if (broken_) return;
  DeliverDown([this, status] { CloseAgent(status); });
}

// ---- Ends. ----

void Call::CloseAgent(const absl::Status& status) {
  if (!agent_open_) return;
  agent_open_ = false;
  agent_->OnClosed(this, status);
}

void Call::CloseCollector() {
  if (!collector_open_) return;
  collector_open_ = false;
  arrived_.clear();
  // What is under way ends, before or after.
  const bool first = world_->random().OneIn(2);
  if (first) collector_->OnGone(this);
  if (read_wanted_) collector_->OnRead(this, nullptr);
  if (write_pending_) collector_->OnWritten(this, false);
  if (!first) collector_->OnGone(this);
}

void Call::BreakWays() {
  if (broken_) return;
  broken_ = true;
  up_.budget = world_->random().Below(up_.in_flight + 1);
  down_.budget = world_->random().Below(down_.in_flight + 1);
}

void Call::Cancel(bool far) {
  BreakWays();
  down_.budget = 0;
  world_->After(kMoment, [self = shared_from_this()] {
    self->CloseAgent(absl::CancelledError("cancelled"));
  });
  if (far) return;
  world_->After(world_->random().Between(kMoment, weather_->latency),
                [self = shared_from_this()] { self->CloseCollector(); });
}

void Call::LoseCollector(Duration notice) {
  collector_open_ = false;
  arrived_.clear();
  BreakWays();
  world_->After(notice, [self = shared_from_this()] {
    self->CloseAgent(absl::UnavailableError("the collector is gone"));
  });
}

void Call::Break(Duration late, std::optional<Duration> agent_notice,
                 std::optional<Duration> collector_notice) {
  if (broken_) return;
  BreakWays();
  late_ = late;
  if (agent_notice.has_value()) {
    world_->After(*agent_notice, [self = shared_from_this()] {
      self->CloseAgent(absl::UnavailableError("connection lost"));
    });
  }
  if (collector_notice.has_value()) {
    world_->After(*collector_notice,
                  [self = shared_from_this()] { self->CloseCollector(); });
  }
}

}  // namespace gradtap::sim
