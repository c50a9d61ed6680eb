#include "agent/spool/segment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/spool/spool_fixtures.h"
#include "core/hash.h"

namespace gradtap::agent {
namespace {

using ::testing::HasSubstr;
using testing::MakeIdentity;
using testing::Payload;
using testing::StepMeta;

// Records 5 to 9; where each begins, and the end.
struct Made {
  std::string bytes;
  std::vector<std::size_t> ends;
};
Made MakeSegment() {
  Made made;
  made.bytes = EncodeSegmentHeader(MakeIdentity());
  made.ends.push_back(made.bytes.size());
  for (std::uint64_t seq = 5; seq < 10; ++seq) {
    EntryMeta meta = StepMeta(static_cast<std::int64_t>(seq) * 10, 2);
    if (seq == 7) {
      meta.kind = EntryKind::kGap;
      meta.cause = GapCause::kRingFull;
      meta.recorded_steps = 0;
      meta.last_step = 77;
      meta.steps = 8;
    }
    if (seq == 8) {
      meta.part_index = 1;
      meta.part_count = 3;
    }
    made.bytes += EncodeRecordHead(seq, meta, Payload(seq)) + Payload(seq);
    made.ends.push_back(made.bytes.size());
  }
  return made;
}

TEST(SegmentTest, WhatIsEncodedReadsBackInFull) {
  const Made made = MakeSegment();
  const SegmentContent content = ParseSegment(made.bytes, 5);
  EXPECT_EQ(content.damage, "");
  EXPECT_EQ(content.identity, MakeIdentity());
  EXPECT_EQ(content.good_bytes, made.bytes.size());
  ASSERT_EQ(content.records.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    const SegmentRecord& record = content.records[i];
    EXPECT_EQ(made.bytes.substr(record.offset, record.size), Payload(5 + i));
    EXPECT_EQ(record.meta.step, static_cast<std::int64_t>(5 + i) * 10);
    EXPECT_EQ(record.meta.branch, 2u);
  }
  EXPECT_EQ(content.records[2].meta.kind, EntryKind::kGap);
  EXPECT_EQ(content.records[2].meta.cause, GapCause::kRingFull);
  EXPECT_EQ(content.records[2].meta.last_step, 77);
  EXPECT_EQ(content.records[2].meta.steps, 8u);
  EXPECT_EQ(content.records[2].meta.recorded_steps, 0u);
  EXPECT_EQ(content.records[3].meta.part_index, 1u);
  EXPECT_EQ(content.records[3].meta.part_count, 3u);
}

TEST(SegmentTest, TornAtAnyByteGivesTheRecordsBeforeIt) {
  const Made made = MakeSegment();
  for (std::size_t cut = 0; cut < made.bytes.size(); ++cut) {
    const SegmentContent content =
        ParseSegment(std::string_view(made.bytes).substr(0, cut), 5);
    std::size_t whole = 0;
    while (whole + 1 < made.ends.size() && made.ends[whole + 1] <= cut) {
      ++whole;
    }
    ASSERT_EQ(content.records.size(), whole) << cut;
    const bool between = cut >= made.ends[0] && cut == made.ends[whole];
    ASSERT_EQ(content.damage.empty(), between) << cut;
  }
}

TEST(SegmentTest, AnyFlippedBitIsSeenAndNothingAfterItIsUsed) {
  Made made = MakeSegment();
  for (std::size_t at = 0; at < made.bytes.size(); ++at) {
    std::size_t before = 0;
    while (made.ends[before] <= at) ++before;
    for (int bit = 0; bit < 8; ++bit) {
      made.bytes[at] = static_cast<char>(made.bytes[at] ^ (1 << bit));
      const SegmentContent content = ParseSegment(made.bytes, 5);
      made.bytes[at] = static_cast<char>(made.bytes[at] ^ (1 << bit));
      ASSERT_NE(content.damage, "") << at << " bit " << bit;
      ASSERT_EQ(content.records.size(), before == 0 ? 0 : before - 1) << at;
    }
  }
}

TEST(SegmentTest, RecordsOutOfOrderAreNotUsed) {
  const Made made = MakeSegment();
  const std::string swapped =
      made.bytes.substr(0, made.ends[1]) +
      made.bytes.substr(made.ends[2], made.ends[3] - made.ends[2]);
  const SegmentContent content = ParseSegment(swapped, 5);
  EXPECT_EQ(content.records.size(), 1u);
  EXPECT_THAT(content.damage, HasSubstr("record 7"));
  EXPECT_THAT(ParseSegment(made.bytes, 4).damage, HasSubstr("record 4"));
}

TEST(SegmentTest, AnotherFormatVersionIsNamedAndToldFromDamage) {
  const SegmentContent content =
      ParseSegment(testing::OfVersion(3, MakeSegment().bytes), 5);
  EXPECT_THAT(content.damage, HasSubstr("version 3, and this program knows 2"));
  EXPECT_TRUE(content.other_version);
  Made flipped = MakeSegment();
  flipped.bytes[8] ^= 1;
  EXPECT_THAT(ParseSegment(flipped.bytes, 5).damage, HasSubstr("checksum"));
  EXPECT_FALSE(ParseSegment(flipped.bytes, 5).other_version);
}

// The bytes, so that nobody changes them without a new version.
TEST(SegmentTest, TheHeaderIsAsTheGrammarSays) {
  using namespace std::string_literals;
  SpoolIdentity identity = MakeIdentity();
  identity.tags = {{"team", "vision"}};
  const std::string front =
      "\3\0\0\0run\x8\0\0\0launch 7"s
      "\x10\0\0\0"s
      "0123456789abcdef"
      "\5\0\0\0"s
      "1.2.3"
      "\3\0\0\0"s
      "9.9"
      "\4\0\0\0host"s;
  const std::string collector = "\6\0\0\0peer:1"s;
  const std::string back =
      "\3\0\0\0\x8\0\0\0"s
      "\0\0\x2a\x36\xfe\x9c\x97\x17"s
      "\x92\x10\0\0\0\0\0\0"s
      "\1\0\0\0\4\0\0\0team\6\0\0\0vision"s;
  const auto header = [](const char* version, const std::string& body) {
    std::string bytes = "GTSPOOL1" + std::string(version, 1) + "\0\0\0"s;
    bytes += static_cast<char>(body.size());
    bytes += "\0\0\0"s + body;
    const std::uint64_t hash = StableHash64(bytes);
    return bytes.append(reinterpret_cast<const char*>(&hash), sizeof(hash));
  };
  const std::string now = header("\2", front + collector + back);
  EXPECT_EQ(EncodeSegmentHeader(identity), now);
  EXPECT_EQ(ParseSegment(now, 1).identity, identity);
  // What version 1 has left is for any collector.
  const SegmentContent old = ParseSegment(header("\1", front + back), 1);
  EXPECT_EQ(old.damage, "");
  identity.collector = "";
  EXPECT_EQ(old.identity, identity);
}

TEST(SegmentTest, AnIdentityThatNoCollectorTakesIsRefused) {
  for (int wrong = 0; wrong < 3; ++wrong) {
    SpoolIdentity identity = MakeIdentity();
    if (wrong == 0) identity.run = "../run";
    if (wrong == 1) identity.process_nonce = "short";
    if (wrong == 2) identity.rank = identity.world_size;
    EXPECT_THAT(ParseSegment(EncodeSegmentHeader(identity), 1).damage,
                HasSubstr("identity"))
        << wrong;
  }
}

}  // namespace
}  // namespace gradtap::agent
