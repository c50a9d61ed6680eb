#include "agent/capture/optimizer_types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <typeinfo>
#include <utility>

namespace torch::optim {
struct AdamW {};
}  // namespace torch::optim

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

struct Lion {};
template <std::size_t>
struct Numbered {};

TEST(OptimizerTypesTest, TypesAreNamedOnceInTheOrderOfTheirFirstUse) {
  struct Local {};
  OptimizerTypes types;
  EXPECT_TRUE(types.Note(typeid(Lion)));
  EXPECT_TRUE(types.Note(typeid(torch::optim::AdamW)));
  EXPECT_FALSE(types.Note(typeid(Lion)));
  EXPECT_TRUE(types.Note(typeid(Local)));
  EXPECT_THAT(types.names(), ElementsAre("gradtap::agent::Lion",
                                         "torch::optim::AdamW", "Local"));
}

TEST(OptimizerTypesTest, TypesOfOneNameAreOne) {
  OptimizerTypes types;
  EXPECT_TRUE(types.Note(typeid(Numbered<1>)));
  EXPECT_FALSE(types.Note(typeid(Numbered<2>)));
  EXPECT_FALSE(types.Note(typeid(Numbered<2>)));
  EXPECT_THAT(types.names(), ElementsAre("gradtap::agent::Numbered"));
}

template <std::size_t... kIndex>
std::array<const std::type_info*, sizeof...(kIndex)> Many(
    std::index_sequence<kIndex...>) {
  return {&typeid(std::array<Lion, kIndex + 1>*)...};
}

TEST(OptimizerTypesTest, TypesBeyondTheBoundAreLeftOut) {
  const auto many = Many(std::make_index_sequence<OptimizerTypes::kMax + 3>());
  OptimizerTypes types;
  for (const std::type_info* type : many) types.Note(*type);
  for (const std::type_info* type : many) EXPECT_FALSE(types.Note(*type));
  EXPECT_LE(types.names().size(), OptimizerTypes::kMax);
}

}  // namespace
}  // namespace gradtap::agent
