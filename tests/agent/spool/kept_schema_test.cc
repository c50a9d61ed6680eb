#include "agent/spool/kept_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/spool/spool.h"
#include "agent/spool/spool_fixtures.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::NamesIn;
using ::gradtap::testing::Payload;
using ::gradtap::testing::StepMeta;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kFirst[] = "00000000000000000001.schema";
constexpr char kSecond[] = "00000000000000000010.schema";

class KeptSchemaTest : public ::testing::Test {
 protected:
  std::unique_ptr<Spool> Create(std::uint64_t max_bytes = 1 << 20) {
    SpoolOptions options;
    options.max_bytes = max_bytes;
    options.segment_bytes = 400;
    auto spool =
        Spool::Create(dir_.path() + "/spool", MakeIdentity(), options, &disk_);
    EXPECT_THAT(spool, testing::IsOk());
    return *std::move(spool);
  }
  std::unique_ptr<Spool> Open() {
    auto spool = Spool::Open(folder(), SpoolUse::kTakeOver, &disk_);
    EXPECT_THAT(spool, testing::IsOk());
    return spool.ok() ? *std::move(spool) : nullptr;
  }
  std::string folder() const {
    return dir_.path() + "/spool/30313233343536373839616263646566";
  }
  std::vector<std::string> Schemas() const {
    std::vector<std::string> names = NamesIn(folder());
    std::erase_if(names,
                  [](const auto& name) { return !name.ends_with(".schema"); });
    return names;
  }
  static void Fill(Spool* spool, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t seq = first; seq <= last; ++seq) {
      GRADTAP_ASSERT_OK(spool->Append(
          seq, StepMeta(static_cast<std::int64_t>(seq)), Payload(seq)));
    }
  }

  testing::TempDir dir_;
  testing::FaultyDisk disk_;
  const KeptSchema first_{1, {"one", "two"}};
  const KeptSchema second_{10, {"three"}};
};

TEST_F(KeptSchemaTest, ItReadsBackAndADamagedOneIsNotUsed) {
  const std::string bytes = EncodeKeptSchema(MakeIdentity(), first_);
  SpoolIdentity identity;
  std::string damage;
  EXPECT_EQ(ParseKeptSchema(bytes, 1, &identity, &damage).records,
            first_.records);
  EXPECT_EQ(identity, MakeIdentity());
  EXPECT_EQ(damage, "");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string flipped = bytes;
    flipped[i] ^= 4;
    EXPECT_THAT(ParseKeptSchema(flipped, 1, &identity, &damage).records,
                IsEmpty());
    EXPECT_NE(damage, "") << i;
    EXPECT_THAT(
        ParseKeptSchema(bytes.substr(0, i), 1, &identity, &damage).records,
        IsEmpty());
    EXPECT_NE(damage, "") << i;
  }
  EXPECT_THAT(ParseKeptSchema(bytes, 2, &identity, &damage).records, IsEmpty());
}

TEST_F(KeptSchemaTest, PartsThatComeAgainOrInPartAreNotedOnce) {
  SchemaNotes notes;
  for (const std::uint64_t seq : {1, 1, 2, 1, 2, 10, 3}) {
    EntryView entry;
    entry.seq = seq;
    if (first_.Has(seq)) entry = first_.At(seq);
    if (second_.Has(seq)) entry = second_.At(seq);
    notes.Note(entry);
  }
  ASSERT_THAT(notes.whole(), SizeIs(2));
  EXPECT_EQ(notes.whole()[0].records, first_.records);
  EXPECT_EQ(notes.whole()[1].records, second_.records);
  notes.FreeBefore(9);
  EXPECT_THAT(notes.whole(), SizeIs(2));
  notes.FreeBefore(10);
  ASSERT_THAT(notes.whole(), SizeIs(1));
  EXPECT_EQ(notes.whole()[0].first_seq, 10u);
}

TEST_F(KeptSchemaTest, OneStaysAsLongAsARecordRefersToItAndTheNewestToTheEnd) {
  auto spool = Create();
  for (int again = 0; again < 2; ++again) {
    spool->KeepSchema(first_);
    spool->KeepSchema(second_);
  }
  Fill(spool.get(), 3, 40);
  EXPECT_THAT(Schemas(), ElementsAre(kFirst, kSecond));
  spool.reset();
  spool = Open();
  EXPECT_EQ(spool->SchemaBefore(3)->records, first_.records);
  // Its second part is at hand.
  EXPECT_EQ(spool->SchemaBefore(2)->records, first_.records);
  EXPECT_EQ(spool->SchemaBefore(1), nullptr);
  EXPECT_EQ(spool->SchemaBefore(12)->records, second_.records);
  spool->FreeBefore(9);
  EXPECT_THAT(Schemas(), ElementsAre(kFirst, kSecond));
  spool->FreeBefore(10);
  EXPECT_THAT(Schemas(), ElementsAre(kSecond));
  EXPECT_EQ(spool->SchemaBefore(10), nullptr);
  spool->FreeBefore(41);
  EXPECT_THAT(Schemas(), ElementsAre(kSecond));
  spool->StayWithoutRecords(false);
  spool.reset();
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(KeptSchemaTest, InAHoleItStandsWhereItStoodAndTheGapBeforeIt) {
  auto spool = Create();
  spool->KeepSchema(second_);
  Fill(spool.get(), 3, 6);
  (void)spool->Close();
  spool.reset();
  // Records 7 to 10 are gone; the next segment is of another name.
  spool = Open();
  EXPECT_EQ(spool->last_seq(), 6u);
  const auto stand_in = [&](std::uint64_t seq) {
    return spool->StandIn(seq, 7, 11, LoopPlace{0, 6}, LoopPlace{0, 10}, "why");
  };
  EXPECT_EQ(stand_in(7).bytes, "");
  EXPECT_EQ(stand_in(8).bytes, "");
  const EntryView gap = stand_in(9);
  EXPECT_EQ(gap.meta.kind, EntryKind::kGap);
  EXPECT_EQ(gap.meta.step, 7);
  EXPECT_EQ(gap.meta.last_step, 9);
  EXPECT_EQ(stand_in(10).bytes, "three");
  EXPECT_EQ(stand_in(10).meta.kind, EntryKind::kSchema);
  // Without a place before: as many steps as there are records but schemas.
  EXPECT_EQ(spool->StandIn(9, 7, 11, {}, LoopPlace{0, 50}, "why").meta.steps,
            3u);
}

TEST_F(KeptSchemaTest, AFullDiskOrASmallSpoolGoesWithout) {
  disk_.room = 10;
  auto spool = Create();
  spool->KeepSchema(first_);
  EXPECT_THAT(NamesIn(folder()), ElementsAre("owner"));
  disk_.room = 1 << 20;
  spool->KeepSchema(first_);
  EXPECT_THAT(Schemas(), ElementsAre(kFirst));
  spool = nullptr;
  spool = Create(1'000);
  spool->KeepSchema(first_);
  EXPECT_THAT(NamesIn(folder()), ElementsAre("owner"));
  Fill(spool.get(), 3, 4);
}

TEST_F(KeptSchemaTest, ThatOfAnotherProcessIsNotUsed) {
  auto spool = Create();
  Fill(spool.get(), 3, 6);
  spool->KeepSchema(first_);
  spool.reset();
  SpoolIdentity other = MakeIdentity();
  other.process_nonce = "fedcba9876543210";
  testing::WriteAll(folder() + "/" + kFirst, EncodeKeptSchema(other, first_));
  spool = Open();
  EXPECT_EQ(spool->SchemaBefore(3), nullptr);
  EXPECT_THAT(spool->TakeProblems(),
              ElementsAre(::testing::HasSubstr("another process")));
}

}  // namespace
}  // namespace gradtap::agent
