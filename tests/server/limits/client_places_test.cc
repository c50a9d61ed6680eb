#include "server/limits/client_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

TEST(ClientPlacesTest, OneClientHasItsPartAndOthersTheRest) {
  ClientPlaces places("seats", 3, 2);
  auto first = places.Take("one");
  GRADTAP_ASSERT_OK(first);
  const auto second = places.Take("one");
  GRADTAP_EXPECT_OK(second);
  EXPECT_THAT(places.Take("one"),
              StatusIs(kExhausted, HasSubstr("2 of 3 seats are yours")));
  const auto third = places.Take("other");
  GRADTAP_EXPECT_OK(third);
  EXPECT_THAT(places.Take("third"),
              StatusIs(kExhausted, HasSubstr("3 seats are open")));
  EXPECT_EQ(places.taken(), 3u);
  *first = nullptr;
  EXPECT_EQ(places.taken(), 2u);
  GRADTAP_EXPECT_OK(places.Take("third"));
}

TEST(ClientPlacesTest, ItIsToldWhetherOthersHaveThem) {
  ClientPlaces places("seats", 2, 1);
  bool by_itself = false;
  const auto one = places.Take("one", &by_itself);
  EXPECT_FALSE(by_itself);
  EXPECT_FALSE(places.Take("one", &by_itself).ok());
  EXPECT_TRUE(by_itself);
  const auto other = places.Take("other", &by_itself);
  EXPECT_FALSE(places.Take("third", &by_itself).ok());
  EXPECT_FALSE(by_itself);
  // None is left, but it would have none either way.
  EXPECT_FALSE(places.Take("one", &by_itself).ok());
  EXPECT_TRUE(by_itself);
}

TEST(ClientPlacesTest, APlaceThatWasRefusedIsNotTaken) {
  ClientPlaces places("seats", 100, 1);
  const auto one = places.Take("one");
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(places.Take("one").ok());
  }
  EXPECT_EQ(places.taken(), 1u);
  GRADTAP_EXPECT_OK(places.Take("other"));
}

TEST(ClientPlacesTest, WhereThereAreNoneNobodyHasOne) {
  ClientPlaces places("seats", 0, 0);
  EXPECT_THAT(places.Take("a"), StatusIs(kExhausted, HasSubstr("0 seats")));
}

}  // namespace
}  // namespace gradtap::server
