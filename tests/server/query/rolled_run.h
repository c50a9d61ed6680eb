// A run in a store on disk, with spikes, NaN and absent values in every series,
// which a test seals when it likes: what is read from roll-ups is held against
// the same steps read one by one.

#ifndef GRADTAP_TESTS_SERVER_QUERY_ROLLED_RUN_H_
#define GRADTAP_TESTS_SERVER_QUERY_ROLLED_RUN_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/codec.h"
#include "server/query/environment.h"
#include "server/query/row_reader.h"
#include "server/store/rocksdb_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace gradtap::server::testing {

class RolledRun : public ::testing::Test {
 protected:
  void SetUp() override {
    StoreOptions options;
    options.data_dir = dir_.path() + "/data";
    options.seal = false;
    options.window_steps = 128;
    options.shrink_bytes = 1;  // A chapter at a time.
    options.tail_bytes = 0;    // Or the newest steps would be read as rows.
    auto store = RocksdbStore::Open(options, nullptr);
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    environment_.store = store_.get();
    environment_.clock = &RealClock();
    StreamHello hello;
    hello.run = "run";
    hello.launch = "launch";
    hello.process_nonce = std::string(16, 'n');
    stream_ = store_->OpenStream(hello, 1)->id;
  }

  // `first` names the parameters from there on: places differ by schema.
  void AddSchema(std::size_t first, std::size_t n) {
    Schema schema;
    schema.schema_id = ++schema_id_;
    for (std::size_t i = first; i < first + n; ++i) {
      Parameter p;
      p.name = "p" + std::to_string(i);
      p.dtype = "float32";
      p.shape = {50};
      p.numel = 50;
      p.roles = {Role::kWeight};
      if (i % 3 != 0) p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
      schema.parameters.push_back(std::move(p));
    }
    schema_ = schema;
    StreamCommit commit = Next();
    const std::string record = EncodeSchema(schema);
    const std::string body(ParseRecord(record)->body);
    commit.schemas.push_back({schema_id_, body});
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }

  StreamCommit Next() {
    StreamCommit commit;
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns = std::numeric_limits<std::int64_t>::max() / 2;
    return commit;
  }

  StepData MakeStep(std::int64_t step) {
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = 1'000'000'000 * step + clock_offset_ns_ +
                             static_cast<std::int64_t>(random_() % 1'000'000);
    data.schema_id = schema_id_;
    for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
      if (role == left_out_) continue;
      std::size_t n = 0;
      for (const Parameter& p : schema_.parameters) n += p.HasRole(role);
      RoleColumns& columns = data.roles.emplace_back();
      columns.role = role;
      columns.Resize(n);
      for (std::size_t i = 0; i < n; ++i) {
        if (role == Role::kGrad && random_() % 701 == 0) {
          columns.SetAbsent(i);
          continue;
        }
        std::normal_distribution<float> normal;
        Record record;
        record.mean = normal(random_);
        record.std = std::fabs(normal(random_));
        record.abs_mean = std::fabs(record.mean) + record.std;
        record.min = record.mean - 2 * record.std;
        record.max = record.mean + 3 * record.std;
        record.zero = random_() % 3;
        if (random_() % 997 == 0) record.max = 1e6F;  // A spike.
        if (random_() % 1499 == 0) record.nan = 1 + random_() % 3;
        if (random_() % 2503 == 0) {  // Nothing is finite.
          record = Record{};
          record.nan = 50;
        }
        columns.Set(i, record);
      }
    }
    return data;
  }

  void AddSteps(std::int64_t begin, std::int64_t end, std::uint32_t branch = 0,
                std::int64_t skip_every = 0) {
    for (std::int64_t i = begin; i < end;) {
      StreamCommit commit = Next();
      std::vector<std::string> bodies;
      bodies.reserve(200);
      for (; i < end && bodies.size() < 200; ++i) {
        StepData data;
        const bool skipped = skip_every != 0 && i % skip_every == 0;
        if (skipped) {
          data.step = i;
          data.wall_time_unix_ns = 1'000'000'000 * i + clock_offset_ns_;
          data.schema_id = schema_id_;
          data.skipped = GapCause::kLoop;
        } else {
          data = MakeStep(i);
        }
        std::string record(EncodedStepSize(data), '\0');
        EncodeStep(data, record);
        bodies.emplace_back(ParseRecord(record)->body);
        commit.steps.push_back({branch, i, !skipped, 3, bodies.back(), {}});
      }
      GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
    }
  }

  void End() {
    StreamCommit commit = Next();
    commit.end = EndData{EndReason::kFinished, 1, 1, 1, 0, 0};
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }

  void SealAll() {
    for (;;) {
      const auto sealed = store_->SealOne();
      GRADTAP_ASSERT_OK(sealed);
      if (!*sealed) return;
    }
  }

  // What a question asks as it goes on: the first time, all is sealed and
  // bound.
  Cancelled BindNow() {
    return [this] {
      if (!std::exchange(bound_, true)) {
        End();
        SealAll();
      }
      return false;
    };
  }

  // The oldest chapter comes to its roll-ups.
  void Shrink() {
    const auto part =
        store_->ShrinkOldest([](const RunEntry&) { return true; });
    GRADTAP_ASSERT_OK(part);
    ASSERT_TRUE(part->has_value());
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<RocksdbStore> store_;
  QueryEnvironment environment_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
  std::uint32_t schema_id_ = 0;
  Schema schema_;
  std::int64_t clock_offset_ns_ = 0;
  bool bound_ = false;                  // By BindNow().
  Role left_out_ = Role::kUnspecified;  // Steps to come are without it.
  std::mt19937_64 random_{11};
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_QUERY_ROLLED_RUN_H_
