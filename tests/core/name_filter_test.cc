#include "core/name_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

NameFilter Make(const std::vector<std::string>& include,
                const std::vector<std::string>& exclude = {}) {
  auto filter = NameFilter::Create(include, exclude);
  EXPECT_THAT(filter, gradtap::testing::IsOk());
  return *std::move(filter);
}

TEST(NameFilterTest, WithoutPatternsEverythingPasses) {
  EXPECT_TRUE(NameFilter().Matches("a"));
  EXPECT_TRUE(Make({}).Matches(""));
  EXPECT_TRUE(Make({}).Matches(std::string(100'000, 'x')));
}

TEST(NameFilterTest, PatternsAreUnanchored) {
  const NameFilter filter = Make({"weight", "^head\\."});
  EXPECT_TRUE(filter.Matches("layers.0.weight"));
  EXPECT_TRUE(filter.Matches("head.bias"));
  EXPECT_FALSE(filter.Matches("layers.0.bias"));
}

TEST(NameFilterTest, ExcludeWinsOverInclude) {
  const NameFilter filter = Make({"weight"}, {"^frozen", "norm"});
  EXPECT_TRUE(filter.Matches("a.weight"));
  EXPECT_FALSE(filter.Matches("frozen.weight"));
  EXPECT_FALSE(filter.Matches("a.norm.weight"));
  EXPECT_FALSE(Make({}, {"bias"}).Matches("a.bias"));
  EXPECT_TRUE(Make({}, {"bias"}).Matches("a.weight"));
}

TEST(NameFilterTest, APatternThatGrowsIsRefused) {
  const NameFilter filter = Make({".{999}"}, {"a{500}"});
  EXPECT_GT(filter.instructions(), 8'000u);
  std::string pattern;
  for (int i = 0; i < 20; ++i) pattern += ".{999}";
  EXPECT_THAT(NameFilter::Create({pattern}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("pattern too large")));
}

TEST(NameFilterTest, CharactersAreUnicode) {
  EXPECT_TRUE(Make({"^caf.$"}).Matches("caf\xc3\xa9"));
}

TEST(NameFilterTest, AMovedFilterStillWorks) {
  NameFilter filter = Make({"a"});
  NameFilter other = std::move(filter);
  EXPECT_TRUE(other.Matches("a"));
  EXPECT_FALSE(other.Matches("b"));
  filter = std::move(other);
  EXPECT_FALSE(filter.Matches("b"));
}

TEST(NameFilterTest, ABadPatternIsNamedWithItsError) {
  for (const char* bad :
       {"(", "[a", "*", "a**", "\\", "(?=x)", "a{2000}", "\xff"}) {
    EXPECT_THAT(NameFilter::Create({"fine", bad}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("is not a valid RE2 pattern: ")))
        << bad;
  }
  EXPECT_THAT(NameFilter::Create({}, {"(oops"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'(oops'"), HasSubstr("missing )"))));
}

TEST(NameFilterTest, APatternOverTheLimitIsRefused) {
  GRADTAP_EXPECT_OK(NameFilter::Create({std::string(4096, 'a')}));
  EXPECT_THAT(NameFilter::Create({std::string(4097, 'a')}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("4097"), HasSubstr("4096"))));
}

TEST(NameFilterTest, APatternThatNeedsTooMuchMemoryIsRefused) {
  EXPECT_THAT(
      NameFilter::Create({"((((x{100}){100}){100}){100})"}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("x{100}")));
}

TEST(NameFilterTest, AHostilePatternComesBackOnOneShortLine) {
  const std::string hostile = "(\x1b[2J\n" + std::string(3000, 'x');
  const absl::Status status = NameFilter::Create({hostile}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_LT(status.message().size(), 500u);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace gradtap
