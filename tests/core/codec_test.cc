#include "core/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "core/codec_samples.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::Encoded;
using ::gradtap::testing::IsOk;
using ::gradtap::testing::SameParameter;
using ::gradtap::testing::SameStep;
using ::gradtap::testing::SampleSchema;
using ::gradtap::testing::SampleStep;
using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

std::string_view BodyOf(std::string_view record, RecordKind kind) {
  const auto view = ParseRecord(record);
  EXPECT_THAT(view, IsOk());
  EXPECT_EQ(view->kind, kind);
  return view->body;
}

TEST(CodecTest, StepsComeBackBitForBit) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = SampleStep(random);
    const std::string bytes = Encoded(step);
    const auto view = StepView::Parse(BodyOf(bytes, RecordKind::kStep));
    GRADTAP_ASSERT_OK(view) << seed;
    EXPECT_TRUE(SameStep(ToStepData(*view), step)) << seed;
    EXPECT_EQ(Encoded(ToStepData(*view)), bytes) << seed;
  }
}

TEST(CodecTest, AViewThatIsUsedAgainKeepsNothingOfWhatItRead) {
  StepView again;
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const std::string bytes = Encoded(SampleStep(random));
    std::string body(BodyOf(bytes, RecordKind::kStep));
    GRADTAP_ASSERT_OK(again.Reparse(body)) << seed;
    EXPECT_EQ(Encoded(ToStepData(again)), bytes) << seed;
    // What cannot be read, in the middle of anything, leaves nothing behind.
    body.resize(random() % body.size());
    EXPECT_EQ(again.Reparse(body).ok(), StepView::Parse(body).ok()) << seed;
  }
  GRADTAP_ASSERT_OK(again.Reparse(""));
  EXPECT_EQ(Encoded(ToStepData(again)),
            Encoded(ToStepData(*StepView::Parse(""))));
}

TEST(CodecTest, ViewsReadOnePlaceAtATime) {
  std::mt19937_64 random(1);
  StepData step;
  step.roles.push_back(testing::SampleColumns(Role::kGrad, 500, random));
  const std::string bytes = Encoded(step);
  const auto view = StepView::Parse(BodyOf(bytes, RecordKind::kStep));
  GRADTAP_ASSERT_OK(view);
  EXPECT_EQ(view->Find(Role::kWeight), nullptr);
  const StepView::Columns* grad = view->Find(Role::kGrad);
  ASSERT_NE(grad, nullptr);
  ASSERT_EQ(grad->size, 500u);
  for (std::uint32_t i = 0; i < 500; ++i) {
    const Record want = step.roles[0].Get(i);
    const Record got = grad->Get(i);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(got.mean),
              std::bit_cast<std::uint32_t>(want.mean));
    EXPECT_EQ(got.zero, want.zero);
    EXPECT_EQ(got.neg_inf, want.neg_inf);
    EXPECT_EQ(grad->IsAbsent(i), step.roles[0].absent[i] != 0);
  }
}

TEST(CodecTest, AnEmptyStepIsAFewBytes) {
  StepData step;
  step.interval_steps = 0;
  EXPECT_EQ(EncodedStepSize(step), 2u);
  const std::string bytes = Encoded(step);
  const auto view = StepView::Parse(BodyOf(bytes, RecordKind::kStep));
  GRADTAP_ASSERT_OK(view);
  EXPECT_EQ(view->step(), 0);
  EXPECT_TRUE(view->columns().empty());
}

TEST(CodecTest, NegativeStepsAndTimesSurvive) {
  StepData step;
  step.step = std::numeric_limits<std::int64_t>::min();
  step.wall_time_unix_ns = -1;
  const std::string bytes = Encoded(step);
  const auto view = StepView::Parse(BodyOf(bytes, RecordKind::kStep));
  GRADTAP_ASSERT_OK(view);
  EXPECT_EQ(view->step(), step.step);
  EXPECT_EQ(view->wall_time_unix_ns(), -1);
}

TEST(CodecTest, SchemasComeBackWhole) {
  const Schema schema = SampleSchema();
  const std::string bytes = EncodeSchema(schema);
  const auto back = DecodeSchema(BodyOf(bytes, RecordKind::kSchema));
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->schema_id, 3u);
  EXPECT_EQ(back->fingerprint, schema.fingerprint);
  ASSERT_EQ(back->parameters.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(SameParameter(back->parameters[i], schema.parameters[i])) << i;
  }
  EXPECT_EQ(back->optimizers, schema.optimizers);
}

TEST(CodecTest, LongOrInvalidTextOfASchemaIsMadeReadable) {
  Schema schema;
  Parameter p;
  p.name = "a\xff";
  p.module_type = std::string(100'000, 'T');
  p.unsupported_reason = "\x80";
  schema.parameters.push_back(p);
  schema.optimizers = {"B\xff"};
  const std::string bytes = EncodeSchema(schema);
  const auto back = DecodeSchema(BodyOf(bytes, RecordKind::kSchema));
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->parameters[0].name, "a\\xff");
  EXPECT_EQ(back->parameters[0].module_type.size(), 512u);
  EXPECT_EQ(back->parameters[0].unsupported_reason, "\\x80");
  EXPECT_NE(back->fingerprint, 0u);
  EXPECT_EQ(back->optimizers, std::vector<std::string>{"B\\xff"});
}

TEST(CodecTest, FingerprintsTellTablesApart) {
  const Schema schema = SampleSchema();
  const std::uint64_t print = FingerprintOf(schema.parameters);
  EXPECT_EQ(FingerprintOf(schema.parameters), print);
  EXPECT_NE(FingerprintOf({}), 0u);
  std::vector<std::uint64_t> prints = {print, FingerprintOf({})};
  const auto changed = [&](auto change) {
    std::vector<Parameter> parameters = schema.parameters;
    change(parameters);
    const std::uint64_t other = FingerprintOf(parameters);
    EXPECT_THAT(prints, ::testing::Not(::testing::Contains(other)));
    prints.push_back(other);
  };
  using P = std::vector<Parameter>;
  changed([](P& p) { p[0].name = "other"; });
  changed([](P& p) { p[0].shape[0] = 129; });
  changed([](P& p) { p[0].requires_grad = false; });
  changed([](P& p) { p[0].roles.pop_back(); });
  changed([](P& p) { p[0].aliases.clear(); });
  changed([](P& p) { p.pop_back(); });
  changed([](P& p) { std::swap(p[0], p[1]); });
}

TEST(CodecTest, GapsComeBackWhole) {
  const GapData gap{GapCause::kRingFull, -5, 10, 16, "ring full"};
  const std::string bytes = EncodeGap(gap);
  const auto back = DecodeGap(BodyOf(bytes, RecordKind::kGap));
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->cause, gap.cause);
  EXPECT_EQ(back->first_step, -5);
  EXPECT_EQ(back->last_step, 10);
  EXPECT_EQ(back->steps, 16u);
  EXPECT_EQ(back->detail, "ring full");
}

TEST(CodecTest, ALongReasonOfAGapIsCut) {
  const std::string bytes =
      EncodeGap({GapCause::kLoop, 0, 0, 1, std::string(9999, 'x') + "\xff"});
  const auto back = DecodeGap(BodyOf(bytes, RecordKind::kGap));
  GRADTAP_ASSERT_OK(back);
  EXPECT_EQ(back->detail.size(), 512u);
}

TEST(CodecTest, GapsThatCannotBeAreRefused) {
  const auto decode = [](const GapData& gap) {
    const std::string bytes = EncodeGap(gap);
    return DecodeGap(BodyOf(bytes, RecordKind::kGap));
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(decode({GapCause::kLoop, 5, 4, 1, ""}),
              StatusIs(kInvalid, HasSubstr("ends at step 4")));
  EXPECT_THAT(decode({GapCause::kLoop, 5, 5, 0, ""}),
              StatusIs(kInvalid, HasSubstr("has 0 steps")));
  EXPECT_THAT(decode({GapCause::kLoop, 5, 6, 3, ""}),
              StatusIs(kInvalid, HasSubstr("5 to 6")));
  using Limits = std::numeric_limits<std::int64_t>;
  EXPECT_THAT(decode({GapCause::kLoop, Limits::min(), Limits::max(),
                      ~std::uint64_t{0}, ""}),
              IsOk());
}

TEST(CodecTest, RollbacksAndEndsComeBackWhole) {
  const std::string rollback_bytes = EncodeRollback({-7, 4});
  const auto rollback =
      DecodeRollback(BodyOf(rollback_bytes, RecordKind::kRollback));
  GRADTAP_ASSERT_OK(rollback);
  EXPECT_EQ(rollback->step, -7);
  EXPECT_EQ(rollback->branch, 4u);
  const std::string zero = EncodeRollback({5, 0});
  EXPECT_THAT(
      DecodeRollback(BodyOf(zero, RecordKind::kRollback)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("branch is 0")));

  const std::string end_bytes =
      EncodeEnd({EndReason::kStopped, 123, 10, 7, 2, 1});
  const auto end = DecodeEnd(BodyOf(end_bytes, RecordKind::kEnd));
  GRADTAP_ASSERT_OK(end);
  EXPECT_EQ(end->reason, EndReason::kStopped);
  EXPECT_EQ(end->wall_time_unix_ns, 123);
  EXPECT_EQ(end->steps_seen, 10u);
  EXPECT_EQ(end->steps_recorded, 7u);
  EXPECT_EQ(end->steps_skipped, 2u);
  EXPECT_EQ(end->steps_lost, 1u);
}

TEST(CodecTest, PartsJoinToTheRecord) {
  std::mt19937_64 random(2);
  StepData step;
  step.roles.push_back(testing::SampleColumns(Role::kGrad, 60'000, random));
  const std::string record = Encoded(step);
  ASSERT_GT(record.size(), kMaxPartBytes);
  const std::size_t count = (record.size() + kMaxPartBytes - 1) / kMaxPartBytes;
  std::string joined;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string data = record.substr(i * kMaxPartBytes, kMaxPartBytes);
    const std::string bytes =
        EncodePartHead(static_cast<std::uint32_t>(i),
                       static_cast<std::uint32_t>(count), data.size()) +
        data;
    const auto part = DecodePart(BodyOf(bytes, RecordKind::kPart));
    GRADTAP_ASSERT_OK(part);
    EXPECT_EQ(part->index, i);
    EXPECT_EQ(part->count, count);
    joined += part->data;
  }
  EXPECT_EQ(joined, record);
}

TEST(CodecTest, PartsThatCannotBeAreRefused) {
  const auto decode = [](std::uint32_t index, std::uint32_t count,
                         const std::string& data) {
    const std::string bytes = EncodePartHead(index, count, data.size()) + data;
    return DecodePart(BodyOf(bytes, RecordKind::kPart)).status();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  GRADTAP_EXPECT_OK(decode(0, 1, std::string(kMaxPartBytes, 'x')));
  EXPECT_THAT(decode(0, 1, std::string(kMaxPartBytes + 1, 'x')),
              StatusIs(kInvalid, HasSubstr("524289")));
  EXPECT_THAT(decode(0, 1, ""), StatusIs(kInvalid, HasSubstr("0 bytes")));
  EXPECT_THAT(decode(2, 2, "x"), StatusIs(kInvalid, HasSubstr("index 2")));
  EXPECT_THAT(decode(0, 0, "x"), StatusIs(kInvalid, HasSubstr("of 0")));
}

TEST(CodecTest, ListsSplitIntoTheRecordsTheyWereMadeOf) {
  const std::vector<std::string> records = {EncodeRollback({1, 1}), "",
                                            EncodeSchema(SampleSchema()),
                                            std::string(1 << 20, 'x')};
  std::string list;
  for (const std::string& record : records) {
    const std::size_t before = list.size();
    AppendToRecordList(record, &list);
    EXPECT_EQ(list.size() - before - record.size(),
              RecordListOverhead(record.size()));
    EXPECT_LE(RecordListOverhead(record.size()), 6u);
  }
  const auto split = SplitRecordList(list);
  GRADTAP_ASSERT_OK(split);
  EXPECT_EQ(std::vector<std::string>(split->begin(), split->end()), records);
  EXPECT_EQ(SplitRecordList("")->size(), 0u);
  EXPECT_LE(RecordListOverhead(std::size_t{1} << 31), 6u);
}

TEST(CodecTest, RecordsOfNewerVersionsAreUnknownAndNotAnError) {
  EXPECT_EQ(ParseRecord("")->kind, RecordKind::kUnknown);
  EXPECT_EQ(ParseRecord(std::string("\x3a\x02hi"))->kind,
            RecordKind::kUnknown);  // Field 7.
  const std::string both = "\x3a\x02hi" + EncodeRollback({1, 1});
  EXPECT_EQ(ParseRecord(both)->kind, RecordKind::kRollback);
  EXPECT_THAT(ParseRecord(EncodeRollback({1, 1}) + EncodeRollback({1, 1})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("more than one kind")));
}

TEST(FrameTest, AnyContentComesBack) {
  std::mt19937_64 random(3);
  std::string noise(100'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  for (const std::string& content :
       {std::string(), std::string("x"), std::string(1 << 20, '\0'), noise}) {
    for (const std::string& frame :
         {CompressFrame(content), StoreFrame(content)}) {
      EXPECT_EQ(*DecompressFrame(frame, content.size()), content);
      EXPECT_LE(frame.size(), content.size() + content.size() / 100 + 64);
    }
  }
}

TEST(FrameTest, ADeclaredSizeOverTheLimitIsRefusedBeforeAnythingIsAllocated) {
  EXPECT_THAT(
      DecompressFrame(CompressFrame(std::string(1001, 'x')), 1000),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1001")));
  // A header that declares 2^60 bytes.
  std::string bomb("\x28\xb5\x2f\xfd\xe4", 5);
  bomb += std::string("\0\0\0\0\0\0\0\x10", 8) + std::string("\x01\0\0", 3) +
          "sum!";
  EXPECT_THAT(DecompressFrame(bomb, 1 << 20),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("1152921504606846976")));
}

TEST(FrameTest, ABombIsBoundedByTheLimit) {
  const std::string bomb = CompressFrame(std::string(64 << 20, '\0'));
  EXPECT_LT(bomb.size(), 10'000u);
  EXPECT_THAT(DecompressFrame(bomb, 2 << 20),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("")));
}

TEST(FrameTest, AnythingButOneWholeCheckedFrameIsRefused) {
  const std::string frame = CompressFrame(std::string(5000, 'a') + "bcd");
  constexpr std::size_t kLimit = 1 << 20;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(DecompressFrame("", kLimit), StatusIs(kInvalid, HasSubstr("")));
  EXPECT_THAT(DecompressFrame("hello world", kLimit),
              StatusIs(kInvalid, HasSubstr("not a zstd frame")));
  EXPECT_THAT(DecompressFrame(frame + "x", kLimit),
              StatusIs(kInvalid, HasSubstr("1 bytes follow")));
  EXPECT_THAT(DecompressFrame(frame + frame, kLimit),
              StatusIs(kInvalid, HasSubstr("follow its end")));
  // A skippable frame.
  EXPECT_THAT(
      DecompressFrame(std::string("\x50\x2a\x4d\x18\0\0\0\0", 8), kLimit),
      StatusIs(kInvalid, HasSubstr("not a zstd frame")));
  std::string unchecked = frame;
  unchecked[4] = static_cast<char>(unchecked[4] & ~0x04);
  EXPECT_THAT(DecompressFrame(unchecked, kLimit),
              StatusIs(kInvalid, HasSubstr("lacks a checksum")));
  for (std::size_t i = 0; i < frame.size(); ++i) {
    EXPECT_FALSE(DecompressFrame(frame.substr(0, i), kLimit).ok()) << i;
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = frame;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      const auto content = DecompressFrame(flipped, kLimit);
      // A few bits of the header carry nothing; else the checksum tells.
      if (content.ok()) {
        EXPECT_EQ(*content, *DecompressFrame(frame, kLimit)) << i;
      }
    }
  }
}

}  // namespace
}  // namespace gradtap
