// Steps drawn from recorded runs, and a run of them written to a store: what
// the benchmarks of the store share.
//
// Layer: tests. One thread; errors end the program.

#ifndef GRADTAP_TESTS_BENCH_DRAWN_STEPS_H_
#define GRADTAP_TESTS_BENCH_DRAWN_STEPS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/schema.h"
#include "core/step_data.h"
#include "server/store/store.h"
#include "tests/bench/peers/data_set.h"

namespace gradtap::bench {

// In the order of a recording's values.
inline constexpr std::array kDrawnRoles = {Role::kWeight, Role::kGrad,
                                           Role::kUpdate};

// Parameters with weight, gradient and update, or some of them, of kNumel
// elements.
Schema DrawnSchema(std::size_t parameters,
                   const std::vector<Role>& roles = {kDrawnRoles.begin(),
                                                     kDrawnRoles.end()});

// The parameters of one recording, "cnn" or "gpt"; empty: none.
std::vector<Recorded::Series> AsIs(const Recorded& recorded,
                                   const std::string& of);

// One thread.
class DrawnSteps {
 public:
  // Without `as_is` each parameter is a recorded one, begins at a step of its
  // own and has a factor. Runs of other seeds have other times and scalars.
  DrawnSteps(const Recorded& recorded, const Schema& schema,
             const std::vector<Recorded::Series>& as_is, unsigned seed = 1)
      : recorded_(recorded), random_(seed), schema_(schema) {
    const std::size_t parameters = schema.parameters.size();
    for (const Recorded::Series& series : as_is) {
      from_.push_back({series, 0, 1});
    }
    for (std::size_t i = from_.size(); i < parameters; ++i) {
      from_.push_back({recorded.series()[i % recorded.series().size()],
                       static_cast<std::int64_t>(random_() % 1000),
                       0.5F + static_cast<float>(random_() % 1000) / 1000});
    }
    for (const Role role : schema.parameters.at(0).roles) {
      step_.roles.emplace_back().role = role;
      step_.roles.back().Resize(parameters);
    }
    step_.schema_id = 1;
    step_.scalars = {{"loss", 0}, {"agent.step_seconds", 0}};
  }

  const Schema& schema() const { return schema_; }
  // Of the step made last.
  std::int64_t now_unix_ns() const { return step_.wall_time_unix_ns; }

  const StepData& At(std::int64_t step) {
    step_.step = step;
    step_.wall_time_unix_ns = 1'700'000'000'000'000'000 + step * 50'000'000 +
                              static_cast<std::int64_t>(random_() % 4'000'000);
    step_.scalars[0].value =  // A loss is a float32, and noisy.
        static_cast<float>(random_() % 1000 + 1000) /
        (1000.0F + static_cast<float>(step));
    step_.scalars[1].value = 0.05 + 1e-9 * static_cast<double>(random_() % 999);
    const std::int64_t n = recorded_.steps();
    for (std::size_t i = 0; i < from_.size(); ++i) {
      // There and back again.
      std::int64_t at = (step + from_[i].begin) % (2 * n - 2);
      if (at >= n) at = 2 * n - 2 - at;
      const float* values = recorded_.At(from_[i].series, at);
      for (RoleColumns& columns : step_.roles) {
        const auto recorded =
            std::find(kDrawnRoles.begin(), kDrawnRoles.end(), columns.role);
        const float* v = values + 5 * (recorded - kDrawnRoles.begin());
        const float f = from_[i].factor;
        columns.Set(
            i, {v[0] * f, v[1] * f, v[2] * f, v[3] * f, v[4] * f, 0, 0, 0, 0});
      }
    }
    return step_;
  }

 private:
  struct From {
    Recorded::Series series;
    std::int64_t begin;
    float factor;
  };
  const Recorded& recorded_;
  std::mt19937_64 random_;
  const Schema schema_;
  std::vector<From> from_;
  StepData step_;
};

// Commits one run in writes of some 8 MB.
class RunWriter {
 public:
  RunWriter(server::Store* store, const std::string& run, DrawnSteps* source);

  // Steps from where the last call ended to `end`; the last ones of the run if
  // `last`. Returns the seconds of all commits; `on_commit` gets those of each.
  double WriteTo(std::int64_t end, bool last,
                 const std::function<void(double)>& on_commit = {});

 private:
  server::Store* const store_;
  DrawnSteps* const source_;
  server::StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
  std::int64_t step_ = 0;
};

// Of this process.
double CpuSeconds();
double ResidentMiB();

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_DRAWN_STEPS_H_
