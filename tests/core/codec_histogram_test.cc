// Histograms apart from the step that they came with.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::Encoded;
using ::gradtap::testing::SameStep;
using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::string BodyOf(const StepData& step) {
  const std::string record = Encoded(step);
  return std::string(ParseRecord(record)->body);
}

StepData StepOf(std::uint32_t places, Role role) {
  StepData step;
  step.step = 7;
  step.schema_id = 1;
  RoleColumns& columns = step.roles.emplace_back();
  columns.role = role;
  columns.Resize(places);
  step.scalars = {{"loss", 0.5}};
  return step;
}

SplitStep Split(const std::string& body) {
  const auto view = StepView::Parse(body);
  EXPECT_TRUE(view.ok()) << view.status();
  return SplitHistograms(body, *view);
}

std::string ToHex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

TEST(SplitHistogramsTest, RowAndBlocksTogetherAreTheStepAgain) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = testing::SampleStep(random);
    const SplitStep split = Split(BodyOf(step));
    std::string joined = split.row;
    for (const HistogramBlock& block : split.blocks) joined += block.body;
    const auto again = StepView::Parse(joined);
    GRADTAP_ASSERT_OK(again);
    StepData expected = step;
    std::sort(expected.histograms.begin(), expected.histograms.end(),
              [](const HistogramData& a, const HistogramData& b) {
                return std::pair(a.role, a.place) < std::pair(b.role, b.place);
              });
    EXPECT_TRUE(SameStep(ToStepData(*again), expected)) << seed;
    EXPECT_FALSE(StepView::Parse(split.row)->has_histograms());
  }
}

TEST(SplitHistogramsTest, AStepWithoutHistogramsStaysAsItIs) {
  const std::string body = BodyOf(StepOf(3, Role::kGrad));
  const SplitStep split = Split(body);
  EXPECT_EQ(split.row, body);
  EXPECT_THAT(split.blocks, IsEmpty());
}

TEST(SplitHistogramsTest, BlocksAre256PlacesOfOneRoleInOrder) {
  StepData step = StepOf(600, Role::kGrad);
  step.roles.push_back(step.roles.front());
  step.roles.back().role = Role::kWeight;
  for (const std::uint32_t place : {599u, 0u, 255u, 256u, 511u}) {
    step.histograms.push_back({Role::kGrad, place, {0}, {place + 1}});
  }
  step.histograms.push_back({Role::kWeight, 300, {0}, {9}});
  const SplitStep split = Split(BodyOf(step));
  ASSERT_THAT(split.blocks, SizeIs(4));
  EXPECT_EQ(split.blocks[0].role, Role::kWeight);
  EXPECT_EQ(split.blocks[0].block, 1u);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(split.blocks[i + 1].role, Role::kGrad);
    EXPECT_EQ(split.blocks[i + 1].block, i);
  }
  const auto block = DecodeHistogramBlock(split.blocks[1].body);
  GRADTAP_ASSERT_OK(block);
  ASSERT_THAT(*block, SizeIs(2));
  EXPECT_EQ((*block)[0].place, 0u);
  EXPECT_EQ((*block)[1].place, 255u);
  const auto found = FindInHistogramBlock(split.blocks[2].body, 511);
  GRADTAP_ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->count, std::vector<std::uint64_t>{512});
  EXPECT_FALSE(FindInHistogramBlock(split.blocks[2].body, 257)->has_value());
}

// What stands on a disk keeps its meaning: these bytes never change.
TEST(SplitHistogramsTest, TheBytesOfABlockAreThese) {
  StepData step = StepOf(300, Role::kGrad);
  step.histograms = {{Role::kGrad, 257, {0, 1, 143, 400}, {3, 1, 300, 2}},
                     {Role::kGrad, 256, {}, {}}};
  const SplitStep split = Split(BodyOf(step));
  ASSERT_THAT(split.blocks, SizeIs(1));
  // clang-format off
  EXPECT_EQ(ToHex(split.blocks[0].body),
            // Histogram{role 2, place 256, no bins}.
            "3a07" "0802" "108002" "1a00"
            // Histogram{role 2, place 257, bins {distances, counts}}.
            "3a16" "0802" "108102" "1a0f"
            "0a06" "00018e018102" "1205" "0301ac0202");
  // clang-format on
  EXPECT_EQ(ToHex(split.row).find("3a16"), std::string::npos);
}

TEST(HistogramBlockTest, DamageIsAnErrorAndNeverMore) {
  StepData step = StepOf(40, Role::kGrad);
  for (std::uint32_t place = 0; place < 40; ++place) {
    step.histograms.push_back({Role::kGrad, place, {0, 143}, {3, 70'000}});
  }
  const std::string body = Split(BodyOf(step)).blocks[0].body;
  std::mt19937_64 random(1);
  for (int i = 0; i < 2'000; ++i) {
    std::string damaged = body.substr(0, random() % (body.size() + 1));
    for (std::uint64_t flips = random() % 3; flips > 0; --flips) {
      if (damaged.empty()) break;
      damaged[random() % damaged.size()] ^=
          static_cast<char>(1u << (random() % 8));
    }
    const std::vector<char> copy(damaged.begin(), damaged.end());
    const std::string_view view(copy.data(), copy.size());
    const auto all = DecodeHistogramBlock(view);
    EXPECT_TRUE(all.ok() || all.status().code() == kInvalid) << all.status();
    const auto one = FindInHistogramBlock(view, 17);
    EXPECT_TRUE(one.ok() || one.status().code() == kInvalid) << one.status();
  }
}

TEST(HistogramBlockTest, MoreThanABlockHoldsIsRefused) {
  std::string body;
  for (int i = 0; i < 257; ++i) body += std::string("\x3a\x02\x08\x02", 4);
  EXPECT_THAT(DecodeHistogramBlock(body),
              StatusIs(kInvalid, HasSubstr("more than 256")));
  EXPECT_THAT(FindInHistogramBlock(body, 999),
              StatusIs(kInvalid, HasSubstr("more than 256")));
}

}  // namespace
}  // namespace gradtap
