// Bytes, keys, values of the catalog, and the folder around them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/data_folder.h"
#include "server/store/keys.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kSteps[] = {std::numeric_limits<std::int64_t>::min(),
                                   -1'000'000,
                                   -1,
                                   0,
                                   1,
                                   255,
                                   256,
                                   65'536,
                                   std::numeric_limits<std::int64_t>::max()};

TEST(BytesTest, NumbersComeBack) {
  for (const std::int64_t value : kSteps) {
    std::string bytes;
    PutI64(value, &bytes);
    PutSigned(value, &bytes);
    PutVarint(static_cast<std::uint64_t>(value), &bytes);
    ByteReader reader(bytes);
    EXPECT_EQ(reader.I64(), value);
    EXPECT_EQ(reader.Signed(), value);
    EXPECT_EQ(reader.Varint(), static_cast<std::uint64_t>(value));
    EXPECT_TRUE(reader.ok());
    EXPECT_TRUE(reader.at_end());
  }
}

TEST(BytesTest, EveryTruncationIsNoticed) {
  std::string bytes;
  PutU32(7, &bytes);
  PutString("name", &bytes);
  PutVarint(300, &bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ByteReader reader(std::string_view(bytes).substr(0, size));
    reader.U32();
    reader.String();
    reader.Varint();
    EXPECT_FALSE(reader.ok()) << size;
  }
}

TEST(BytesTest, AVarintOfMoreThan64BitsIsRefused) {
  ByteReader reader("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
  reader.Varint();
  EXPECT_FALSE(reader.ok());
}

TEST(KeysTest, RowsSortByStepWithinTheirBranch) {
  std::string last;
  for (const std::uint32_t branch : {0U, 1U, 300U}) {
    for (const std::int64_t step : kSteps) {
      const std::string key = keys::Row(3, 9, branch, step);
      EXPECT_LT(last, key) << branch << " " << step;
      last = key;
    }
  }
  EXPECT_LT(last, keys::Row(3, 10, 0, kSteps[0]));
  EXPECT_LT(last, keys::After(keys::OfRun(0, 3)));
  EXPECT_GT(keys::Row(4, 0, 0, kSteps[0]), keys::After(keys::OfRun(0, 2)));
}

TEST(KeysTest, HistogramsSortByStepAndStandWithinTheirRun) {
  const std::string prefix = keys::HistogramStep(3, 9, 1, 7);
  std::string last = prefix;
  for (const std::uint8_t role : {1, 2, 5}) {
    for (const std::uint32_t block : {0U, 1U, 255U, 256U, 4'000'000U}) {
      const std::string key = keys::Histogram(3, 9, 1, 7, role, block);
      EXPECT_LT(last, key);
      EXPECT_EQ(key.substr(0, prefix.size()), prefix);
      last = key;
    }
  }
  EXPECT_LT(last, keys::HistogramStep(3, 9, 1, 8));
  EXPECT_LT(last, keys::After(keys::OfRun(0, 3)));
  // These bytes never change.
  const std::string key = keys::Histogram(1, 2, 3, 4, 5, 6);
  EXPECT_EQ(key, std::string("\0\0\0\0\0\0\0\1"
                             "\0\0\0\0\0\0\0\2"
                             "\0\0\0\3"
                             "\x80\0\0\0\0\0\0\4"
                             "\5"
                             "\0\0\0\6",
                             33));
}

TEST(KeysTest, TheEndOfAPrefixCarriesOverFullBytes) {
  EXPECT_EQ(keys::After("a"), "b");
  EXPECT_EQ(keys::After(std::string("a\xff\xff")), "b");
  EXPECT_EQ(keys::OfRun(keys::kOrdinal, 255).size(), 9U);
  EXPECT_EQ(keys::After(keys::OfRun(keys::kOrdinal, 255)),
            keys::OfRun(keys::kOrdinal, 256).substr(0, 8));
}

TEST(KeysTest, AnOrdinalValueComesBackAndADamagedOneDoesNot) {
  const keys::OrdinalValue value{true, 5, 6, -7};
  const std::string bytes = keys::EncodeOrdinalValue(value);
  const auto back = keys::DecodeOrdinalValue(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(back->is_gap);
  EXPECT_EQ(back->stream, 5U);
  EXPECT_EQ(back->branch, 6U);
  EXPECT_EQ(back->step, -7);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(keys::DecodeOrdinalValue(bytes.substr(0, size)).has_value());
  }
  EXPECT_FALSE(keys::DecodeOrdinalValue("x" + bytes.substr(1)).has_value());
}

TEST(CatalogCodecTest, AStreamComesBack) {
  const StreamHello hello = testing::MakeHello("r", "l", 3);
  const auto hello_back = DecodeHello(EncodeHello(hello));
  GRADTAP_ASSERT_OK(hello_back);
  EXPECT_EQ(hello_back->run, "r");
  EXPECT_EQ(hello_back->rank, 3U);
  EXPECT_EQ(hello_back->process_nonce, hello.process_nonce);
  EXPECT_EQ(hello_back->start_time_unix_ns, hello.start_time_unix_ns);
  EXPECT_EQ(hello_back->tags, hello.tags);

  StreamEntry stream;
  stream.durable_seq = 1'000'000;
  stream.lost_steps = 5;
  stream.last_seen_unix_ns = -3;
  stream.end = EndData{EndReason::kStopped, 77, 10, 5, 3, 2};
  stream.branches.resize(3);
  StreamEntry back;
  GRADTAP_ASSERT_OK(DecodeCursor(EncodeCursor(stream), &back));
  EXPECT_EQ(back.durable_seq, 1'000'000U);
  EXPECT_EQ(back.lost_steps, 5U);
  EXPECT_EQ(back.last_seen_unix_ns, -3);
  ASSERT_TRUE(back.end.has_value());
  EXPECT_EQ(back.end->reason, EndReason::kStopped);
  EXPECT_EQ(back.end->steps_lost, 2U);
  EXPECT_EQ(back.branches.size(), 3U);
  EXPECT_TRUE(back.optimizers.empty());

  // At the end, so that older values are those of streams without.
  const std::string older = EncodeCursor(stream);
  stream.optimizers = {"torch::optim::AdamW", "Lion"};
  const std::string cursor = EncodeCursor(stream);
  EXPECT_EQ(cursor.substr(0, older.size()), older);
  StreamEntry with;
  GRADTAP_ASSERT_OK(DecodeCursor(cursor, &with));
  EXPECT_EQ(with.optimizers, stream.optimizers);
  for (std::size_t size = older.size() + 1; size < cursor.size(); ++size) {
    StreamEntry cut;
    EXPECT_FALSE(DecodeCursor(cursor.substr(0, size), &cut).ok()) << size;
  }
}

TEST(CatalogCodecTest, EveryTruncationIsDataLoss) {
  StreamEntry stream;
  stream.branches.resize(1);
  stream.end = EndData{};
  const std::string cursor = EncodeCursor(stream);
  for (std::size_t size = 0; size < cursor.size(); ++size) {
    StreamEntry back;
    EXPECT_THAT(DecodeCursor(cursor.substr(0, size), &back),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cursor")));
  }
  const std::string hello = EncodeHello(testing::MakeHello());
  for (std::size_t size = 0; size < hello.size(); ++size) {
    EXPECT_FALSE(DecodeHello(hello.substr(0, size)).ok()) << size;
  }
  const std::string gap =
      EncodeGapValue({GapCause::kRingFull, 1, 2, 2, "detail"});
  for (std::size_t size = 0; size < gap.size(); ++size) {
    EXPECT_FALSE(DecodeGapValue(gap.substr(0, size)).ok()) << size;
  }
}

TEST(CatalogCodecTest, ABranchComesBackWithItsRollback) {
  for (const Branch& branch :
       {Branch{0, 3, 900, 40, -1}, Branch{0, 3, 900, 40, 0},
        Branch{0, -1, -1, 0, INT64_MAX}}) {
    const auto back = DecodeBranch(EncodeBranch(branch));
    GRADTAP_ASSERT_OK(back);
    EXPECT_EQ(back->first_step, branch.first_step);
    EXPECT_EQ(back->last_step, branch.last_step);
    EXPECT_EQ(back->rows, branch.rows);
    EXPECT_EQ(back->rollback_step, branch.rollback_step);
  }
}

// These bytes never change: a version byte, then zigzag 3, zigzag 900, 40 rows.
TEST(CatalogCodecTest, ABranchStoredBeforeRollbacksWereKeptIsRead) {
  const std::string old("\x01\x06\x88\x0e\x28", 5);
  EXPECT_EQ(EncodeBranch(Branch{0, 3, 900, 40, -1}), old);
  EXPECT_EQ(EncodeBranch(Branch{0, 3, 900, 40, 5}), old + "\x0a");
  const auto back = DecodeBranch(old);
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->last_step, 900);
  EXPECT_EQ(back->rollback_step, -1);
  EXPECT_THAT(DecodeBranch(old + "\x8a"),  // A varint that does not end.
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("branch")));
}

TEST(CatalogCodecTest, ABranchComesBackWithWhatIsRolledUp) {
  Branch branch{0, 3, 900, 40, -1, 512, 300};
  const std::string bytes = EncodeBranch(branch);
  const auto back = DecodeBranch(bytes);
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->rollback_step, -1);
  EXPECT_EQ(back->rolled_up_end, 512);
  EXPECT_EQ(back->rolled_up_steps, 300U);
  EXPECT_THAT(DecodeBranch(bytes.substr(0, bytes.size() - 1)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("branch")));
}

// These bytes never change: nothing is written of a run that is not pinned.
TEST(CatalogCodecTest, ARunStoredBeforeThereWerePinsIsNotPinned) {
  const std::string old("\x01\x05\x08\x09", 4);
  EXPECT_EQ(EncodeRunHead({5, 4, 9, false}), old);
  EXPECT_EQ(EncodeRunHead({5, 4, 9, true}), old + "\x01");
  EXPECT_FALSE(DecodeRunHead(old)->pinned);
  EXPECT_TRUE(DecodeRunHead(old + "\x01")->pinned);
}

TEST(CatalogCodecTest, AnUnknownVersionIsDataLossAndLaterFieldsAreIgnored) {
  std::string ids = EncodeIds({7, 9});
  GRADTAP_EXPECT_OK(DecodeIds(ids + "later"));
  ids[0] = 2;
  EXPECT_THAT(DecodeIds(ids),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ids")));
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(DataFolderTest, IsMadePrivateWithItsParents) {
  const TempDir temp;
  const std::string dir = temp.path() + "/a/b";
  GRADTAP_ASSERT_OK(DataFolder::Open(dir));
  struct stat info;
  ASSERT_EQ(::stat(dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
}

TEST(DataFolderTest, ASecondHolderIsToldThePidOfTheFirst) {
  const TempDir temp;
  const auto first = DataFolder::Open(temp.path());
  GRADTAP_ASSERT_OK(first);
  EXPECT_THAT(DataFolder::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(temp.path()),
                             HasSubstr("pid " + std::to_string(::getpid())))));
}

TEST(DataFolderTest, CanBeTakenAgainOnceItIsReleased) {
  const TempDir temp;
  GRADTAP_ASSERT_OK(DataFolder::Open(temp.path()));
  GRADTAP_ASSERT_OK(DataFolder::Open(temp.path()));
}

TEST(DataFolderTest, ANewerFormatIsRefusedWithBothNumbers) {
  const TempDir temp;
  WriteFile(temp.path() + "/FORMAT", "gradtap-data 7\n");
  EXPECT_THAT(DataFolder::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("format 7"), HasSubstr("up to 3"))));
}

TEST(DataFolderTest, AnOlderFormatIsRaisedBeforeAnythingIsWritten) {
  const TempDir temp;
  WriteFile(temp.path() + "/FORMAT", "gradtap-data 1\n");
  GRADTAP_ASSERT_OK(DataFolder::Open(temp.path()));
  std::ifstream in(temp.path() + "/FORMAT");
  std::string line;
  std::getline(in, line);
  EXPECT_EQ(line, "gradtap-data 3");
}

TEST(DataFolderTest, ADamagedFormatFileIsDataLoss) {
  for (const std::string text :
       {"", "gradtap-data ", "gradtap-data 0\n", "gradtap-data 1",
        "gradtap-data 1\nx", "gradtap-data -1\n", "\xff\xfe",
        "gradtap-data 99999999999\n"}) {
    const TempDir temp;
    WriteFile(temp.path() + "/FORMAT", text);
    EXPECT_THAT(DataFolder::Open(temp.path()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("FORMAT")))
        << text;
  }
}

TEST(DataFolderTest, ADatabaseWithoutAFormatFileIsDataLoss) {
  const TempDir temp;
  ASSERT_EQ(::mkdir((temp.path() + "/db").c_str(), 0700), 0);
  WriteFile(temp.path() + "/db/CURRENT", "MANIFEST-000001\n");
  EXPECT_THAT(DataFolder::Open(temp.path()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("no FORMAT")));
}

// Tests may run as root, for whom every folder is writable: a file in the way
// is in anybody's way.
TEST(DataFolderTest, APathBelowAFileIsPermissionDenied) {
  const TempDir temp;
  WriteFile(temp.path() + "/file", "x");
  EXPECT_THAT(DataFolder::Open(temp.path() + "/file/data"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr(temp.path() + "/file")));
  EXPECT_THAT(DataFolder::Open(temp.path() + "/file"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("Not a directory")));
  EXPECT_THAT(DataFolder::Open("/proc/gradtap-data"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("/proc/gradtap-data")));
  EXPECT_THAT(DataFolder::Open(""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty")));
}

TEST(DataFolderTest, CountsItsBytes) {
  const TempDir temp;
  const auto folder = DataFolder::Open(temp.path());
  GRADTAP_ASSERT_OK(folder);
  const std::uint64_t before = (*folder)->DiskBytes();
  EXPECT_GT(before, 0U);
  WriteFile(temp.path() + "/more", std::string(1 << 20, 'x'));
  EXPECT_GE((*folder)->DiskBytes(), before + (1 << 20));
}

}  // namespace
}  // namespace gradtap::server
