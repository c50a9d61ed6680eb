// Surroundings for agents under test: a clock, an environment, and a delivery
// that keeps what it is given.
//
// Linking this in place of agent/surroundings.cc is all that is needed.

#ifndef GRADTAP_TESTS_AGENT_FAKE_WORLD_H_
#define GRADTAP_TESTS_AGENT_FAKE_WORLD_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/capture/capture.h"
#include "agent/delivery/delivery.h"
#include "agent/options.h"
#include "core/schema.h"
#include "core/step_data.h"
#include "support/manual_clock.h"

namespace gradtap::testing {

// What the deliveries of a test were given, in order.
struct Delivered {
  struct Gap {
    GapCause cause;
    std::int64_t step;
    std::string detail;
  };

  std::vector<agent::DeliveryOptions> created;
  std::vector<Schema> schemas;
  std::vector<StepData> steps;  // Skipped ones too.
  std::vector<Gap> gaps;
  std::vector<std::int64_t> rollbacks;
  std::vector<std::size_t> reserved;
  // "schema 1", "step 0", "skipped 1", "gap 2", "rollback 0", "end".
  std::vector<std::string> order;
  agent::DeliveryCounters counters;
  int shutdowns = 0;
  std::chrono::milliseconds shutdown_deadline{-1};

  // Of the newest schema: index of `name`, or fails.
  const Parameter& Find(const std::string& name) const;
  // The record of a captured step; nullopt: absent. Fails if there is no place.
  std::optional<Record> Get(const StepData& step, const std::string& name,
                            Role role) const;
  double Scalar(const StepData& step, const std::string& name) const;
  bool HasScalar(const StepData& step, const std::string& name) const;
};

struct FakeWorld {
  ManualClock clock;
  std::int64_t thread_cpu_nanos = 0;
  std::map<std::string, std::string> environment;
  agent::ProcessFacts process{"trainer", "node7", 1'700'000'000};
  Delivered delivered;
  // What Delivery::Create() says.
  absl::Status create_status;
  // The ring is full: steps are lost.
  bool ring_full = false;
  // What PutStep() takes, by the clock.
  std::chrono::nanoseconds put_cost{0};
  // What Shutdown() says could not be delivered.
  std::uint64_t undelivered_steps = 0;
  bool undelivered_are_kept = false;
  // What the collector says of the run; nothing: not connected yet.
  std::optional<std::int64_t> last_step_of_run;
  // Off: counts only, and allocates nothing.
  bool keep = true;
  // What becomes of an agent's capture; null: nothing.
  std::function<std::unique_ptr<agent::Capture>(
      std::unique_ptr<agent::Capture>)>
      adapt_capture;
  agent::DeliveryState state = agent::DeliveryState::kStreaming;
};

// The one that agents see; ResetWorld() makes a fresh one, with no agent alive.
FakeWorld& World();
void ResetWorld();

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_FAKE_WORLD_H_
