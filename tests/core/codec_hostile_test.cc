// What a peer may send: cut off, flipped, and made up with care.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "core/wire.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::Encoded;
using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Reads a record with whatever reader is due, and all that it gives access to.
// Must not crash, and must not fail with anything but kInvalidArgument.
bool ReadAll(std::string_view record) {
  const auto check = [](const absl::Status& status) {
    EXPECT_TRUE(status.ok() || status.code() == kInvalid) << status;
    return status.ok();
  };
  const auto view = ParseRecord(record);
  if (!check(view.status())) return false;
  switch (view->kind) {
    case RecordKind::kSchema:
      return check(DecodeSchema(view->body).status());
    case RecordKind::kGap:
      return check(DecodeGap(view->body).status());
    case RecordKind::kRollback:
      return check(DecodeRollback(view->body).status());
    case RecordKind::kEnd:
      return check(DecodeEnd(view->body).status());
    case RecordKind::kPart:
      return check(DecodePart(view->body).status());
    case RecordKind::kUnknown:
      return true;
    case RecordKind::kStep:
      break;
  }
  const auto step = StepView::Parse(view->body);
  if (!check(step.status())) return false;
  const StepData data = ToStepData(*step);
  // What was accepted can be written, and reads the same.
  const std::string again = Encoded(data);
  const auto reparsed = StepView::Parse(ParseRecord(again)->body);
  EXPECT_TRUE(reparsed.ok() && testing::SameStep(ToStepData(*reparsed), data));
  return true;
}

std::vector<std::string> SampleRecords() {
  std::vector<std::string> records = {
      EncodeSchema(testing::SampleSchema()),
      EncodeGap({GapCause::kSpoolFull, 3, 9, 4, "d\xc3\xa9tail"}),
      EncodeRollback({77, 1}),
      EncodeEnd({EndReason::kFinished, 99, 10, 7, 2, 1}),
      EncodePartHead(1, 3, 4) + "data"};
  for (unsigned seed = 0; seed < 6; ++seed) {
    std::mt19937_64 random(seed);
    records.push_back(Encoded(testing::SampleStep(random)));
  }
  return records;
}

TEST(CodecHostileTest, EveryPrefixOfARecordIsRefused) {
  for (const std::string& record : SampleRecords()) {
    EXPECT_TRUE(ReadAll(record));
    // A copy of its own, so that a sanitizer sees a read beyond the end.
    for (std::size_t size = 1; size < record.size(); ++size) {
      const std::vector<char> prefix(record.begin(),
                                     record.begin() + static_cast<long>(size));
      EXPECT_FALSE(ReadAll({prefix.data(), prefix.size()})) << size;
    }
  }
}

TEST(CodecHostileTest, EveryPrefixOfABodyIsReadOrRefused) {
  for (const std::string& record : SampleRecords()) {
    const RecordView view = *ParseRecord(record);
    for (std::size_t size = 0; size < view.body.size(); ++size) {
      std::string cut;
      wire::AppendBytesField(static_cast<std::uint32_t>(view.kind),
                             view.body.substr(0, size), &cut);
      ReadAll(cut);
    }
  }
}

TEST(CodecHostileTest, FlippedBytesAreReadOrRefused) {
  std::mt19937_64 random(7);
  for (const std::string& record : SampleRecords()) {
    for (std::size_t i = 0; i < record.size(); ++i) {
      // All bits of small records, one of each byte of large ones.
      const bool small = record.size() < 500;
      const int only = static_cast<int>(random() % 8);
      for (int bit = small ? 0 : only; bit <= (small ? 7 : only); ++bit) {
        std::string flipped = record;
        flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
        ReadAll(flipped);
      }
    }
    for (int round = 0; round < 500; ++round) {
      std::string mutated = record;
      for (std::uint64_t n = 1 + random() % 8; n > 0; --n) {
        const std::size_t at = random() % mutated.size();
        switch (random() % 3) {
          case 0:
            mutated[at] = static_cast<char>(random());
            break;
          case 1:
            mutated.insert(at, 1, static_cast<char>(random()));
            break;
          default:
            if (mutated.size() > 1) mutated.erase(at, 1);
        }
      }
      ReadAll(mutated);
    }
  }
}

TEST(CodecHostileTest, NoiseIsReadOrRefused) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 5000; ++round) {
    std::string noise(random() % 64, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    ReadAll(noise);
    (void)SplitRecordList(noise);
    (void)DecompressFrame(noise, 1000);
    for (std::uint32_t kind = 1; kind <= 6; ++kind) {
      std::string record;
      wire::AppendBytesField(kind, noise, &record);
      ReadAll(record);
    }
  }
}

// ---- Steps made up field by field. ----

std::string Varint(std::uint32_t number, std::uint64_t value) {
  std::string out;
  wire::AppendVarint(wire::TagOf(number, wire::Type::kVarint), &out);
  wire::AppendVarint(value, &out);
  return out;
}
std::string Bytes(std::uint32_t number, std::string_view bytes) {
  std::string out;
  wire::AppendBytesField(number, bytes, &out);
  return out;
}
std::string Packed(std::uint32_t number,
                   const std::vector<std::uint64_t>& values) {
  std::string packed;
  for (const std::uint64_t value : values) wire::AppendVarint(value, &packed);
  return Bytes(number, packed);
}
std::string Floats(std::size_t places, std::uint32_t first = 4,
                   std::uint32_t last = 8) {
  std::string out;
  for (std::uint32_t number = first; number <= last; ++number) {
    out += Bytes(number, std::string(places * 4, '\x3f'));
  }
  return out;
}
// Columns of role grad with `places` places, and more fields.
std::string Columns(std::size_t places, const std::string& more = "") {
  return Bytes(5, Varint(1, 2) + Varint(2, places) + Floats(places) + more);
}
absl::Status ParseStep(const std::string& body) {
  return StepView::Parse(body).status();
}

TEST(StepViewTest, ColumnsMustHaveAsManyPlacesAsTheySay) {
  GRADTAP_EXPECT_OK(ParseStep(Columns(3)));
  GRADTAP_EXPECT_OK(ParseStep(Columns(0)));
  EXPECT_THAT(ParseStep(Bytes(5, Varint(1, 2) + Varint(2, 3))),
              StatusIs(kInvalid, AllOf(HasSubstr("mean"), HasSubstr("0 bytes"),
                                       HasSubstr("3 places"))));
  EXPECT_THAT(
      ParseStep(Bytes(5, Varint(1, 2) + Varint(2, 3) + Floats(3, 4, 7))),
      StatusIs(kInvalid, HasSubstr("max")));
  EXPECT_THAT(ParseStep(Bytes(5, Varint(1, 2) + Varint(2, 4) + Floats(3))),
              StatusIs(kInvalid, HasSubstr("12 bytes for 4 places")));
  // 2^30 places of 4 bytes are 2^32 bytes; 32-bit arithmetic would say none.
  EXPECT_THAT(ParseStep(Bytes(5, Varint(1, 2) + Varint(2, 1u << 30))),
              StatusIs(kInvalid, HasSubstr("1073741824 places")));
  EXPECT_THAT(
      ParseStep(Bytes(5, Varint(1, 2) + Varint(2, std::uint64_t{1} << 32))),
      StatusIs(kInvalid, HasSubstr("exceeds 32 bits")));
}

TEST(StepViewTest, RolesMustBeKnownAndUnique) {
  for (const std::uint64_t role : {0u, 6u, 258u}) {
    EXPECT_THAT(ParseStep(Bytes(5, Varint(1, role))),
                StatusIs(kInvalid, HasSubstr("role is missing or unknown")));
  }
  EXPECT_THAT(ParseStep(Bytes(5, "")), StatusIs(kInvalid, HasSubstr("role")));
  EXPECT_THAT(ParseStep(Columns(1) + Columns(1)),
              StatusIs(kInvalid, HasSubstr("a role twice")));
}

TEST(StepViewTest, ColumnsInPiecesOrUnpackedAreRefused) {
  EXPECT_THAT(
      ParseStep(Columns(2, Floats(2, 4, 4))),
      StatusIs(kInvalid, AllOf(HasSubstr("mean"), HasSubstr("pieces"))));
  EXPECT_THAT(ParseStep(Bytes(5, Varint(1, 2) + "\x25"
                                                "abcd")),
              StatusIs(kInvalid, HasSubstr("not packed")));
  EXPECT_THAT(ParseStep(Columns(2, Bytes(9, "") + Bytes(9, ""))),
              StatusIs(kInvalid, HasSubstr("zero")));
}

TEST(StepViewTest, TheAbsentBitmapMustFit) {
  GRADTAP_EXPECT_OK(ParseStep(Columns(9, Bytes(3, std::string("\xff\x01")))));
  EXPECT_THAT(ParseStep(Columns(9, Bytes(3, "\xff"))),
              StatusIs(kInvalid, HasSubstr("1 bytes for 9 places")));
  EXPECT_THAT(ParseStep(Columns(9, Bytes(3, "\xff\x01\x01"))),
              StatusIs(kInvalid, HasSubstr("3 bytes for 9 places")));
  EXPECT_THAT(ParseStep(Columns(9, Bytes(3, "\xff\x03"))),
              StatusIs(kInvalid, HasSubstr("beyond the last place")));
  EXPECT_THAT(ParseStep(Columns(0, Bytes(3, "\x01"))),
              StatusIs(kInvalid, HasSubstr("absent")));
}

TEST(StepViewTest, SparseCountsMustAscendWithinTheColumn) {
  const auto sparse = [](const std::vector<std::uint64_t>& deltas,
                         const std::vector<std::uint64_t>& counts) {
    return ParseStep(
        Columns(10, Bytes(10, Packed(1, deltas) + Packed(2, counts))));
  };
  GRADTAP_EXPECT_OK(sparse({0, 9}, {1, ~std::uint64_t{0}}));
  GRADTAP_EXPECT_OK(sparse({}, {}));
  EXPECT_THAT(sparse({0, 10}, {1, 1}),
              StatusIs(kInvalid, HasSubstr("nan: names place 10 of 10")));
  EXPECT_THAT(sparse({3, 0}, {1, 1}),
              StatusIs(kInvalid, HasSubstr("do not ascend")));
  EXPECT_THAT(sparse({1, 1}, {1}),
              StatusIs(kInvalid, HasSubstr("2 places but 1 counts")));
  EXPECT_THAT(sparse({1}, {0}), StatusIs(kInvalid, HasSubstr("zero")));
  EXPECT_THAT(sparse({std::uint64_t{1} << 32}, {1}),
              StatusIs(kInvalid, HasSubstr("malformed")));
  EXPECT_THAT(sparse({5, 0xffffffff}, {1, 1}),
              StatusIs(kInvalid, HasSubstr("of 10")));
}

TEST(StepViewTest, SparseCountsMayBePackedOrNotAsProtobufAcceptsThem) {
  const std::string unpacked =
      Varint(1, 2) + Varint(2, 7) + Packed(1, {3}) + Packed(2, {8});
  const std::string body = Columns(10, Bytes(9, unpacked));
  const auto view = StepView::Parse(body);
  GRADTAP_ASSERT_OK(view);
  const StepView::Counts& zero = view->Find(Role::kGrad)->zero;
  EXPECT_EQ(zero.At(2), 7u);
  EXPECT_EQ(zero.At(5), 8u);
  EXPECT_EQ(zero.At(3), 0u);
}

TEST(StepViewTest, ManyPiecesDoNotTakeQuadraticTime) {
  std::string counts;
  for (int i = 0; i < 200'000; ++i) counts += Packed(2, {1});
  EXPECT_THAT(ParseStep(Columns(200'000, Bytes(9, counts))),
              StatusIs(kInvalid, HasSubstr("0 places but 200000 counts")));
}

TEST(StepViewTest, MoreThanThereCanBeIsRefusedWhileItIsRead) {
  const auto many = [](std::size_t n, const std::string& one) {
    std::string all;
    for (std::size_t i = 0; i < n; ++i) all += one;
    return all;
  };
  EXPECT_THAT(ParseStep(many(1'000'001, Bytes(7, ""))),
              StatusIs(kInvalid, HasSubstr("1,000,000 histograms")));
  EXPECT_THAT(ParseStep(many(1'025, Bytes(6, Bytes(1, "loss")))),
              StatusIs(kInvalid, HasSubstr("1,024 scalars")));
  const std::vector<std::uint64_t> eleven(11, 1);
  EXPECT_THAT(ParseStep(Columns(10, Bytes(9, Packed(1, eleven)))),
              StatusIs(kInvalid, HasSubstr("more than places")));
  EXPECT_THAT(ParseStep(Columns(10, Bytes(9, many(11, Varint(2, 1))))),
              StatusIs(kInvalid, HasSubstr("more than places")));
}

TEST(StepViewTest, ScalarNamesAreCheckedAndUnique) {
  const auto scalar = [](std::string_view name) {
    return Bytes(6, Bytes(1, name));
  };
  GRADTAP_EXPECT_OK(ParseStep(scalar("a") + scalar("b")));
  GRADTAP_EXPECT_OK(ParseStep(scalar(std::string(512, 'a'))));
  EXPECT_THAT(ParseStep(scalar("")), StatusIs(kInvalid, HasSubstr("no name")));
  EXPECT_THAT(ParseStep(Bytes(6, "")),
              StatusIs(kInvalid, HasSubstr("no name")));
  EXPECT_THAT(ParseStep(scalar("\xff")),
              StatusIs(kInvalid, HasSubstr("UTF-8")));
  EXPECT_THAT(ParseStep(scalar(std::string(513, 'a'))),
              StatusIs(kInvalid, HasSubstr("512")));
  EXPECT_THAT(ParseStep(scalar("a\n") + scalar("b") + scalar("a\n")),
              StatusIs(kInvalid, HasSubstr("'a\\n' twice")));
}

TEST(StepViewTest, HistogramsMustBelongToAColumn) {
  const auto histogram = [](std::uint64_t role, std::uint64_t place,
                            const std::string& bins) {
    return Bytes(7, Varint(1, role) + Varint(2, place) + Bytes(3, bins));
  };
  const std::string bins = Packed(1, {0, 526}) + Packed(2, {1, 2});
  GRADTAP_EXPECT_OK(ParseStep(histogram(2, 3, bins) + Columns(4)));
  EXPECT_THAT(ParseStep(Columns(4) + histogram(2, 4, bins)),
              StatusIs(kInvalid, HasSubstr("place 4")));
  EXPECT_THAT(ParseStep(Columns(4) + histogram(1, 0, bins)),
              StatusIs(kInvalid, HasSubstr("columns lack")));
  EXPECT_THAT(ParseStep(Columns(4) +
                        histogram(2, 0, Packed(1, {527}) + Packed(2, {1}))),
              StatusIs(kInvalid, HasSubstr("place 527 of 527")));
  EXPECT_THAT(ParseStep(Columns(4) + Bytes(7, "\xff")),
              StatusIs(kInvalid, HasSubstr("Histogram")));
  EXPECT_THAT(ParseStep(Columns(4) + histogram(2, 1, bins) +
                        histogram(2, 0, bins) + histogram(2, 1, "")),
              StatusIs(kInvalid, HasSubstr("place 1 twice")));
}

TEST(StepViewTest, HistogramsHaveBinsOfTheLayoutAndCountsThatAdd) {
  const auto of_bins = [](const std::string& bins) {
    return ParseStep(Columns(1) + Bytes(7, Varint(1, 2) + Bytes(3, bins)));
  };
  for (const std::uint64_t bin : {6, 15, 16, 271, 272}) {
    EXPECT_THAT(of_bins(Packed(1, {bin}) + Packed(2, {1})),
                StatusIs(kInvalid, HasSubstr("bin " + std::to_string(bin))));
  }
  for (const std::uint64_t bin : {0, 5, 17, 270, 273, 526}) {
    GRADTAP_EXPECT_OK(of_bins(Packed(1, {bin}) + Packed(2, {1}))) << bin;
  }
  const std::uint64_t most = (std::uint64_t{1} << 63) - 1;
  GRADTAP_EXPECT_OK(of_bins(Packed(1, {0, 20}) + Packed(2, {most - 1, 1})));
  for (const std::uint64_t more : {std::uint64_t{2}, most, ~std::uint64_t{0}}) {
    EXPECT_THAT(of_bins(Packed(1, {0, 20}) + Packed(2, {most - 1, more})),
                StatusIs(kInvalid, HasSubstr("63 bits")));
  }
  EXPECT_THAT(of_bins(Packed(1, {3, 0}) + Packed(2, {1, 1})),
              StatusIs(kInvalid, HasSubstr("ascend")));
  EXPECT_THAT(of_bins(Packed(1, {3}) + Packed(2, {0})),
              StatusIs(kInvalid, HasSubstr("zero")));
}

TEST(StepViewTest, ASkippedStepHasNoColumns) {
  GRADTAP_EXPECT_OK(ParseStep(Varint(8, 2)));
  EXPECT_THAT(ParseStep(Columns(1) + Varint(8, 2)),
              StatusIs(kInvalid, HasSubstr("skipped")));
  const std::string reason = Varint(8, 2) + Bytes(9, "why");
  EXPECT_EQ(StepView::Parse(reason)->skipped_detail(), "why");
  EXPECT_THAT(ParseStep(Varint(8, 2) + Bytes(9, "\xff")),
              StatusIs(kInvalid, HasSubstr("skipped_detail")));
  EXPECT_THAT(ParseStep(Varint(8, 2) + Bytes(9, std::string(513, 'x'))),
              StatusIs(kInvalid, HasSubstr("512")));
  // A cause of a later version stays what it is, SKIPPED or LOST.
  EXPECT_EQ(StepView::Parse(Varint(8, 9))->skipped(), GapCause{9});
  EXPECT_FALSE(IsLost(StepView::Parse(Varint(8, 9))->skipped()));
  EXPECT_TRUE(IsLost(StepView::Parse(Varint(8, 200))->skipped()));
  EXPECT_EQ(StepView::Parse(Varint(8, 256))->skipped(), GapCause::kUnspecified);
}

TEST(StepViewTest, FieldsOfNewerVersionsAreSkipped) {
  const std::string unknown = Varint(99, 5) + Bytes(100, "abc") +
                              std::string(
                                  "\xc9\x06"
                                  "12345678",
                                  10) +
                              std::string(
                                  "\xcd\x06"
                                  "1234",
                                  6);
  GRADTAP_EXPECT_OK(ParseStep(unknown + Columns(2, unknown) + unknown));
  // A known number with another wire type is none that this version knows.
  EXPECT_EQ(StepView::Parse(Bytes(1, "xyz") + Varint(1, 7))->step(), 7);
}

TEST(WireReaderTest, WhatIsNoFieldIsRefused) {
  for (const std::string& bad :
       {std::string("\x80"), std::string("\x08"), std::string("\x08\x80"),
        std::string("\x0a\x05"
                    "abcd"),
        std::string("\x0d"
                    "abc"),
        std::string("\x09"
                    "abcdefg"),
        std::string("\x00\x01", 2),                    // Field 0.
        std::string("\x0b\x0c"), std::string("\x0e"),  // Groups, type 6.
        std::string("\x80\x80\x80\x80\x10\x00", 6),    // Number over 2^29.
        "\x08" + std::string(10, '\xff') + "\x01",     // 11 bytes.
        std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}) {
    EXPECT_THAT(ParseStep(bad), StatusIs(kInvalid, HasSubstr("Step: ")));
    EXPECT_FALSE(SplitRecordList(bad).ok());
    EXPECT_FALSE(ParseRecord(bad).ok());
    EXPECT_FALSE(DecodeSchema(bad).ok());
    EXPECT_FALSE(DecodeGap(bad).ok());
    EXPECT_FALSE(DecodeRollback(bad).ok());
    EXPECT_FALSE(DecodeEnd(bad).ok());
    EXPECT_FALSE(DecodePart(bad).ok());
  }
}

TEST(DecodeSchemaTest, ParametersAreChecked) {
  const auto decode = [](const std::string& parameter) {
    return DecodeSchema(Bytes(2, parameter)).status();
  };
  const std::string name = Bytes(1, "w");
  GRADTAP_EXPECT_OK(decode(name));
  EXPECT_THAT(decode(""), StatusIs(kInvalid, HasSubstr("no name")));
  EXPECT_THAT(decode(Bytes(1, "\xff")), StatusIs(kInvalid, HasSubstr("UTF-8")));
  EXPECT_THAT(decode(Bytes(1, std::string(513, 'x'))),
              StatusIs(kInvalid, HasSubstr("512")));
  EXPECT_THAT(decode(name + Bytes(12, "")),
              StatusIs(kInvalid, HasSubstr("alias")));
  EXPECT_THAT(decode(name + Bytes(4, "\x80")),
              StatusIs(kInvalid, HasSubstr("field 4")));
  EXPECT_THAT(decode(name + Packed(6, {3, ~std::uint64_t{0}})),
              StatusIs(kInvalid, HasSubstr("negative size")));
  EXPECT_THAT(decode(name + Bytes(6, "\x80")),
              StatusIs(kInvalid, HasSubstr("shape")));
  EXPECT_THAT(decode(name + Packed(14, {1, 1})),
              StatusIs(kInvalid, HasSubstr("role twice")));
  EXPECT_THAT(DecodeSchema(Bytes(2, name) + Bytes(2, name)),
              StatusIs(kInvalid, HasSubstr("'w' twice")));
  EXPECT_THAT(DecodeSchema(Varint(1, std::uint64_t{1} << 40)),
              StatusIs(kInvalid, HasSubstr("32 bits")));
}

TEST(DecodeSchemaTest, ValuesOfNewerVersionsAreUnspecified) {
  const auto schema = DecodeSchema(Bytes(
      2, Bytes(1, "w") + Varint(2, 9) + Varint(13, 300) + Packed(14, {1, 77})));
  GRADTAP_ASSERT_OK(schema);
  EXPECT_EQ(schema->parameters[0].kind, Kind::kUnspecified);
  EXPECT_EQ(schema->parameters[0].placement, Placement::kUnspecified);
  EXPECT_EQ(schema->parameters[0].roles, std::vector<Role>{Role::kWeight});
}

TEST(DecodeSchemaTest, OptimizersAreChecked) {
  EXPECT_THAT(DecodeSchema(Bytes(4, "")),
              StatusIs(kInvalid, HasSubstr("optimizer's type: is empty")));
  EXPECT_THAT(DecodeSchema(Bytes(4, "\xff")),
              StatusIs(kInvalid, HasSubstr("UTF-8")));
  EXPECT_THAT(DecodeSchema(Bytes(4, std::string(513, 'x'))),
              StatusIs(kInvalid, HasSubstr("512")));
  std::string many;
  for (int i = 0; i < 64; ++i) many += Bytes(4, "Adam");
  GRADTAP_EXPECT_OK(DecodeSchema(many));
  EXPECT_THAT(DecodeSchema(many + Bytes(4, "Adam")),
              StatusIs(kInvalid, HasSubstr("more than 64 optimizers")));
}

TEST(DecodeSchemaTest, TooManyParametersAreRefusedByTheirNumber) {
  std::string body;
  for (int i = 0; i < 11; ++i) body += Bytes(2, "");
  EXPECT_THAT(DecodeSchema(body, 10),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("11 parameters; at most 10")));
  std::string many;
  for (std::size_t i = 0; i <= kMaxSchemaParameters; ++i)
    many += std::string("\x12\x00", 2);
  EXPECT_THAT(DecodeSchema(many), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("1000001")));
}

TEST(DecodeSchemaTest, AliasesAndShapesOfOneParameterAreNoWayAroundTheLimit) {
  constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
  const auto decode = [](const std::string& fields) {
    return DecodeSchema(Bytes(2, Bytes(1, "w") + fields), 10);
  };
  std::string aliases;
  for (int i = 0; i < 40; ++i) aliases += Bytes(12, "a");
  GRADTAP_EXPECT_OK(decode(aliases));
  EXPECT_THAT(decode(aliases + Bytes(12, "")),
              StatusIs(kExhausted, HasSubstr("more aliases")));
  const std::vector<std::uint64_t> sizes(160, 1);
  const auto schema = decode(Packed(6, sizes));
  GRADTAP_ASSERT_OK(schema);
  EXPECT_EQ(schema->parameters[0].shape.size(), 160u);
  for (const std::string& more : {Varint(6, 1), Packed(6, sizes)}) {
    EXPECT_THAT(decode(Packed(6, sizes) + more),
                StatusIs(kExhausted, HasSubstr("more sizes")));
  }
  GRADTAP_EXPECT_OK(decode(Packed(14, std::vector<std::uint64_t>(64, 77))));
  EXPECT_THAT(decode(Packed(14, std::vector<std::uint64_t>(65, 77))),
              StatusIs(kInvalid, HasSubstr("roles")));
}

}  // namespace
}  // namespace gradtap
