#include "server/limits/client_places.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace gradtap::server {
namespace {

TEST(ClientPlacesTest, OneClientHasItsPartAndOthersTheRest) {
  ClientPlaces places(3, 2);
  auto first = places.Take("one");
  const auto second = places.Take("one");
  EXPECT_NE(second, nullptr);
  EXPECT_EQ(places.Take("one"), nullptr);
  const auto third = places.Take("other");
  EXPECT_NE(third, nullptr);
  EXPECT_EQ(places.Take("third"), nullptr);  // There are three.
  first = nullptr;
  EXPECT_NE(places.Take("third"), nullptr);
}

TEST(ClientPlacesTest, APlaceThatWasRefusedIsNotTaken) {
  ClientPlaces places(100, 1);
  const auto one = places.Take("one");
  for (int i = 0; i < 200; ++i) EXPECT_EQ(places.Take("one"), nullptr);
  EXPECT_NE(places.Take("other"), nullptr);
}

}  // namespace
}  // namespace gradtap::server
