// Parts of unfinished records, over RocksDB.

#include "server/store/kept_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/store/store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class KeptPartsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    const auto stream = store_->OpenStream(testing::MakeHello(), 1);
    GRADTAP_ASSERT_OK(stream);
    id_ = stream->id;
  }

  void Open() {
    store_.reset();
    StoreOptions options;
    options.data_dir = temp_.path() + "/data";
    auto store = OpenRocksdbStore(options);
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
  }

  // What follows: all seqs up to `last`.
  void Commit(std::uint64_t last, std::vector<StreamCommit::Part> parts,
              bool drop = false) {
    StreamCommit commit;
    commit.stream = id_;
    commit.first_seq = std::exchange(next_, last + 1);
    commit.last_seq = last;
    commit.parts = std::move(parts);
    commit.drop_parts = drop;
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }

  std::vector<std::string> Parts(std::uint64_t begin = 1,
                                 std::uint64_t end = 100) {
    std::vector<std::string> parts;
    GRADTAP_EXPECT_OK(
        store_->ScanParts(id_, begin, end, [&](std::string_view one) {
          parts.emplace_back(one);
          return true;
        }));
    return parts;
  }

  ::gradtap::testing::TempDir temp_;
  std::unique_ptr<Store> store_;
  StreamId id_ = 0;
  std::uint64_t next_ = 1;
};

TEST_F(KeptPartsTest, TheyWaitForTheirRecordAndGoWithIt) {
  Commit(2, {{1, "one"}, {2, "two"}});
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Parts(), ElementsAre("one", "two"));
    const KeptParts kept = store_->PartsOf(id_);
    EXPECT_EQ(kept.first_seq, 1U);
    EXPECT_EQ(kept.last_seq, 2U);
    EXPECT_EQ(kept.parts, 2U);
    EXPECT_EQ(kept.bytes, 6U);
    Open();
  }
  testing::OwnedCommit whole = testing::StepsCommit(id_, 3, 0, 0);
  whole.commit.drop_parts = true;
  GRADTAP_ASSERT_OK(store_->Commit({&whole.commit, 1}));
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Parts(), IsEmpty());
    EXPECT_EQ(store_->PartsOf(id_).parts, 0U);
    Open();
  }
}

TEST_F(KeptPartsTest, ThoseOfTheNextRecordTakeTheirPlaceInOneCommit) {
  Commit(2, {{1, "one"}, {2, "two"}});
  Commit(4, {{4, "four"}}, true);
  Commit(5, {{5, "five"}});
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Parts(), ElementsAre("four", "five"));
    EXPECT_EQ(store_->PartsOf(id_).first_seq, 4U);
    EXPECT_EQ(store_->PartsOf(id_).parts, 2U);
    Open();
  }
}

TEST_F(KeptPartsTest, AreReadFromWhereTheyAreAskedForUntilThatIsEnough) {
  Commit(3, {{1, "one"}, {2, "two"}, {3, "three"}});
  EXPECT_THAT(Parts(2, 3), ElementsAre("two"));
  EXPECT_THAT(Parts(2), ElementsAre("two", "three"));
  EXPECT_THAT(Parts(4), IsEmpty());
  int visits = 0;
  GRADTAP_ASSERT_OK(store_->ScanParts(id_, 1, 4, [&](std::string_view) {
    ++visits;
    return false;
  }));
  EXPECT_EQ(visits, 1);
}

TEST_F(KeptPartsTest, ThoseWithHolesAreDroppedAllTheSame) {
  Commit(4, {{1, "one"}, {2, "two"}, {4, "four"}});
  EXPECT_FALSE(store_->PartsOf(id_).whole());
  Commit(5, {}, true);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Parts(), IsEmpty());
    EXPECT_EQ(store_->PartsOf(id_).parts, 0U);
    Open();
  }
}

TEST_F(KeptPartsTest, AStreamThatIsNotThereHasNone) {
  EXPECT_EQ(store_->PartsOf(id_ + 1).parts, 0U);
}

}  // namespace
}  // namespace gradtap::server
