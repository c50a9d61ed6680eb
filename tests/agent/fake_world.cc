#include "agent/fake_world.h"

#include <cmath>
#include <memory>
#include <stdexcept>
#include <utility>

#include "agent/surroundings.h"

namespace gradtap::testing {
namespace {

class FakeDelivery : public agent::Delivery {
 public:
  explicit FakeDelivery(FakeWorld* world) : world_(*world) {}

  void PutSchema(const Schema& schema) noexcept override {
    if (!world_.keep) return;
    d().schemas.push_back(schema);
    Note("schema", schema.schema_id);
  }

  void PutStep(const StepData& step) noexcept override {
    world_.clock.Advance(world_.put_cost);
    ++d().counters.steps_seen;
    const bool skipped = step.skipped != GapCause::kUnspecified;
    if (world_.ring_full) {
      ++d().counters.steps_lost;
      ++d().counters.by_cause[GapCause::kRingFull];
      return;
    }
    d().counters.bytes_recorded += 1000;
    if (skipped) {
      ++d().counters.steps_skipped;
      ++d().counters.by_cause[step.skipped];
    } else {
      ++d().counters.steps_recorded;
    }
    if (!world_.keep) return;
    d().steps.push_back(step);
    Note(skipped ? "skipped" : "step", step.step);
  }

  void PutGap(GapCause cause, std::int64_t step,
              const std::string& detail) noexcept override {
    ++d().counters.steps_seen;
    ++(IsLost(cause) ? d().counters.steps_lost : d().counters.steps_skipped);
    ++d().counters.by_cause[cause];
    d().gaps.push_back({cause, step, detail});
    Note("gap", step);
  }

  void Rollback(std::int64_t step) noexcept override {
    d().rollbacks.push_back(step);
    Note("rollback", step);
  }

  void ReserveForSteps(std::size_t step_bytes) noexcept override {
    d().reserved.push_back(step_bytes);
  }

  agent::FlushOutcome Flush(std::chrono::milliseconds) noexcept override {
    d().counters.steps_acknowledged = d().counters.steps_recorded;
    return {true, 0, 0};
  }

  agent::FlushOutcome Shutdown(
      EndReason, std::chrono::milliseconds deadline) noexcept override {
    ++d().shutdowns;
    d().shutdown_deadline = deadline;
    d().order.push_back("end");
    return {world_.undelivered_steps == 0, world_.undelivered_steps, 0,
            world_.undelivered_are_kept};
  }

  agent::DeliveryState state() const override { return world_.state; }
  agent::DeliveryCounters counters() const override {
    return world_.delivered.counters;
  }
  std::uint64_t bytes_recorded() const override {
    return world_.delivered.counters.bytes_recorded;
  }
  std::uint64_t ring_bytes() const override { return 64u << 20; }
  std::string ring_place() const override { return "memory only: a fake"; }
  std::optional<std::int64_t> last_step_of_run() const override {
    return world_.last_step_of_run;
  }

 private:
  Delivered& d() { return world_.delivered; }
  void Note(const char* what, std::int64_t number) {
    d().order.push_back(std::string(what) + " " + std::to_string(number));
  }

  FakeWorld& world_;
};

std::unique_ptr<FakeWorld>& Holder() {
  static auto* const holder =
      new std::unique_ptr<FakeWorld>(std::make_unique<FakeWorld>());
  return *holder;
}

}  // namespace

const Parameter& Delivered::Find(const std::string& name) const {
  for (const Parameter& p : schemas.at(schemas.size() - 1).parameters) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no parameter is called " + name);
}

std::optional<Record> Delivered::Get(const StepData& step,
                                     const std::string& name, Role role) const {
  const Schema* schema = nullptr;
  for (const Schema& s : schemas) {
    if (s.schema_id == step.schema_id) schema = &s;
  }
  if (schema == nullptr) throw std::out_of_range("the step has no schema");
  std::size_t place = 0;
  for (const Parameter& p : schema->parameters) {
    if (p.name != name) {
      place += p.HasRole(role);
      continue;
    }
    if (!p.HasRole(role)) throw std::out_of_range(name + " lacks the role");
    for (const RoleColumns& columns : step.roles) {
      if (columns.role != role) continue;
      if (columns.absent.at(place) != 0) return std::nullopt;
      return columns.Get(place);
    }
  }
  throw std::out_of_range("no column for " + name);
}

double Delivered::Scalar(const StepData& step, const std::string& name) const {
  for (const ScalarValue& s : step.scalars) {
    if (s.name == name) return s.value;
  }
  throw std::out_of_range("no scalar is called " + name);
}

bool Delivered::HasScalar(const StepData& step, const std::string& name) const {
  for (const ScalarValue& s : step.scalars) {
    if (s.name == name) return true;
  }
  return false;
}

FakeWorld& World() { return *Holder(); }
void ResetWorld() { Holder() = std::make_unique<FakeWorld>(); }

}  // namespace gradtap::testing

namespace gradtap::agent {

Surroundings GetSurroundings() {
  testing::FakeWorld& world = testing::World();
  Surroundings s;
  s.clock = &world.clock;
  s.environment = [&world](const char* name) -> const char* {
    const auto it = world.environment.find(name);
    return it == world.environment.end() ? nullptr : it->second.c_str();
  };
  s.thread_cpu_nanos = [] { return testing::World().thread_cpu_nanos; };
  s.process = world.process;
  s.adapt_capture = world.adapt_capture;
  s.make_delivery = [&world](DeliveryOptions options)
      -> absl::StatusOr<std::unique_ptr<Delivery>> {
    world.delivered.created.push_back(std::move(options));
    if (!world.create_status.ok()) return world.create_status;
    return std::make_unique<testing::FakeDelivery>(&world);
  };
  return s;
}

}  // namespace gradtap::agent
