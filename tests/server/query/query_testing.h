// A store of small runs for the tests of queries.

#ifndef GRADTAP_TESTS_SERVER_QUERY_QUERY_TESTING_H_
#define GRADTAP_TESTS_SERVER_QUERY_QUERY_TESTING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/schema.h"
#include "core/step_data.h"
#include "server/query/environment.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server::testing {

inline constexpr std::int64_t kStart = 1'700'000'000'000'000'000;
inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::uint64_t kNumel = 10;

inline Parameter MakeParameter(const std::string& name,
                               Placement placement = Placement::kReplicated) {
  Parameter parameter;
  parameter.name = name;
  parameter.module_type = "Linear";
  parameter.dtype = "float32";
  parameter.shape = {static_cast<std::int64_t>(kNumel)};
  parameter.requires_grad = true;
  parameter.numel = kNumel;
  parameter.bytes = 4 * kNumel;
  parameter.placement = placement;
  parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
  return parameter;
}

inline Parameter MakeBuffer(const std::string& name) {
  Parameter buffer = MakeParameter(name);
  buffer.kind = Kind::kBuffer;
  buffer.requires_grad = false;
  buffer.roles = {Role::kBuffer};
  return buffer;
}

inline Schema MakeSchema(std::uint32_t id, std::vector<Parameter> parameters) {
  Schema schema;
  schema.schema_id = id;
  schema.parameters = std::move(parameters);
  schema.fingerprint = 1 + id;
  return schema;
}

inline Record RecordOf(float mean, float std = 1) {
  Record record;
  record.mean = mean;
  record.std = std;
  record.abs_mean = mean < 0 ? -mean : mean;
  record.min = mean - 2 * std;
  record.max = mean + 2 * std;
  return record;
}

// A step of a schema; every record's mean is `value` plus its place, plus a
// hundred for each role.
inline StepData MakeStep(const Schema& schema, std::int64_t step, float value,
                         std::int64_t time = kStart) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = time;
  data.schema_id = schema.schema_id;
  for (int role = 1; role < kRoleCount; ++role) {
    std::size_t places = 0;
    for (const Parameter& parameter : schema.parameters) {
      places += parameter.HasRole(static_cast<Role>(role)) ? 1 : 0;
    }
    if (places == 0) continue;
    RoleColumns columns;
    columns.role = static_cast<Role>(role);
    columns.Resize(places);
    for (std::size_t i = 0; i < places; ++i) {
      columns.Set(i, RecordOf(value + static_cast<float>(i + 100 * role)));
    }
    data.roles.push_back(std::move(columns));
  }
  data.scalars = {{"loss", value},
                  {"agent.step_seconds", 0.5},
                  {"agent.capture_seconds", 0.01}};
  return data;
}

inline StepData MakeSkipped(std::int64_t step, GapCause cause, float loss = 0) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = kStart + step * kSecond;
  data.skipped = cause;
  data.scalars = {{"loss", loss}};
  return data;
}

class QueryTest : public ::testing::Test {
 protected:
  QueryTest() : clock_(kStart) {
    environment_.store = &store_;
    environment_.clock = &clock_;
    environment_.live_session =
        [this](StreamId stream) -> std::optional<std::int64_t> {
      if (connected_.count(stream) == 0) return std::nullopt;
      return clock_.UnixNanos();
    };
  }

  StreamId Open(const std::string& run, const std::string& launch = "one",
                std::uint32_t rank = 0, std::int64_t start = kStart,
                std::uint32_t world_size = 1) {
    StreamHello hello;
    hello.run = run;
    hello.launch = launch;
    hello.rank = rank;
    hello.world_size = world_size;
    hello.start_time_unix_ns = start;
    hello.process_nonce = "nonce-" + std::to_string(nonces_++);
    return store_.OpenStream(hello, start)->id;
  }

  // A run of one rank with steps [0, n) of `schema`, a second apart.
  StreamId AddRun(const std::string& run, const Schema& schema, int n) {
    const StreamId stream = Open(run);
    store_.AddSchema(stream, schema);
    for (int i = 0; i < n; ++i) {
      store_.AddStep(
          stream, 0,
          MakeStep(schema, i, static_cast<float>(i), kStart + i * kSecond));
    }
    return stream;
  }

  static GapData GapOf(GapCause cause, std::int64_t first, std::int64_t last) {
    return {cause, first, last, static_cast<std::uint64_t>(last - first + 1),
            ""};
  }

  gradtap::testing::MemoryStore store_;
  gradtap::testing::ManualClock clock_;
  QueryEnvironment environment_;
  std::set<StreamId> connected_;

 private:
  int nonces_ = 0;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_QUERY_QUERY_TESTING_H_
