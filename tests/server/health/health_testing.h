// Steps made by hand for the tests of rules.

#ifndef GRADTAP_TESTS_SERVER_HEALTH_HEALTH_TESTING_H_
#define GRADTAP_TESTS_SERVER_HEALTH_HEALTH_TESTING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/schema.h"
#include "core/step_data.h"
#include "proto/text/rules_text.h"
#include "server/health/rules.h"

namespace gradtap::server::testing {

inline constexpr std::int64_t kStart = 1'700'000'000'000'000'000;
inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::uint64_t kNumel = 64;
inline constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();

// `text` over rules that settle within 20 steps.
inline std::shared_ptr<const Rules> MakeRules(const std::string& text = "") {
  auto file = ParseRules("warm_up_steps: 20\n" + text, "rules");
  EXPECT_TRUE(file.ok()) << file.status();
  auto rules = Rules::Create(*file);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return *rules;
}

inline Parameter MakeWeight(const std::string& name) {
  Parameter parameter;
  parameter.name = name;
  parameter.dtype = "float32";
  parameter.shape = {8, 8};
  parameter.requires_grad = true;
  parameter.numel = kNumel;
  parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
  return parameter;
}

inline std::shared_ptr<const Schema> MakeSchema(
    std::vector<Parameter> parameters, std::uint32_t id = 1) {
  auto schema = std::make_shared<Schema>();
  schema->schema_id = id;
  schema->fingerprint = 1 + id;
  schema->parameters = std::move(parameters);
  return schema;
}

inline Record RecordOf(float std) {
  Record record;
  record.mean = 0;
  record.std = std;
  record.abs_mean = std;
  record.min = -2 * std;
  record.max = 2 * std;
  return record;
}

// A step at which nothing is wrong: weights of 1, gradients of 0.1, updates of
// 0.001, a loss of 2.
inline StepData QuietStep(const Schema& schema, std::int64_t step) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = kStart + step * kSecond;
  data.schema_id = schema.schema_id;
  const std::pair<Role, float> roles[] = {{Role::kWeight, 1.0F},
                                          {Role::kGrad, 0.1F},
                                          {Role::kGradLocal, 0.1F},
                                          {Role::kUpdate, 0.001F},
                                          {Role::kBuffer, 1.0F}};
  for (const auto& [role, std] : roles) {
    std::size_t places = 0;
    for (const Parameter& parameter : schema.parameters) {
      places += parameter.HasRole(role) ? 1 : 0;
    }
    if (places == 0) continue;
    RoleColumns columns;
    columns.role = role;
    columns.Resize(places);
    for (std::size_t i = 0; i < places; ++i) columns.Set(i, RecordOf(std));
    data.roles.push_back(std::move(columns));
  }
  data.scalars.push_back({"loss", 2.0});
  return data;
}

inline RoleColumns* ColumnsOf(StepData* step, Role role) {
  for (RoleColumns& columns : step->roles) {
    if (columns.role == role) return &columns;
  }
  ADD_FAILURE() << "the step has no such role";
  return nullptr;
}

inline void SetStd(StepData* step, Role role, std::size_t place, float std) {
  ColumnsOf(step, role)->Set(place, RecordOf(std));
}

inline void SetNan(StepData* step, Role role, std::size_t place,
                   std::uint64_t elements = kNumel) {
  Record record;
  record.nan = elements;
  if (elements < kNumel) {
    record = RecordOf(0.1F);
    record.nan = elements;
  }
  ColumnsOf(step, role)->Set(place, record);
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_HEALTH_HEALTH_TESTING_H_
