// A step as agents record it, for benchmarks.

#ifndef GRADTAP_TESTS_BENCH_USUAL_STEP_H_
#define GRADTAP_TESTS_BENCH_USUAL_STEP_H_

#include <cstddef>
#include <random>

#include "core/step_data.h"

namespace gradtap::bench {

// A step of `parameters` parameters with the usual roles, one count in 50.
inline StepData UsualStep(std::size_t parameters) {
  StepData step;
  step.step = 12'345;
  step.wall_time_unix_ns = 1'700'000'000'000'000'000;
  step.schema_id = 1;
  std::mt19937_64 random(2);
  const auto number = [&] { return static_cast<float>(random()) * 1e-19f; };
  for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
    RoleColumns& columns = step.roles.emplace_back();
    columns.role = role;
    columns.Resize(parameters);
    for (std::size_t i = 0; i < parameters; ++i) {
      columns.Set(i, {number(), number(), number(), number(), number(),
                      random() % 50 == 0 ? random() % 100'000 : 0, 0, 0, 0});
    }
  }
  step.scalars.push_back({"loss", 0.25});
  return step;
}

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_USUAL_STEP_H_
