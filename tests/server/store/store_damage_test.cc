// What a damaged data folder looks like from outside.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/db.h"
#include "server/store/catalog_codec.h"
#include "server/store/engine.h"
#include "server/store/keys.h"
#include "server/store/store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::HasSubstr;
using testing::StepsCommit;

class StoreDamageTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open() {
    store_.reset();
    auto store = OpenRocksdbStore({temp_.path() + "/data"});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
  }

  StreamId OpenStream() {
    const auto stream = store_->OpenStream(testing::MakeHello(), 1);
    EXPECT_THAT(stream, ::gradtap::testing::IsOk());
    return stream.ok() ? stream->id : 0;
  }

  absl::Status Commit(const StreamCommit& commit) {
    return store_->Commit({&commit, 1});
  }

  TempDir temp_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreDamageTest, ADamagedCatalogValueIsDataLossNamingIt) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 4).commit));
  store_.reset();
  const std::string db = temp_.path() + "/data/db";
  const auto damage = [&](const std::string& key, const std::string& value) {
    auto engine = Engine::Open(db, nullptr);
    GRADTAP_ASSERT_OK(engine);
    std::string old;
    rocksdb::DB* raw = (*engine)->db();
    ASSERT_TRUE(raw->Get({}, (*engine)->catalog(), key, &old).ok());
    ASSERT_TRUE(raw->Put({}, (*engine)->catalog(), key, value).ok());
    (*engine).reset();
    EXPECT_THAT(OpenRocksdbStore({temp_.path() + "/data"}),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("catalog")));
    engine = Engine::Open(db, nullptr);
    GRADTAP_ASSERT_OK(engine);
    ASSERT_TRUE((*engine)->db()->Put({}, (*engine)->catalog(), key, old).ok());
  };
  damage(keys::Cursor(1, id), "\x01\xff");
  damage(keys::Head(1, id), "");
  damage(keys::Run("run"), "\x09");
  damage(keys::Branch(1, id, 0), "\x01");
  damage(keys::Ids(), std::string("\x01\x01\x01"));  // Below what is in use.
  Open();                                            // Undamaged again.
  EXPECT_EQ(store_->FindRun("run")->streams[0].durable_seq, 5U);
}

TEST_F(StoreDamageTest, MoreSealedThanABranchHasIsDataLoss) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 4).commit));
  const std::string no_branch = keys::Sealed(1, id, 7);
  const std::string branch = keys::Sealed(1, id, 0);
  for (const auto& [key, sealed] : std::vector<std::pair<std::string, Sealed>>{
           {no_branch, {.end = 3, .rows = 3, .windows = 1}},
           {branch, {.end = 6, .rows = 6, .windows = 2}},
           {branch, {.end = 3, .rows = 3, .windows = 4}},
           {branch,
            {.end = 3,
            .rows = 3,
            .windows = 1,
            .chapter_windows = 4'000'000'000}},
       }) {
    store_.reset();
    auto engine = Engine::Open(temp_.path() + "/data/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    rocksdb::DB* db = (*engine)->db();
    ASSERT_TRUE(
        db->Put({}, (*engine)->catalog(), key, EncodeSealed(sealed)).ok());
    engine->reset();
    EXPECT_THAT(OpenRocksdbStore({temp_.path() + "/data"}),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("sealed")));
    engine = Engine::Open(temp_.path() + "/data/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    db = (*engine)->db();
    ASSERT_TRUE(db->Delete({}, (*engine)->catalog(), key).ok());
  }
  Open();  // Undamaged again.
}

TEST_F(StoreDamageTest, ARowThatIsNotThereIsNotTakenForTheNextOne) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 4).commit));
  store_.reset();
  {
    auto engine = Engine::Open(temp_.path() + "/data/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    ASSERT_TRUE((*engine)
                    ->db()
                    ->Delete({}, (*engine)->rows(), keys::Row(1, id, 0, 2))
                    .ok());
  }
  Open();
  std::vector<std::int64_t> steps;
  EXPECT_THAT(store_->ScanByOrdinal("run", 0,
                                    [&](const StepRow* row, const GapRow*) {
                                      steps.push_back(row->step);
                                      return true;
                                    }),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("index")));
  EXPECT_THAT(steps, ::testing::ElementsAre(0, 1));
}

TEST_F(StoreDamageTest, ADamagedTableIsAnErrorAndNotACrash) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 999).commit));
  Open();
  store_.reset();
  for (const auto& file :
       std::filesystem::directory_iterator(temp_.path() + "/data/db")) {
    if (file.path().extension() != ".sst") continue;
    const auto size = static_cast<std::int64_t>(file.file_size());
    std::fstream io(file.path(),
                    std::ios::in | std::ios::out | std::ios::binary);
    for (std::int64_t at = 20; at + 64 < size; at += 97) {
      io.seekp(at);
      io.put('\x5a');
    }
  }
  auto store = OpenRocksdbStore({temp_.path() + "/data"});
  if (store.ok()) {
    const absl::Status s = (*store)->ScanSteps(
        id, 0, 0, 1000, [](const StepRow&) { return true; });
    EXPECT_THAT(s, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  } else {
    EXPECT_THAT(store, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  }
}

}  // namespace
}  // namespace gradtap::server
