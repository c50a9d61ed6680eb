// Of steps that have lost their values there are roll-ups and scalars: what is
// damaged of those is found, as far as it can be.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/store/engine.h"
#include "server/store/filled_folder.h"
#include "server/store/keys.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/statistic.h"
#include "server/store/verify/verify.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

using ::gradtap::testing::TempDir;
using ::testing::Contains;
using testing::Filler;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeHello;
using ::testing::Not;

constexpr std::int64_t kSteps = 5'100;

// A chapter of 16 windows, one of the three whole windows that follow, and a
// window of the rest. All are shrunk.
class VerifyShrunkTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    original_ = std::make_unique<TempDir>();
    StoreOptions options;
    options.data_dir = original_->path() + "/data";
    options.seal = false;
    options.window_steps = 256;
    options.shrink_bytes = 1;
    const auto store = RocksdbStore::Open(options, nullptr);
    GRADTAP_ASSERT_OK(store);
    Filler filler(store->get(), MakeHello());
    filler.Steps(0, kSteps);
    filler.End();
    for (auto sealed = (*store)->SealOne(); sealed.ok() && *sealed;) {
      sealed = (*store)->SealOne();
    }
    for (;;) {
      const auto part =
          (*store)->ShrinkOldest([](const RunEntry&) { return true; });
      GRADTAP_ASSERT_OK(part);
      if (!part->has_value()) break;
    }
    GRADTAP_ASSERT_OK((*store)->AddNote("what was shrunk", 10));
    const Branch branch = (*store)->FindRun("run")->streams[0].branches[0];
    ASSERT_EQ(branch.rolled_up_end, kSteps);
  }
  static void TearDownTestSuite() { original_.reset(); }

  void SetUp() override {
    fs::copy(original_->path() + "/data", dir_, fs::copy_options::recursive);
  }

  std::shared_ptr<Engine> Open() {
    auto engine = Engine::Open(dir_ + "/db", nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  std::vector<std::string> Verify(VerifySummary* summary = nullptr) {
    std::vector<std::string> problems;
    const auto found = VerifyFolder(
        dir_, [&](const std::string& place, const std::string& what) {
          problems.push_back(place + ": " + what);
        });
    EXPECT_TRUE(found.ok()) << found.status();
    if (found.ok() && summary != nullptr) *summary = *found;
    return problems;
  }

  using Pairs = std::map<std::string, std::string>;
  // Those whose key begins so.
  Pairs PairsOf(rocksdb::ColumnFamilyHandle* (Engine::*family)() const,
                const std::string& prefix) {
    Pairs pairs;
    const auto engine = Open();
    std::unique_ptr<rocksdb::Iterator> it(engine->db()->NewIterator(
        rocksdb::ReadOptions(), (engine.get()->*family)()));
    for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix);
         it->Next()) {
      pairs[it->key().ToString()] = it->value().ToString();
    }
    return pairs;
  }
  // Of one group of gradients, by the first steps of windows and chapters.
  Pairs Rollups(std::uint8_t level, RollupStatistic statistic) {
    const std::string key =
        keys::Rollup(1, 1, 0, level, static_cast<std::uint8_t>(Role::kGrad),
                     static_cast<std::uint8_t>(statistic), 1, 0, 0);
    return PairsOf(&Engine::rollups, key.substr(0, key.size() - 8));
  }

  void Put(rocksdb::ColumnFamilyHandle* (Engine::*family)() const,
           const std::string& key, const std::string& value) {
    const auto engine = Open();
    ASSERT_TRUE(engine->db()
                    ->Put(rocksdb::WriteOptions(), (engine.get()->*family)(),
                          key, value)
                    .ok());
  }
  void PutRollups(const std::string& key, const std::string& value) {
    Put(&Engine::rollups, key, value);
  }

  static std::string Flipped(std::string value, std::size_t at) {
    value[at] = static_cast<char>(value[at] ^ 0x20);
    return value;
  }

  // Whether both are read as the same roll-ups: a few bits mean nothing.
  static bool ReadAlike(const std::string& a, const std::string& b) {
    RollupReader one, two;
    std::vector<RollupEntry> of_one, of_two;
    return one.Open(a).ok() && two.Open(b).ok() && one.ReadAll(&of_one).ok() &&
           two.ReadAll(&of_two).ok() && one.shape() == two.shape() &&
           EncodeRollups(one.shape(), of_one).value_or("a") ==
               EncodeRollups(two.shape(), of_two).value_or("b");
  }

  TempDir temp_;
  const std::string dir_ = temp_.path() + "/copy";
  static std::unique_ptr<TempDir> original_;
};

std::unique_ptr<TempDir> VerifyShrunkTest::original_;

TEST_F(VerifyShrunkTest, AnIntactFolderIsWellAndItsSummaryCounts) {
  VerifySummary summary;
  EXPECT_THAT(Verify(&summary), IsEmpty());
  EXPECT_EQ(summary.sealed, static_cast<std::uint64_t>(kSteps));
  EXPECT_EQ(summary.scalars, static_cast<std::uint64_t>(kSteps));
  EXPECT_EQ(summary.values, 0u);
  EXPECT_EQ(summary.tiles, 0u);
  EXPECT_EQ(summary.chapters, 2u);
  EXPECT_GT(summary.rollups, 100u);
}

TEST_F(VerifyShrunkTest, RollupsThatAreGoneAreFound) {
  for (const std::uint8_t level : {0, 1}) {
    const Pairs pairs = Rollups(level, RollupStatistic::kL2);
    EXPECT_EQ(pairs.size(), level == 0 ? 3u : 2u);  // With the last window.
    for (const auto& [key, value] : pairs) {
      {
        const auto engine = Open();
        engine->db()->Delete({}, engine->rollups(), key);
      }
      EXPECT_THAT(Verify(), Contains(HasSubstr("missing")));
      PutRollups(key, value);
    }
  }
  EXPECT_THAT(Verify(), IsEmpty());
}

TEST_F(VerifyShrunkTest, RollupsThatNoWindowHasAreFound) {
  const auto [key, value] = *Rollups(0, RollupStatistic::kMean).begin();
  std::string other = key;
  other[other.size() - 9] = 99;  // The group.
  PutRollups(other, value);
  EXPECT_THAT(Verify(), Contains(HasSubstr("no values in any window")));
}

TEST_F(VerifyShrunkTest, RollupsThatCannotBeReadAreFound) {
  for (const std::uint8_t level : {0, 1}) {
    for (const auto& [key, value] : Rollups(level, RollupStatistic::kStd)) {
      PutRollups(key, value.substr(0, value.size() / 2));
      EXPECT_THAT(Verify(), Contains(HasSubstr("roll-ups of grad")));
      PutRollups(key, value);
    }
  }
}

TEST_F(VerifyShrunkTest, RollupsOfAnotherNumberOfStepsAreFound) {
  const Pairs pairs = Rollups(0, RollupStatistic::kMean);
  PutRollups(pairs.rbegin()->first, pairs.begin()->second);
  EXPECT_THAT(Verify(), Contains(HasSubstr("of another shape")));
  PutRollups(pairs.rbegin()->first, pairs.rbegin()->second);
  PutRollups(pairs.begin()->first, pairs.rbegin()->second);
  EXPECT_THAT(Verify(), Contains(HasSubstr("of another shape")));
}

TEST_F(VerifyShrunkTest, ACoarserLevelThatIsNotThatOfTheFinerOneIsFound) {
  const Pairs fine = Rollups(0, RollupStatistic::kAbsMean);
  PutRollups(fine.begin()->first,
             Rollups(0, RollupStatistic::kStd).begin()->second);
  EXPECT_THAT(Verify(), Contains(HasSubstr("coarser level is not that of")));
  PutRollups(fine.begin()->first, fine.begin()->second);
  const Pairs coarse = Rollups(1, RollupStatistic::kAbsMean);
  const auto& [key, value] = *coarse.begin();
  int flips = 0;
  for (std::size_t i = 0; i < value.size(); i += 3) {
    const std::string flipped = Flipped(value, i);
    if (ReadAlike(flipped, value)) continue;
    ++flips;
    PutRollups(key, flipped);
    EXPECT_THAT(Verify(), Not(IsEmpty())) << "byte " << i;
  }
  EXPECT_GT(flips, 10);
  PutRollups(key, value);
  EXPECT_THAT(Verify(), IsEmpty());
}

// The group's parameter 5 has no gradient now and then; no weight is absent.
TEST_F(VerifyShrunkTest, AbsentStepsThatOneStatisticAloneHasAreFound) {
  const std::string grad = Rollups(0, RollupStatistic::kMax).rbegin()->second;
  std::string key = Rollups(0, RollupStatistic::kMax).rbegin()->first;
  key[21] = static_cast<char>(Role::kWeight);
  PutRollups(key, grad);
  EXPECT_THAT(Verify(),
              Contains(HasSubstr("absent steps are not those of the other")));
}

TEST_F(VerifyShrunkTest, AByteFlippedInScalarsIsFound) {
  const std::string key = keys::Scalar(1, 1, 0, "loss", 0);
  const Pairs pairs = PairsOf(&Engine::windows, key.substr(0, key.size() - 8));
  EXPECT_EQ(pairs.size(), 20u);
  const auto& [last, value] = *pairs.rbegin();
  for (const std::size_t at : {std::size_t{0}, value.size() / 4,
                               value.size() / 2, value.size() * 3 / 4}) {
    Put(&Engine::windows, last, Flipped(value, at));
    EXPECT_THAT(Verify(), Contains(HasSubstr("scalar loss"))) << "byte " << at;
  }
}

TEST_F(VerifyShrunkTest, ScalarsThatAreGoneAreFound) {
  {
    const auto engine = Open();
    engine->db()->Delete({}, engine->windows(),
                         keys::Scalar(1, 1, 0, "loss", 0));
  }
  EXPECT_THAT(Verify(), Contains(HasSubstr("scalar loss: it is missing")));
}

}  // namespace
}  // namespace gradtap::server
