// Streams, steps and schemas for tests of the store and of what is above it.

#ifndef GRADTAP_TESTS_SERVER_STORE_STORE_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_STORE_TESTING_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "core/schema.h"
#include "core/step_data.h"
#include "server/store/store.h"
#include "server/store/stored_step.h"

namespace gradtap::server::testing {

inline StreamHello MakeHello(const std::string& run = "run",
                             const std::string& launch = "launch",
                             std::uint32_t rank = 0, char nonce = 'n') {
  StreamHello hello;
  hello.run = run;
  hello.launch = launch;
  hello.rank = rank;
  hello.world_size = rank + 1;
  hello.process_nonce = std::string(16, nonce);
  hello.start_time_unix_ns = 1'700'000'000'000'000'000;
  hello.host = "host";
  hello.pid = 42;
  hello.agent_version = "0.1.0";
  hello.torch_version = "1.13.1";
  hello.tags = {{"team", "vision"}};
  return hello;
}

// `n` parameters with weight and grad.
inline Schema MakeSchema(std::uint32_t id = 1, std::size_t n = 2) {
  Schema schema;
  schema.schema_id = id;
  for (std::size_t i = 0; i < n; ++i) {
    Parameter p;
    p.name = "layer" + std::to_string(i) + ".weight";
    p.module_path = "layer" + std::to_string(i);
    p.module_type = "Linear";
    p.dtype = "float32";
    p.shape = {4, 2};
    p.device = "cpu";
    p.layout = "strided";
    p.requires_grad = true;
    p.numel = 8;
    p.bytes = 32;
    p.roles = {Role::kWeight, Role::kGrad};
    schema.parameters.push_back(std::move(p));
  }
  schema.fingerprint = FingerprintOf(schema.parameters);
  return schema;
}

// Values that depend on the step, so that no two steps look alike.
inline StepData MakeStep(std::int64_t step, std::size_t n = 2,
                         std::uint32_t schema_id = 1) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = 1'700'000'000'000'000'000 + step;
  data.schema_id = schema_id;
  for (const Role role : {Role::kWeight, Role::kGrad}) {
    RoleColumns columns;
    columns.role = role;
    columns.Resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      Record record;
      record.mean = static_cast<float>(step) + 0.25F;
      record.std = static_cast<float>(i);
      record.abs_mean = 1;
      record.min = -1;
      record.max = 2;
      record.zero = i;
      columns.Set(i, record);
    }
    data.roles.push_back(std::move(columns));
  }
  data.scalars = {{"loss", 1.0 / static_cast<double>(step + 1)}};
  return data;
}

inline std::string EncodedStep(const StepData& step) {
  std::string record(EncodedStepSize(step), '\0');
  EncodeStep(step, record);
  return record;
}

// The message inside an encoded Record.
inline std::string BodyOf(const std::string& record) {
  return std::string(ParseRecord(record)->body);
}

inline std::string StepBody(std::int64_t step, std::size_t n = 2) {
  return BodyOf(EncodedStep(MakeStep(step, n)));
}

// The encoded Step of a visited row, wherever it is: of one that is sealed the
// scalars come by name.
inline std::string StoredBody(const StepRow& row) {
  if (row.window == nullptr) return std::string(row.body);
  const auto step = OpenStep(row);
  if (!step.ok()) return step.status().ToString();
  const auto data = ToStepData(**step, row.window->layout());
  return data.ok() ? BodyOf(EncodedStep(*data)) : data.status().ToString();
}

// A commit that owns what it refers to.
struct OwnedCommit {
  StreamCommit commit;
  std::vector<std::string> bodies;
};

// Steps [first, last] of branch 0, each with its seq: first_seq on.
inline OwnedCommit StepsCommit(StreamId stream, std::uint64_t first_seq,
                               std::int64_t first, std::int64_t last) {
  OwnedCommit owned;
  owned.commit.stream = stream;
  owned.commit.first_seq = first_seq;
  owned.commit.last_seq = first_seq + static_cast<std::uint64_t>(last - first);
  owned.bodies.reserve(static_cast<std::size_t>(last - first + 1));
  for (std::int64_t step = first; step <= last; ++step) {
    owned.bodies.push_back(StepBody(step));
    owned.commit.steps.push_back({0, step, true, 4, owned.bodies.back()});
    owned.commit.bytes += owned.bodies.back().size();
  }
  owned.commit.last_seen_unix_ns = 1'700'000'001'000'000'000;
  return owned;
}

inline std::vector<std::int64_t> StepsOf(Store* store, StreamId stream,
                                         std::uint32_t branch = 0) {
  std::vector<std::int64_t> steps;
  const absl::Status s = store->ScanSteps(stream, branch, INT64_MIN, INT64_MAX,
                                          [&](const StepRow& row) {
                                            steps.push_back(row.step);
                                            return true;
                                          });
  return s.ok() ? steps : std::vector<std::int64_t>{-999};
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_STORE_TESTING_H_
