// The agent's delivery without a training loop: sends the steps of a data set's
// file (data_set.h) to a collector as fast as it acknowledges them.
//
//   peers_feeder HOST:PORT RUN FILE PARAMETERS
//
// Prints how many seconds passed from the first step, before which there was no
// connection, until all were acknowledged. Never has more than a quarter of the
// ring in flight, so that no step is lost. A program of its own since the
// agent's copy of the generated code and the query library's do not share a
// process.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "agent/delivery/delivery.h"
#include "bench/peers/data_set.h"
#include "core/codec.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::bench {
namespace {

Schema MakeSchema(std::size_t parameters) {
  Schema schema;
  schema.schema_id = 1;
  for (std::size_t i = 0; i < parameters; ++i) {
    Parameter p;
    p.name = "p" + std::to_string(i);
    p.dtype = "float32";
    p.device = "cpu";
    p.layout = "strided";
    p.shape = {64, 64};
    p.numel = kNumel;
    p.bytes = 4 * kNumel;
    p.requires_grad = true;
    p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
    schema.parameters.push_back(std::move(p));
  }
  schema.fingerprint = FingerprintOf(schema.parameters);
  return schema;
}

StepData MakeStep(std::size_t parameters) {
  StepData step;
  step.schema_id = 1;
  for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
    RoleColumns columns;
    columns.role = role;
    columns.Resize(parameters);
    step.roles.push_back(std::move(columns));
  }
  return step;
}

// The floats of a step, in the file's order.
void Fill(const float* from, std::size_t parameters, std::int64_t number,
          StepData* step) {
  step->step = number;
  step->wall_time_unix_ns =
      (std::int64_t{1'600'000'000} + number) * 1'000'000'000;
  for (RoleColumns& role : step->roles) {
    for (auto* column :
         {&role.mean, &role.std, &role.abs_mean, &role.min, &role.max}) {
      column->assign(from, from + parameters);
      from += parameters;
    }
  }
}

int Feed(const std::string& collector, const std::string& run,
         const std::string& path, std::size_t parameters) {
  agent::DeliveryOptions options;
  options.collector = collector;
  options.run = run;
  options.log = [](const std::string& line) { std::cerr << line << "\n"; };
  auto created = agent::Delivery::Create(std::move(options));
  if (!created.ok()) {
    std::cerr << "peers_feeder: " << created.status().ToString() << "\n";
    return 2;
  }
  agent::Delivery& delivery = **created;
  const MappedFile file(path);
  const std::size_t row = kFloats * parameters;
  const auto* const values = reinterpret_cast<const float*>(file.data());
  const auto steps =
      static_cast<std::int64_t>(file.size() / (row * sizeof(float)));
  file.Touch();
  const Schema schema = MakeSchema(parameters);
  StepData step = MakeStep(parameters);
  const auto start = std::chrono::steady_clock::now();
  delivery.PutSchema(schema);
  for (std::int64_t i = 0; i < steps; ++i) {
    Fill(values + static_cast<std::size_t>(i) * row, parameters, i, &step);
    for (;;) {
      const agent::DeliveryCounters c = delivery.counters();
      if (c.bytes_recorded - c.bytes_acknowledged < delivery.ring_bytes() / 4) {
        break;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    delivery.PutStep(step);
  }
  delivery.Flush(std::chrono::minutes(10));
  const std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  const agent::DeliveryCounters c = delivery.counters();
  delivery.Shutdown(EndReason::kFinished, std::chrono::minutes(1));
  if (c.steps_acknowledged == static_cast<std::uint64_t>(steps)) {
    std::cout << seconds.count() << std::endl;
    return 0;
  }
  std::cerr << "peers_feeder: of " << steps << " steps " << c.steps_acknowledged
            << " were acknowledged, " << c.steps_lost << " lost\n";
  return 1;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "peers_feeder HOST:PORT RUN FILE PARAMETERS\n";
    return 2;
  }
  return gradtap::bench::Feed(argv[1], argv[2], argv[3], std::stoull(argv[4]));
}
