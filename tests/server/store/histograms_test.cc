// Histograms in the store: apart from the rows, in the same commit.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/store/store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::TempDir;
using testing::MakeHello;
using testing::StepBody;
using testing::StepsOf;
using testing::StoredBody;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;
constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

class StoreHistogramsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    stream_ = store_->OpenStream(MakeHello(), kNow)->id;
  }

  void Open() {
    store_.reset();
    auto store = OpenRocksdbStore({temp_.path() + "/data"});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
  }

  static std::string BodyOf(std::int64_t step, Role role, std::uint32_t block) {
    return "body of " + std::to_string(step) + " " +
           std::to_string(static_cast<int>(role)) + " " + std::to_string(block);
  }

  // One step; `blocks` of weights and of gradients, if any.
  absl::Status Add(std::int64_t step, std::uint32_t blocks,
                   std::uint32_t branch = 0) {
    const std::string body = StepBody(step);
    std::vector<HistogramBlock> all;
    for (const Role role : {Role::kWeight, Role::kGrad}) {
      for (std::uint32_t block = 0; block < blocks; ++block) {
        all.push_back({role, block, BodyOf(step, role, block)});
      }
    }
    StreamCommit commit;
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.steps.push_back({branch, step, true, 4, body, all});
    if (branch > branches_) {
      commit.new_branches.push_back({branch, step});
      branches_ = branch;
    }
    return store_->Commit({&commit, 1});
  }

  std::optional<std::string> Read(std::int64_t step, Role role,
                                  std::uint32_t block,
                                  std::uint32_t branch = 0) {
    const auto read =
        store_->ReadHistogramBlock(stream_, branch, step, role, block);
    EXPECT_THAT(read, ::gradtap::testing::IsOk());
    return read.ok() ? *read : std::nullopt;
  }

  std::optional<std::int64_t> Find(std::int64_t begin, std::int64_t end,
                                   bool highest, std::uint32_t branch = 0) {
    const auto found =
        store_->FindHistogramStep(stream_, branch, begin, end, highest);
    EXPECT_THAT(found, ::gradtap::testing::IsOk());
    return found.ok() ? *found : std::nullopt;
  }

  TempDir temp_;
  std::unique_ptr<Store> store_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
  std::uint32_t branches_ = 0;
};

TEST_F(StoreHistogramsTest, BlocksComeBackAlsoAfterOpeningAgain) {
  GRADTAP_ASSERT_OK(Add(0, 0));
  GRADTAP_ASSERT_OK(Add(1, 3));
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(Read(1, Role::kWeight, 0), BodyOf(1, Role::kWeight, 0));
    EXPECT_EQ(Read(1, Role::kGrad, 2), BodyOf(1, Role::kGrad, 2));
    EXPECT_EQ(Read(1, Role::kGrad, 3), std::nullopt);
    EXPECT_EQ(Read(1, Role::kUpdate, 0), std::nullopt);
    EXPECT_EQ(Read(0, Role::kGrad, 0), std::nullopt);
    EXPECT_EQ(StepsOf(store_.get(), stream_),
              (std::vector<std::int64_t>{0, 1}));
    Open();
  }
}

TEST_F(StoreHistogramsTest, TheRowDoesNotHoldThem) {
  GRADTAP_ASSERT_OK(Add(5, 2));
  GRADTAP_ASSERT_OK(
      store_->ScanSteps(stream_, 0, 0, kEnd, [&](const StepRow& row) {
        EXPECT_EQ(StoredBody(row), StepBody(5));
        return true;
      }));
}

TEST_F(StoreHistogramsTest, StepsThatHaveSomeAreFoundFromEitherEnd) {
  EXPECT_EQ(Find(0, kEnd, true), std::nullopt);
  for (std::int64_t step = 0; step < 40; ++step) {
    GRADTAP_ASSERT_OK(Add(step, step % 10 == 5 ? 2 : 0));
  }
  EXPECT_EQ(Find(0, kEnd, false), 5);
  EXPECT_EQ(Find(0, kEnd, true), 35);
  EXPECT_EQ(Find(5, 6, false), 5);
  EXPECT_EQ(Find(6, 15, false), std::nullopt);
  EXPECT_EQ(Find(6, 15, true), std::nullopt);
  EXPECT_EQ(Find(6, 16, true), 15);
  EXPECT_EQ(Find(16, kEnd, false), 25);
  EXPECT_EQ(Find(0, 35, true), 25);
  EXPECT_EQ(Find(36, kEnd, false), std::nullopt);
  EXPECT_EQ(Find(9, 9, true), std::nullopt);
  EXPECT_EQ(Find(9, 3, false), std::nullopt);
  EXPECT_EQ(Find(0, kEnd, true, /*branch=*/1), std::nullopt);
}

TEST_F(StoreHistogramsTest, BranchesAndStreamsKeepTheirOwn) {
  GRADTAP_ASSERT_OK(Add(7, 1));
  GRADTAP_ASSERT_OK(Add(3, 1, 1));
  EXPECT_EQ(Find(0, kEnd, true, 0), 7);
  EXPECT_EQ(Find(0, kEnd, true, 1), 3);
  EXPECT_EQ(Read(3, Role::kGrad, 0, 0), std::nullopt);
  EXPECT_EQ(Read(3, Role::kGrad, 0, 1), BodyOf(3, Role::kGrad, 0));
  const auto other = store_->OpenStream(MakeHello("run", "launch", 1), kNow);
  GRADTAP_ASSERT_OK(other);
  const auto found = store_->FindHistogramStep(other->id, 0, 0, kEnd, true);
  GRADTAP_ASSERT_OK(found);
  EXPECT_EQ(*found, std::nullopt);
}

TEST_F(StoreHistogramsTest, TheyGoWithTheirRun) {
  GRADTAP_ASSERT_OK(Add(0, 3));
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_FALSE(store_->ReadHistogramBlock(stream_, 0, 0, Role::kGrad, 0).ok());
  // A run of that name begins anew.
  stream_ = store_->OpenStream(MakeHello(), kNow)->id;
  EXPECT_EQ(Find(0, kEnd, true), std::nullopt);
  EXPECT_EQ(Read(0, Role::kGrad, 0), std::nullopt);
}

TEST_F(StoreHistogramsTest, ACommitThatIsRefusedLeavesNone) {
  StreamCommit commit;
  commit.stream = stream_;
  commit.first_seq = commit.last_seq = 99;  // Not the next one.
  const std::string body = StepBody(0);
  const std::vector<HistogramBlock> blocks = {{Role::kGrad, 0, "x"}};
  commit.steps.push_back({0, 0, true, 4, body, blocks});
  EXPECT_FALSE(store_->Commit({&commit, 1}).ok());
  EXPECT_EQ(Find(0, kEnd, true), std::nullopt);
}

}  // namespace
}  // namespace gradtap::server
