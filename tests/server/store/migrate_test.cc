// Folders of older formats become the newest, entirely.

#include "server/store/migrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "server/store/bytes.h"
#include "server/store/data_folder.h"
#include "server/store/filled_folder.h"
#include "server/store/keys.h"
#include "server/store/verify/verify.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::_;
using testing::Filler;
using ::testing::HasSubstr;
using testing::MakeHello;

constexpr std::int64_t kSteps = 700;

class MigrateTest : public ::testing::Test {
 protected:
  // A run that goes on, as a collector of that format leaves it.
  void Make(int format) {
    {
      StoreOptions options;
      options.data_dir = dir_;
      options.seal = false;
      const auto store = RocksdbStore::Open(options, nullptr);
      GRADTAP_ASSERT_OK(store);
      Filler filler(store->get(), MakeHello(), format == 1);
      filler.Steps(0, kSteps);
    }
    std::vector<std::string> newer = {"windows", "tiles", "rollups"};
    if (format == 1) newer.push_back("histograms");
    Drop(newer);
    std::ofstream(dir_ + "/FORMAT") << "gradtap-data " << format << "\n";
  }

  void Drop(const std::vector<std::string>& families) {
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, dir_ + "/db", &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
    for (const std::string& name : names) descriptors.push_back({name, {}});
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(
        rocksdb::DB::Open({}, dir_ + "/db", descriptors, &handles, &db).ok());
    const std::unique_ptr<rocksdb::DB> owned(db);
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      for (const std::string& name : families) {
        if (handle->GetName() == name) {
          EXPECT_TRUE(db->DropColumnFamily(handle).ok());
        }
      }
      EXPECT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
  }

  absl::StatusOr<MigrateResult> Migrate() {
    return MigrateFolder(dir_, [](std::uint64_t) {});
  }

  VerifySummary Verified() {
    const auto summary = VerifyFolder(
        dir_, [](const std::string& place, const std::string& what) {
          ADD_FAILURE() << place << ": " << what;
        });
    GRADTAP_EXPECT_OK(summary);
    return summary.ok() ? *summary : VerifySummary();
  }

  // Every step is what was stored, and so are its histograms.
  void CheckSteps() {
    const auto store = RocksdbStore::Open({dir_}, nullptr);
    GRADTAP_ASSERT_OK(store);
    const StreamId id = (*store)->FindRun("run")->streams[0].id;
    std::int64_t next = 0;
    GRADTAP_EXPECT_OK((*store)->ScanSteps(
        id, 0, 0, std::numeric_limits<std::int64_t>::max(),
        [&](const StepRow& row) {
          StepData wanted = Filler::Make(next);
          wanted.histograms.clear();
          EXPECT_EQ(row.step, next);
          EXPECT_EQ(testing::StoredBody(row),
                    testing::BodyOf(testing::EncodedStep(wanted)));
          ++next;
          return true;
        }));
    EXPECT_EQ(next, kSteps);
    for (std::int64_t step = 0; step < kSteps; step += 100) {
      const auto block =
          (*store)->ReadHistogramBlock(id, 0, step, Role::kGrad, 0);
      GRADTAP_ASSERT_OK(block);
      ASSERT_TRUE(block->has_value()) << step;
      const auto histograms = DecodeHistogramBlock(**block);
      GRADTAP_ASSERT_OK(histograms);
      EXPECT_EQ(histograms->at(0).bin, Filler::Make(step).histograms[0].bin);
    }
  }

  TempDir temp_;
  const std::string dir_ = temp_.path() + "/data";
};

TEST_F(MigrateTest, OlderFormatsAreSealedToTheirLastRow) {
  for (const int format : {1, 2}) {
    SCOPED_TRACE(format);
    fs::remove_all(dir_);
    Make(format);
    const auto done = Migrate();
    GRADTAP_ASSERT_OK(done);
    EXPECT_EQ(done->from_format, static_cast<std::uint32_t>(format));
    EXPECT_EQ(done->to_format, kFormatVersion);
    EXPECT_EQ(done->sealed_rows, static_cast<std::uint64_t>(kSteps));
    const VerifySummary summary = Verified();
    EXPECT_EQ(summary.format, kFormatVersion);
    EXPECT_EQ(summary.rows, 0u);
    EXPECT_EQ(summary.sealed, static_cast<std::uint64_t>(kSteps));
    EXPECT_EQ(summary.histograms, 7u);
    CheckSteps();
  }
}

TEST_F(MigrateTest, ASecondTimeThereIsNothingToDo) {
  Make(2);
  GRADTAP_ASSERT_OK(Migrate());
  const auto again = Migrate();
  GRADTAP_ASSERT_OK(again);
  EXPECT_EQ(again->from_format, kFormatVersion);
  EXPECT_EQ(again->sealed_rows, 0u);
}

TEST_F(MigrateTest, WhatWasInterruptedGoesOn) {
  Make(1);
  {
    StoreOptions options;
    options.data_dir = dir_;
    options.seal = false;
    options.window_steps = 256;
    const auto store = RocksdbStore::Open(options, nullptr);
    GRADTAP_ASSERT_OK(store);
    GRADTAP_ASSERT_OK((*store)->SealOne());
  }
  const auto done = Migrate();
  GRADTAP_ASSERT_OK(done);
  EXPECT_LT(done->sealed_rows, static_cast<std::uint64_t>(kSteps));
  EXPECT_EQ(Verified().rows, 0u);
  CheckSteps();
}

TEST_F(MigrateTest, ARunGoesOnAfterwards) {
  Make(2);
  GRADTAP_ASSERT_OK(Migrate());
  {
    const auto store = RocksdbStore::Open({dir_}, nullptr);
    GRADTAP_ASSERT_OK(store);
    Filler(store->get(), MakeHello()).Steps(kSteps, kSteps + 400);
  }
  const VerifySummary summary = Verified();
  EXPECT_EQ(summary.rows + summary.sealed,
            static_cast<std::uint64_t>(kSteps) + 400);
}

TEST_F(MigrateTest, AnOlderFolderCanBeVerifiedAsItIs) {
  for (const int format : {1, 2}) {
    fs::remove_all(dir_);
    Make(format);
    const VerifySummary summary = Verified();
    EXPECT_EQ(summary.format, static_cast<std::uint32_t>(format));
    EXPECT_EQ(summary.rows, static_cast<std::uint64_t>(kSteps));
  }
}

TEST_F(MigrateTest, ARowThatCannotBeReadIsSaidAndOthersAreSealed) {
  Make(2);
  {
    StoreOptions options;
    options.data_dir = dir_;
    options.seal = false;
    const auto store = RocksdbStore::Open(options, nullptr);
    GRADTAP_ASSERT_OK(store);
    Filler other(store->get(), MakeHello("other", "launch", 0, 'o'));
    other.Steps(0, 50);
  }
  {
    const auto engine = Engine::Open(dir_ + "/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    (*engine)->db()->Put({}, (*engine)->rows(), keys::Row(1, 1, 0, 10),
                         "damaged");
  }
  EXPECT_THAT(Migrate(), StatusIs(absl::StatusCode::kDataLoss, _));
  std::uint64_t sealed = 0;
  const auto summary =
      VerifyFolder(dir_, [](const std::string&, const std::string&) {});
  GRADTAP_ASSERT_OK(summary);
  sealed = summary->sealed;
  EXPECT_EQ(sealed, 50u);
}

TEST_F(MigrateTest, RowsWhoseSchemaIsGoneAreSaidToBeLeft) {
  Make(2);
  {
    const auto engine = Engine::Open(dir_ + "/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    (*engine)->db()->Delete({}, (*engine)->index(), keys::Schema(1, 1, 1));
  }
  EXPECT_THAT(Migrate(), StatusIs(absl::StatusCode::kDataLoss,
                                  HasSubstr("stream 1 has no schema 1")));
}

TEST_F(MigrateTest, WhatCannotBeMigratedIsRefusedAndLeftAsItIs) {
  EXPECT_THAT(Migrate(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir_)));
  EXPECT_FALSE(fs::exists(dir_));
  Make(2);
  {
    const auto store = RocksdbStore::Open({dir_}, nullptr);
    GRADTAP_ASSERT_OK(store);
    EXPECT_THAT(Migrate(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("locked")));
  }
  std::ofstream(dir_ + "/FORMAT") << "gradtap-data 9\n";
  EXPECT_THAT(Migrate(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("format 9")));
}

}  // namespace
}  // namespace gradtap::server
