#include "agent/capture/type_name.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace gradtap::agent {
namespace {

TEST(TypeNameTest, TypesReadAsAPersonWritesThem) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"torch::nn::LinearImpl", "Linear"},
      {"torch::nn::BatchNorm1dImpl", "BatchNorm1d"},
      {"torch::nn::SequentialImpl", "Sequential"},
      {"(anonymous namespace)::Net", "Net"},
      {"(anonymous namespace)::NetImpl", "Net"},
      {"{anonymous}::Net", "Net"},
      {"Net", "Net"},
      {"zoo::EncoderImpl", "zoo::Encoder"},
      {"zoo::BlockImpl<64ul, std::vector<int> >", "zoo::Block"},
      {"torch::nn::ConvNdImpl<2ul, torch::nn::Conv2dImpl>", "ConvNd"},
      {"main::Net", "main::Net"},
      {"train(int, char**)::Net", "Net"},
      {"f(int)::{lambda()#1}::operator()() const::NetImpl", "Net"},
      {"gradtap::(anonymous namespace)::Test_Case_Test::TestBody()::Net",
       "Net"},
      {"std::__cxx11::Thing[abi:cxx11]", "std::__cxx11::Thing"},
      {"Impl", "Impl"},
      {"zoo::Impl", "zoo::Impl"},
  };
  for (const auto& [given, expected] : cases) {
    EXPECT_EQ(PlainTypeName(given), expected) << given;
  }
}

TEST(TypeNameTest, TextThatIsNoTypeComesBackAsItIs) {
  for (const char* text : {"", "a < b", "a > b", "my net (v2)", "<b>", "::"}) {
    const std::string plain = PlainTypeName(text);
    EXPECT_EQ(plain, std::string(text)) << text;
  }
}

}  // namespace
}  // namespace gradtap::agent
