// A store with runs of random values, for tests of what it keeps.

#ifndef GRADTAP_TESTS_SERVER_STORE_KEEPING_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_KEEPING_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "faulty_fs.h"
#include "server/store/rocksdb_store.h"
#include "store_testing.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace gradtap::server::testing {

class KeepingTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open() {
    store_.reset();
    StoreOptions options;
    options.data_dir = dir_.path() + "/data";
    options.seal = false;  // SealAll() does it.
    options.window_steps = 128;
    options.tail_bytes = tail_bytes_;
    options.shrink_bytes = 1;  // A chapter at a time.
    options.sealed_write_bytes = sealed_write_bytes_;
    options.flush_sealed_writes = flush_sealed_writes_;
    auto store = RocksdbStore::Open(options, env_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Values that do not compress.
  StepData RandomStep(std::int64_t step, std::size_t parameters) {
    StepData data = MakeStep(step, parameters);
    for (RoleColumns& columns : data.roles) {
      for (auto* column : {&columns.mean, &columns.std, &columns.abs_mean,
                           &columns.min, &columns.max}) {
        for (float& value : *column) {
          value = std::uniform_real_distribution<float>(0, 1)(random_);
        }
      }
    }
    return data;
  }

  StreamId AddRun(const std::string& run, std::int64_t steps,
                  std::size_t parameters = 100) {
    const auto stream = store_->OpenStream(MakeHello(run), 1);
    EXPECT_TRUE(stream.ok()) << stream.status();
    StreamCommit commit = Next(stream->id);
    const std::string record = EncodeSchema(MakeSchema(1, parameters));
    const std::string schema(ParseRecord(record)->body);
    commit.schemas.push_back({1, schema});
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
    AddSteps(stream->id, 0, steps, parameters);
    return stream->id;
  }

  void End(StreamId stream) {
    StreamCommit commit = Next(stream);
    commit.end = EndData{EndReason::kFinished, 1, 1, 1, 0, 0};
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
  }

  void AddSteps(StreamId stream, std::int64_t begin, std::int64_t end,
                std::size_t parameters = 100) {
    for (std::int64_t step = begin; step < end;) {
      StreamCommit commit = Next(stream);
      std::vector<std::string> bodies;
      bodies.reserve(100);
      for (; step < end && bodies.size() < 100; ++step) {
        bodies.push_back(BodyOf(EncodedStep(RandomStep(step, parameters))));
        StreamCommit::Step& row = commit.steps.emplace_back();
        row.step = step;
        row.records = parameters * 2;
        row.body = bodies.back();
        commit.bytes += row.body.size();
      }
      GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
    }
  }

  StreamCommit Next(StreamId stream) {
    StreamCommit commit;
    commit.stream = stream;
    for (const auto& run : store_->Runs()) {
      for (const StreamEntry& entry : run->streams) {
        if (entry.id == stream) commit.first_seq = entry.durable_seq + 1;
      }
    }
    commit.last_seq = commit.first_seq;
    // Never silent: what has not ended is sealed window by window.
    commit.last_seen_unix_ns = std::numeric_limits<std::int64_t>::max() / 2;
    return commit;
  }

  int SealAll() {
    int windows = 0;
    for (;;) {
      const auto sealed = store_->SealOne();
      EXPECT_TRUE(sealed.ok()) << sealed.status();
      if (!sealed.ok() || !*sealed) return windows;
      ++windows;
    }
  }

  gradtap::testing::TempDir dir_;
  FaultyEnv faulty_;             // Of use once env_ is its.
  rocksdb::Env* env_ = nullptr;  // That Open() gives to the store.
  std::unique_ptr<RocksdbStore> store_;
  std::mt19937_64 random_{7};
  std::size_t sealed_write_bytes_ = std::size_t{2} << 20;
  bool flush_sealed_writes_ = false;
  std::size_t tail_bytes_ = 0;  // Or the newest steps would be read as rows.
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_KEEPING_TESTING_H_
