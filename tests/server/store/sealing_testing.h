// A store that is sealed by hand, and the check that what comes back is what
// was committed, bit for bit, wherever it is.

#ifndef GRADTAP_TESTS_SERVER_STORE_SEALING_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_SEALING_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "server/store/rocksdb_store.h"
#include "server/store/stored_step.h"
#include "server/store/tile/tile.h"
#include "store_testing.h"
#include "tests/support/temp_dir.h"

namespace gradtap::server::testing {

// Of all fields; what lies between them is anything.
inline std::array<std::uint64_t, 9> BitsOf(const Record& record) {
  const auto bits = [](float value) {
    return std::uint64_t{std::bit_cast<std::uint32_t>(value)};
  };
  return {bits(record.mean), bits(record.std), bits(record.abs_mean),
          bits(record.min),  bits(record.max), record.zero,
          record.nan,        record.pos_inf,   record.neg_inf};
}

inline constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();

inline std::string BodyOf(const StepData& step) {
  std::string record(EncodedStepSize(step), '\0');
  EncodeStep(step, record);
  return std::string(ParseRecord(record)->body);
}

// Equal bit for bit, scalars in any order, absent places by being absent.
inline void ExpectSame(const StepData& got, const StepData& want) {
  SCOPED_TRACE("step " + std::to_string(want.step));
  EXPECT_EQ(got.step, want.step);
  EXPECT_EQ(got.wall_time_unix_ns, want.wall_time_unix_ns);
  EXPECT_EQ(got.interval_steps, want.interval_steps);
  EXPECT_EQ(got.skipped, want.skipped);
  EXPECT_EQ(got.skipped_detail, want.skipped_detail);
  std::map<std::string, std::uint64_t> scalars, wanted_scalars;
  for (const auto& s : got.scalars) {
    scalars[s.name] = std::bit_cast<std::uint64_t>(s.value);
  }
  for (const auto& s : want.scalars) {
    wanted_scalars[s.name] = std::bit_cast<std::uint64_t>(s.value);
  }
  EXPECT_EQ(scalars, wanted_scalars);
  ASSERT_EQ(got.roles.size(), want.roles.size());
  for (const RoleColumns& columns : want.roles) {
    const RoleColumns* mine = nullptr;
    for (const RoleColumns& c : got.roles) {
      if (c.role == columns.role) mine = &c;
    }
    ASSERT_NE(mine, nullptr);
    EXPECT_EQ(mine->absent, columns.absent);
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (columns.absent[i] != 0) continue;
      const Record a = mine->Get(i);
      const Record b = columns.Get(i);
      ASSERT_EQ(BitsOf(a), BitsOf(b)) << "place " << i;
    }
  }
}

class SealingTest : public ::testing::Test {
 protected:
  void Open() {
    store_.reset();
    StoreOptions options;
    options.data_dir = dir_.path() + "/data";
    options.seal = seal_;  // Else SealAll() does it.
    if (seal_) options.max_due_bytes = 1;
    options.window_steps = window_steps_;
    options.flush_sealed_writes = flush_sealed_writes_;
    options.tail_bytes = 0;  // Or the newest steps would come from memory.
    auto store = RocksdbStore::Open(options, nullptr);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // A schema of `n` parameters; every third is a buffer, every second has no
  // update, as a frozen one.
  void StartStream(std::size_t n) {
    Open();
    const auto stream = store_->OpenStream(MakeHello(), 1);
    ASSERT_TRUE(stream.ok());
    stream_ = stream->id;
    AddSchema(n);
  }

  void AddSchema(std::size_t n) {
    schema_ = Schema();
    schema_.schema_id = ++schema_id_;
    for (std::size_t i = 0; i < n; ++i) {
      Parameter p;
      p.name = "p" + std::to_string(i);
      p.dtype = "float32";
      p.shape = {100};
      p.numel = 100;
      if (i % 3 == 2) {
        p.kind = Kind::kBuffer;
        p.roles = {Role::kBuffer};
      } else if (i % 2 == 0) {
        p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
      } else {
        p.roles = {Role::kWeight};
      }
      schema_.parameters.push_back(std::move(p));
    }
    StreamCommit commit = NextCommit();
    const std::string record = EncodeSchema(schema_);
    const std::string body(ParseRecord(record)->body);
    commit.schemas.push_back({schema_id_, body});
    ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  }

  StreamCommit NextCommit() {
    StreamCommit commit;
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns = std::numeric_limits<std::int64_t>::max() / 2;
    return commit;
  }

  float AnyFloat() {
    switch (random_() % 24) {
      case 0:
        return -0.0F;
      case 1:
        return std::numeric_limits<float>::infinity();
      case 2:
        return std::numeric_limits<float>::denorm_min();
      case 3:  // A NaN with a payload.
        return std::bit_cast<float>(0x7fc12345U);
      default:
        return std::uniform_real_distribution<float>(-2, 2)(random_);
    }
  }

  StepData RandomStep(std::int64_t step) {
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = 1'700'000'000'000'000'000 + step * 50'000'000 +
                             static_cast<std::int64_t>(random_() % 1'000'000);
    data.schema_id = schema_id_;
    data.interval_steps = 1;
    for (int r = 1; r < kRoleCount; ++r) {
      const auto role = static_cast<Role>(r);
      std::size_t n = 0;
      for (const Parameter& p : schema_.parameters) n += p.HasRole(role);
      if (n == 0) continue;
      // Some steps lack a role altogether.
      if (role == Role::kUpdate && random_() % 50 == 0) continue;
      RoleColumns& columns = data.roles.emplace_back();
      columns.role = role;
      columns.Resize(n);
      for (std::size_t i = 0; i < n; ++i) {
        if (role == Role::kGrad && random_() % 40 == 0) {
          columns.SetAbsent(i);
          continue;
        }
        Record r2;
        r2.mean = AnyFloat();
        r2.std = AnyFloat();
        r2.abs_mean = AnyFloat();
        r2.min = AnyFloat();
        r2.max = AnyFloat();
        if (random_() % 4 == 0) r2.zero = random_() % 100;
        if (random_() % 30 == 0) r2.nan = random_() % 100;
        if (random_() % 30 == 0) r2.pos_inf = random_();
        columns.Set(i, r2);
      }
    }
    data.scalars.push_back({"loss", 1.0 / static_cast<double>(step + 1)});
    if (random_() % 2 == 0) data.scalars.push_back({"lr", 0.125});
    if (random_() % 30 == 0) {
      data.scalars.push_back({"odd", std::numeric_limits<double>::quiet_NaN()});
    }
    return data;
  }

  StepData SkippedStep(std::int64_t step) {
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = 1'700'000'000'000'000'000 + step * 50'000'000;
    data.schema_id = schema_id_;
    data.interval_steps = 4;
    data.skipped = GapCause::kLoop;
    data.skipped_detail = step % 5 == 0 ? "the loss was inf" : "";
    data.scalars.push_back({"loss", 0.5});
    return data;
  }

  // All in one commit.
  void Commit(const std::vector<StepData>& steps, std::uint32_t branch = 0) {
    StreamCommit commit = NextCommit();
    std::vector<std::string> bodies;
    bodies.reserve(steps.size());
    for (const StepData& step : steps) {
      bodies.push_back(BodyOf(step));
      StreamCommit::Step& row = commit.steps.emplace_back();
      row.branch = branch;
      row.step = step.step;
      row.has_statistics = step.skipped == GapCause::kUnspecified;
      row.body = bodies.back();
      commit.bytes += row.body.size();
      sent_[{branch, step.step}] = step;
    }
    ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  }

  void CommitSteps(std::int64_t begin, std::int64_t end,
                   std::uint32_t branch = 0) {
    for (std::int64_t i = begin; i < end; i += 100) {
      std::vector<StepData> steps;
      for (std::int64_t j = i; j < std::min(end, i + 100); ++j) {
        steps.push_back(RandomStep(j));
      }
      Commit(steps, branch);
    }
  }

  void End() {
    StreamCommit commit = NextCommit();
    commit.end = EndData{EndReason::kFinished, 1, 1, 1, 0, 0};
    ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  }

  // Windows sealed.
  int SealAll() {
    int windows = 0;
    for (;;) {
      const auto sealed = store_->SealOne();
      EXPECT_TRUE(sealed.ok()) << sealed.status();
      if (!sealed.ok() || !*sealed) return windows;
      ++windows;
    }
  }

  // All that was sent is there, once, in order; returns how much is in windows.
  int CheckAll(std::uint32_t branch = 0, std::int64_t begin = kNone,
               std::int64_t end = kAll) {
    auto want = sent_.lower_bound({branch, begin});
    int in_windows = 0;
    const auto layout = TileLayout(schema_);
    const absl::Status s =
        store_->ScanSteps(stream_, branch, begin, end, [&](const StepRow& row) {
          EXPECT_NE(want, sent_.end());
          if (want == sent_.end()) return false;
          EXPECT_EQ(row.step, want->second.step);
          in_windows += row.window != nullptr;
          const auto step = OpenStep(row);
          EXPECT_TRUE(step.ok()) << step.status();
          EXPECT_EQ((*step)->ordinal(), row.ordinal);
          if (want->second.schema_id == schema_id_) {
            const auto data = ToStepData(**step, layout);
            EXPECT_TRUE(data.ok()) << data.status();
            ExpectSame(*data, want->second);
          }
          ++want;
          return true;
        });
    EXPECT_TRUE(s.ok()) << s;
    EXPECT_EQ(want, sent_.lower_bound({branch, end}));
    return in_windows;
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<RocksdbStore> store_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
  std::uint32_t schema_id_ = 0;
  Schema schema_;
  std::mt19937_64 random_{7};
  bool flush_sealed_writes_ = false;
  std::uint32_t window_steps_ = kTileSteps;
  bool seal_ = false;
  std::map<std::pair<std::uint32_t, std::int64_t>, StepData> sent_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_SEALING_TESTING_H_
