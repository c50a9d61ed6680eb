#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "server/http/live_stream.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

TEST(StreamSlotsTest, OneClientHasThreeQuartersOfThem) {
  StreamSlots slots(32);
  std::vector<std::unique_ptr<StreamSlots::Slot>> held;
  for (int i = 0; i < 24; ++i) {
    auto slot = slots.Take("greedy");
    GRADTAP_ASSERT_OK(slot);
    held.push_back(*std::move(slot));
  }
  EXPECT_THAT(slots.Take("greedy"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("24 of 32 live streams are yours")));
  // There are places for others, and then for nobody.
  for (int i = 0; i < 8; ++i) {
    auto slot = slots.Take("other");
    GRADTAP_ASSERT_OK(slot);
    held.push_back(*std::move(slot));
  }
  EXPECT_THAT(slots.Take("third"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("32 live streams are open")));
  held.erase(held.begin());
  EXPECT_EQ(slots.open(), 31u);
  GRADTAP_EXPECT_OK(slots.Take("greedy"));
}

TEST(StreamSlotsTest, OfFewPlacesOneClientHasAtLeastOne) {
  StreamSlots one(1);
  GRADTAP_EXPECT_OK(one.Take("a"));
  StreamSlots none(0);
  EXPECT_THAT(none.Take("a"), StatusIs(absl::StatusCode::kResourceExhausted,
                                       HasSubstr("0 live streams")));
}

}  // namespace
}  // namespace gradtap::server
