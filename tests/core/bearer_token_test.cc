#include "core/bearer_token.h"

#include <gtest/gtest.h>

#include <string>

namespace gradtap {
namespace {

const std::string kSecret = "PEd0-_" + std::string(37, 'x');
const std::string kToken = "gradtap_3f9a0c1d_" + kSecret;
const std::string kMasked = "gradtap_3f9a0c1d_...";

TEST(MaskTokensTest, OfATokenTheIdStaysWhateverStandsAroundIt) {
  EXPECT_EQ(MaskTokens(kToken), kMasked);
  EXPECT_EQ(MaskTokens("--api-token=" + kToken), "--api-token=" + kMasked);
  EXPECT_EQ(MaskTokens("--token:" + kToken + "; see"),
            "--token:" + kMasked + "; see");
  EXPECT_EQ(MaskTokens("'" + kToken + "' " + kToken + "\n"),
            "'" + kMasked + "' " + kMasked + "\n");
  EXPECT_EQ(MaskTokens("gradtap_gradtap_" + kToken),
            "gradtap_gradtap_" + kMasked);
  // With something behind it, as a slip of the hand leaves it.
  EXPECT_EQ(MaskTokens(kToken + "y"), kMasked);
  EXPECT_EQ(MaskTokens(kToken + kToken), kMasked);
  EXPECT_EQ(MaskTokens(kToken + std::string("\0\xff", 2)),
            kMasked + std::string("\0\xff", 2));
}

TEST(MaskTokensTest, WhatIsNoTokenStaysAsItIs) {
  const std::string long_name(100'000, 'a');
  for (const std::string& text :
       {std::string(), std::string("gradtap_"), std::string("gradtap_3f9a0c1d"),
        std::string("gradtap_3f9a0c1d_"), std::string("gradtap_20261130_base"),
        "gradtap_3F9A0C1D_" + kSecret, "gradtap_3f9a0c1_" + kSecret,
        "gradtap_3f9a0c1d0_" + kSecret, "gradtap-3f9a0c1d_" + kSecret,
        kToken.substr(0, kToken.size() - 1), long_name}) {
    EXPECT_EQ(MaskTokens(text), text);
  }
}

}  // namespace
}  // namespace gradtap
