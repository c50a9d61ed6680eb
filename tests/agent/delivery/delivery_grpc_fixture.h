// Delivery in this process, to a real gRPC server.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_GRPC_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_GRPC_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/test_server.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {

// Long enough for any machine; never waited for where all is well.
inline constexpr std::chrono::seconds kPatience{60};

class DeliveryGrpcTest : public ::testing::Test {
 protected:
  DeliveryOptions Options(const std::string& collector) {
    DeliveryOptions options;
    options.collector = collector;
    options.run = "grpc-test";
    options.ring_bytes = 1 << 20;
    options.ring_folder = rings_.path();
    options.log = [this](const std::string& line) {
      MutexLock lock(mu_);
      lines_.push_back(line);
    };
    return options;
  }

  void Create(const DeliveryOptions& options) {
    auto delivery = Delivery::Create(options);
    GRADTAP_ASSERT_OK(delivery);
    delivery_ = *std::move(delivery);
  }

  void PutSteps(int count, std::size_t places = 10) {
    if (next_step_ == 0) delivery_->PutSchema(testing::MakeSchema(1, places));
    for (int i = 0; i < count; ++i) {
      delivery_->PutStep(testing::MakeStep(next_step_++, 1, places));
    }
  }

  FlushOutcome ShutdownTimed(std::chrono::milliseconds deadline) {
    const auto start = std::chrono::steady_clock::now();
    const FlushOutcome outcome =
        delivery_->Shutdown(EndReason::kFinished, deadline);
    const double ms = std::chrono::duration<double, std::milli>(
                          std::chrono::steady_clock::now() - start)
                          .count();
    std::cout << "shutdown with a deadline of " << deadline.count()
              << " ms returned after " << ms << " ms\n";
    EXPECT_EQ(delivery_->state(), DeliveryState::kStopped);
    return outcome;
  }

  void AwaitState(DeliveryState state) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (delivery_->state() != state &&
           std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
    EXPECT_EQ(delivery_->state(), state);
  }

  std::vector<std::string> Lines() {
    MutexLock lock(mu_);
    return lines_;
  }
  void AwaitLine(const std::string& text) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < until) {
      for (const std::string& line : Lines()) {
        if (line.find(text) != std::string::npos) return;
      }
      std::this_thread::yield();
    }
    ADD_FAILURE() << "nobody said: " << text;
  }

  // Shutdown() does not wait until the server has read it.
  static void AwaitBye(testing::TestServer* server) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (server->byes() == 0 && std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
  }

  void TearDown() override {
    if (delivery_ == nullptr) return;
    const DeliveryCounters c = delivery_->counters();
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_EQ(c.steps_seen, static_cast<std::uint64_t>(next_step_));
  }

  Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
  testing::TempDir rings_;
  std::unique_ptr<Delivery> delivery_;
  std::int64_t next_step_ = 0;
};

inline void ExpectAllStored(const testing::TestServer& server,
                            std::uint64_t steps) {
  const testing::StreamContents contents = server.collector().Contents();
  EXPECT_THAT(server.collector().violations, ::testing::IsEmpty());
  EXPECT_THAT(contents.problems, ::testing::IsEmpty());
  ASSERT_EQ(contents.recorded.size(), steps);
  for (std::uint64_t i = 0; i < steps; ++i) {
    ASSERT_EQ(contents.recorded[i].second, static_cast<std::int64_t>(i));
  }
}

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_GRPC_FIXTURE_H_
