#include "core/match_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/name_filter.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Every byte of such a name costs as much as the pattern is long.
constexpr char kDear[] = "[ab]*a[ab]{500}c";

std::string DearName(unsigned number) {
  std::mt19937 random(number);
  std::string name;
  for (int i = 0; i < 500; ++i) name += random() % 2 == 0 ? 'a' : 'b';
  return name;
}

// Matches until the limit says no, or often enough to be sure that it never
// does.
void MatchMuch(const NameFilter& filter, const MatchLimit& limit) {
  for (unsigned i = 0; i < 2'000 && limit.status().ok(); ++i) {
    EXPECT_FALSE(filter.Matches(DearName(i)));
  }
}

TEST(MatchLimitTest, AfterTooLongNothingMatchesAndThePatternIsNamed) {
  const auto dear = NameFilter::Create({kDear});
  const auto all = NameFilter::Create({"."});
  GRADTAP_ASSERT_OK(dear);
  GRADTAP_ASSERT_OK(all);
  const MatchLimit limit(std::chrono::milliseconds(1));
  EXPECT_TRUE(all->Matches("a"));
  MatchMuch(*dear, limit);
  const std::string size = std::to_string(dear->instructions());
  EXPECT_THAT(limit.status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr(kDear), HasSubstr("0.001 s"),
                             HasSubstr(size + " instructions"))));
  EXPECT_EQ(MatchLimit::OfThread(), limit.status());
  EXPECT_FALSE(all->Matches("a"));
}

TEST(MatchLimitTest, WithinItEverythingIsMatchedAsWithoutOne) {
  std::string names = "layer0\\.weight";
  for (int i = 1; i < 100; ++i) {
    names += "|layer" + std::to_string(i) + "\\.weight";
  }
  for (const std::string& pattern :
       {names, std::string("layer[0-9]+\\.weight"), std::string(".{999}|9")}) {
    const auto filter = NameFilter::Create({pattern}, {"77"});
    GRADTAP_ASSERT_OK(filter);
    const MatchLimit limit(std::chrono::hours(1));
    for (int i = 0; i < 200; ++i) {
      const std::string name = "layer" + std::to_string(i) + ".weight";
      bool without = false;
      std::thread([&] { without = filter->Matches(name); }).join();
      EXPECT_EQ(filter->Matches(name), without) << pattern << name;
    }
    GRADTAP_EXPECT_OK(limit.status());
  }
}

TEST(MatchLimitTest, WhoHasGoneIsNotMatchedForToTheEnd) {
  const auto dear = NameFilter::Create({kDear});
  GRADTAP_ASSERT_OK(dear);
  int asked = 0;
  const MatchLimit limit(std::chrono::hours(1), [&] { return ++asked == 3; });
  MatchMuch(*dear, limit);
  EXPECT_THAT(limit.status(), StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_EQ(asked, 3);
}

TEST(MatchLimitTest, OneIsOfItsThreadAndStandsForTheOneAroundIt) {
  const auto dear = NameFilter::Create({kDear});
  const auto all = NameFilter::Create({"."});
  GRADTAP_ASSERT_OK(dear);
  GRADTAP_ASSERT_OK(all);
  const MatchLimit outer(std::chrono::hours(1));
  {
    const MatchLimit inner(std::chrono::milliseconds(1));
    MatchMuch(*dear, inner);
    EXPECT_FALSE(all->Matches("a"));
    std::thread([&] {
      EXPECT_TRUE(all->Matches("a"));
      GRADTAP_EXPECT_OK(MatchLimit::OfThread());
    }).join();
  }
  GRADTAP_EXPECT_OK(outer.status());
  EXPECT_TRUE(all->Matches("a"));
}

}  // namespace
}  // namespace gradtap
