// A store that dies while windows become a chapter: wherever that is, it opens,
// answers as before, and binds them.

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "keeping_testing.h"
#include "server/store/engine.h"
#include "server/store/rollup/statistic.h"
#include "server/store/verify/verify.h"
#include "server/store/window/chapter.h"
#include "tests/support/status_matchers.h"

namespace gradtap::server::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kParameters = 2;
constexpr std::int64_t kChapter = kChapterSteps;

// Each value that sealing and binding write is a write of its own. No log has
// them: for the store to die between any two, each goes to tables at once.
class ChapterCrashTest : public KeepingTest {
 protected:
  void SetUp() override {
    sealed_write_bytes_ = 1;
    Open();
  }

  // What StartAgain() begins with.
  void Keep() {
    store_.reset();
    fs::copy(data(), full(), fs::copy_options::recursive);
  }

  std::string data() const { return dir_.path() + "/data"; }
  std::string full() const { return dir_.path() + "/full"; }

  // Opens it to die.
  void StartAgain() {
    store_.reset();
    fs::remove_all(data());
    fs::copy(full(), data(), fs::copy_options::recursive);
    faulty_ = FaultyEnv();  // Which knows nothing of the files before.
    env_ = faulty_.env();
    flush_sealed_writes_ = true;
    Open();
  }

  void OpenAfterDeath() {
    store_.reset();
    env_ = nullptr;
    flush_sealed_writes_ = false;
    ExpectWell();
  }

  // What is asked of the run, as text: all steps, and of each series of
  // roll-ups its entries, however many pieces they come in. Those of the last
  // window are there once it is sealed.
  std::vector<std::string> Answers() {
    std::vector<std::string> answers;
    const absl::Status scanned =
        store_->ScanSteps(id_, 0, 0, INT64_MAX, [&](const StepRow& row) {
          answers.push_back(StoredBody(row));
          return true;
        });
    EXPECT_TRUE(scanned.ok()) << scanned;
    for (const auto& [key, entries] : Series(0)) {
      answers.push_back(key + entries);
    }
    return answers;
  }

  // The entries of a level by role, statistic and place.
  std::map<std::string, std::string> Series(std::uint8_t level) {
    std::map<std::string, std::string> series;
    const RolledSpan span =
        store_->RolledUp(id_, 0, 0, kChapter).value_or(RolledSpan());
    for (const Role role : {Role::kWeight, Role::kGrad}) {
      for (const RollupStatistic statistic : kRollupStatistics) {
        for (std::uint32_t place = 0; place < kParameters; ++place) {
          const std::string key = std::to_string(static_cast<int>(role)) + " " +
                                  std::to_string(static_cast<int>(statistic)) +
                                  " " + std::to_string(place) + ":";
          const absl::Status s = store_->ScanRollups(
              id_, 0, span, {level, role, statistic, 1, place},
              [&](const RollupPiece& piece) {
                for (const RollupEntry& e : piece.entries) {
                  series[key] += " " + std::to_string(e.min) + "@" +
                                 std::to_string(e.min_at) + " " +
                                 std::to_string(e.max) + "@" +
                                 std::to_string(e.max_at) + " " +
                                 std::to_string(e.mean);
                }
                return true;
              });
          EXPECT_TRUE(s.ok()) << s;
        }
      }
    }
    return series;
  }

  // All roll-ups and windows as they stand.
  std::map<std::string, std::string> Stored() {
    store_.reset();
    std::map<std::string, std::string> stored;
    const auto engine = Engine::OpenToRead(data() + "/db", false);
    EXPECT_TRUE(engine.ok()) << engine.status();
    for (rocksdb::ColumnFamilyHandle* family :
         {(*engine)->rollups(), (*engine)->windows(), (*engine)->tiles()}) {
      const std::unique_ptr<rocksdb::Iterator> it(
          (*engine)->db()->NewIterator(rocksdb::ReadOptions(), family));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        stored[Engine::NameOf(family) + it->key().ToString()] =
            it->value().ToString();
      }
    }
    return stored;
  }

  void ExpectWell() {
    store_.reset();
    const auto verified = VerifyFolder(
        data(), [](const std::string& place, const std::string& what) {
          ADD_FAILURE() << place << ": " << what;
        });
    GRADTAP_EXPECT_OK(verified);
    Open();
  }

  // Wherever in the next SealOne() it dies, what is left is sound, and becomes
  // what it becomes without that.
  void ExpectTheSameWhereverItDies() {
    StartAgain();
    const std::uint64_t before = faulty_.fs().operations();
    ASSERT_TRUE(store_->SealOne().value_or(false));
    const std::uint64_t writes = faulty_.fs().operations() - before;
    ASSERT_GT(writes, 60U);
    SealAll();
    const auto bound = Stored();
    int died = 0;
    for (std::uint64_t at = 1; at <= writes; at += writes / 16) {
      SCOPED_TRACE("dies at write " + std::to_string(at));
      StartAgain();
      faulty_.fs().FailFromOperation(faulty_.fs().operations() + at);
      if (store_->SealOne().ok()) break;  // Some were not the sealer's.
      ++died;
      OpenAfterDeath();
      SealAll();
      ExpectWell();
      EXPECT_TRUE(Stored() == bound);
    }
    EXPECT_GT(died, 10);
  }

  StreamId id_ = 0;
};

TEST_F(ChapterCrashTest, WhereverItDiesItAnswersTheSameAndBindsThem) {
  // One window before the chapter is full.
  id_ = AddRun("run", kChapter - 1 + 64, kParameters);
  SealAll();
  AddSteps(id_, kChapter + 63, kChapter + 64, kParameters);
  Keep();

  // Without a crash.
  StartAgain();
  const std::vector<std::string> unsealed = Answers();
  const std::uint64_t before = faulty_.fs().operations();
  ASSERT_TRUE(store_->SealOne().value_or(false));
  const std::uint64_t writes = faulty_.fs().operations() - before;
  // The last window's 26 values at least, and 2 for each of 17 statistics.
  ASSERT_GT(writes, 60U);
  const std::vector<std::string> sealed = Answers();
  const auto coarse = Series(1);
  EXPECT_EQ(coarse.size(), 17U * kParameters);
  const auto bound = Stored();

  std::size_t window_sealed = 0, half_bound = 0;
  for (std::uint64_t at = 1; at <= writes; at += writes / 34) {
    const bool power = at % 2 == 0;  // Takes all that was not synced.
    SCOPED_TRACE("dies at write " + std::to_string(at) +
                 (power ? " with the machine" : ""));
    StartAgain();
    faulty_.fs().FailFromOperation(faulty_.fs().operations() + at);
    if (store_->SealOne().ok()) {
      EXPECT_GT(at + 30, writes);  // Some were not the sealer's.
      break;
    }
    store_.reset();
    if (power) faulty_.fs().LosePower();
    faulty_.fs().FailFromOperation(0);
    OpenAfterDeath();
    const std::vector<std::string> answers = Answers();
    ASSERT_TRUE(answers == unsealed || answers == sealed);
    window_sealed += answers == sealed ? 1 : 0;
    const std::size_t of_chapter = Series(1).size();
    half_bound += of_chapter > 0 && of_chapter < coarse.size() ? 1 : 0;
    while (store_->SealOne().value_or(false)) {
    }
    ASSERT_TRUE(Answers() == sealed);
    EXPECT_TRUE(Series(1) == coarse);
    ExpectWell();
    EXPECT_TRUE(Stored() == bound);
  }
  EXPECT_GT(window_sealed, 10U);
  EXPECT_GT(half_bound, 8U);
}

// There is no row left that would make it due.
TEST_F(ChapterCrashTest, WhatARunHasAtItsEndIsBoundAfterItDied) {
  id_ = AddRun("run", 3 * 128, kParameters);
  End(id_);
  ASSERT_TRUE(store_->SealOne().value_or(false));
  ASSERT_TRUE(store_->SealOne().value_or(false));
  Keep();
  StartAgain();
  const std::uint64_t before = faulty_.fs().operations();
  ASSERT_TRUE(store_->SealOne().value_or(false));
  const std::uint64_t writes = faulty_.fs().operations() - before;
  const auto bound = Stored();

  StartAgain();
  faulty_.fs().FailFromOperation(faulty_.fs().operations() + writes - 8);
  EXPECT_FALSE(store_->SealOne().ok());
  OpenAfterDeath();
  EXPECT_EQ(store_->counters().sealed_windows, 0U);
  EXPECT_EQ(SealAll(), 1);  // The chapter.
  EXPECT_EQ(SealAll(), 0);
  ExpectWell();
  EXPECT_TRUE(Stored() == bound);
}

// As nearly every run ends.
TEST_F(ChapterCrashTest, WhatAFewLastStepsFollowIsBoundWhereverItDies) {
  id_ = AddRun("run", 3 * 128 + 5, kParameters);
  End(id_);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->SealOne().value_or(false));
  Keep();
  ExpectTheSameWhereverItDies();
}

TEST_F(ChapterCrashTest, WhatANewSchemaFollowsIsBoundWhereverItDies) {
  id_ = AddRun("run", 3 * 128 + 5, kParameters);
  StreamCommit commit = Next(id_);
  const std::string schema = BodyOf(EncodeSchema(MakeSchema(2, 3)));
  commit.schemas.push_back({2, schema});
  std::vector<std::string> bodies;
  for (std::int64_t step = 3 * 128 + 5; step < 5 * 128 + 5; ++step) {
    StepData data = RandomStep(step, 3);
    data.schema_id = 2;
    bodies.push_back(BodyOf(EncodedStep(data)));
  }
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    const auto step = static_cast<std::int64_t>(3 * 128 + 5 + i);
    commit.steps.push_back({0, step, true, 6, bodies[i]});
  }
  GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->SealOne().value_or(false));
  Keep();
  ExpectTheSameWhereverItDies();
}

// A chapter that is half made takes no further window.
TEST_F(ChapterCrashTest, StepsThatComeAfterItDiedBeginTheNextChapter) {
  id_ = AddRun("run", 3 * 128, kParameters);
  End(id_);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(store_->SealOne().value_or(false));
  Keep();
  const auto go_on = [this] {
    random_.seed(11);
    AddSteps(id_, 3 * 128, 5 * 128 + 5, kParameters);
    SealAll();
    ExpectWell();
    return Stored();
  };
  StartAgain();
  const std::uint64_t before = faulty_.fs().operations();
  ASSERT_TRUE(store_->SealOne().value_or(false));
  const std::uint64_t writes = faulty_.fs().operations() - before;
  OpenAfterDeath();  // It was spared.
  const auto bound = go_on();

  StartAgain();
  faulty_.fs().FailFromOperation(faulty_.fs().operations() + writes - 8);
  EXPECT_FALSE(store_->SealOne().ok());
  OpenAfterDeath();
  EXPECT_TRUE(go_on() == bound);
}

}  // namespace
}  // namespace gradtap::server::testing
