// Feeds a store in the benchmark's process with steps of a model of so many
// parameters, three roles each.
//
// Layer: tests/bench. This file: std, core, store.

#ifndef GRADTAP_TESTS_BENCH_USUAL_FEEDER_H_
#define GRADTAP_TESTS_BENCH_USUAL_FEEDER_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "core/clock.h"
#include "core/codec.h"
#include "core/schema.h"
#include "server/store/store.h"
#include "tests/bench/usual_step.h"

namespace gradtap::bench {

[[noreturn]] inline void Fail(const std::string& what) {
  std::fprintf(stderr, "benchmark: %s\n", what.c_str());
  std::exit(1);
}

inline void Check(const absl::Status& status) {
  if (!status.ok()) Fail(status.ToString());
}

inline Schema UsualSchema(std::size_t parameters) {
  Schema schema;
  schema.schema_id = 1;
  for (std::size_t i = 0; i < parameters; ++i) {
    Parameter p;
    p.name = "block" + std::to_string(i / 8) + ".layer" +
             std::to_string(i % 8) + ".weight";
    p.dtype = "float32";
    p.shape = {4096};
    p.numel = 4096;
    p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
    schema.parameters.push_back(std::move(p));
  }
  return schema;
}

// Commits steps of one stream as ingest does.
class UsualFeeder {
 public:
  UsualFeeder(server::Store* store, std::size_t parameters)
      : store_(store), step_(UsualStep(parameters)) {
    server::StreamHello hello;
    hello.run = "run";
    hello.launch = "launch";
    hello.process_nonce = std::string(16, 'n');
    const auto stream = store->OpenStream(hello, RealClock().UnixNanos());
    Check(stream.status());
    stream_ = stream->id;
    const std::string record = EncodeSchema(UsualSchema(parameters));
    server::StreamCommit commit;
    commit.schemas.push_back({1, ParseRecord(record)->body});
    Commit(&commit);
  }

  // Makes the bytes of the step that Commit() stores.
  void Encode(std::int64_t step) {
    step_.step = step;
    step_.wall_time_unix_ns = RealClock().UnixNanos();
    record_.resize(EncodedStepSize(step_));
    EncodeStep(step_, record_);
  }

  void Commit() {
    server::StreamCommit commit;
    const std::string_view body = ParseRecord(record_)->body;
    commit.steps.push_back(
        {0, step_.step, true, 3 * step_.roles[0].size(), body, {}});
    commit.bytes = body.size();
    Commit(&commit);
  }

 private:
  void Commit(server::StreamCommit* commit) {
    commit->stream = stream_;
    commit->first_seq = commit->last_seq = ++seq_;
    commit->last_seen_unix_ns = RealClock().UnixNanos();
    Check(store_->Commit({commit, 1}));
  }

  server::Store* const store_;
  StepData step_;
  std::string record_;
  server::StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_USUAL_FEEDER_H_
