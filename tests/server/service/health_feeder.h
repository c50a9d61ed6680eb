// Steps with and without NaN, into a store as ingest would put them there.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_HEALTH_FEEDER_H_
#define GRADTAP_TESTS_SERVER_SERVICE_HEALTH_FEEDER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "core/clock.h"
#include "core/codec.h"
#include "server/health/health_testing.h"
#include "server/store/store.h"
#include "support/status_matchers.h"

namespace gradtap::server::testing {

// A run with two parameters, "conv1.weight" and `name`, of one rank.
class HealthFeeder {
 public:
  HealthFeeder(Store* store, const std::string& run,
               const std::string& name = "fc.weight", std::uint32_t rank = 0)
      : store_(store),
        schema_(MakeSchema({MakeWeight("conv1.weight"), MakeWeight(name)})) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "launch";
    hello.rank = rank;
    hello.process_nonce = std::string(16, static_cast<char>('a' + rank));
    hello.start_time_unix_ns = kStart;
    const auto entry = store->OpenStream(hello, RealClock().UnixNanos());
    GRADTAP_EXPECT_OK(entry);
    if (!entry.ok()) return;
    stream_ = entry->id;
    seq_ = entry->durable_seq;
    if (seq_ > 0) return;
    const std::string record = EncodeSchema(*schema_);
    StreamCommit commit;
    commit.schemas.push_back({1, ParseRecord(record)->body});
    Commit(std::move(commit));
  }

  // `bad`: five elements of the second parameter's gradient are NaN.
  void Step(std::int64_t step, bool bad = false) {
    StepData data = QuietStep(*schema_, step);
    data.wall_time_unix_ns = RealClock().UnixNanos();
    if (bad) SetNan(&data, Role::kGrad, 1, 5);
    std::string record(EncodedStepSize(data), '\0');
    EncodeStep(data, {record.data(), record.size()});
    StreamCommit commit;
    StreamCommit::Step row;
    row.step = step;
    row.records = 6;
    row.body = ParseRecord(record)->body;
    commit.steps.push_back(row);
    Commit(std::move(commit));
  }
  void End() {
    StreamCommit commit;
    commit.end = EndData{EndReason::kFinished, kStart, 1, 1, 0, 0};
    Commit(std::move(commit));
  }

 private:
  void Commit(StreamCommit commit) {
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns = RealClock().UnixNanos();
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
  }

  Store* const store_;
  const std::shared_ptr<const Schema> schema_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_HEALTH_FEEDER_H_
