// What holds for every seed, that a seed replays, and that each mutant is
// caught.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/simulation.h"

namespace gradtap::sim {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

std::vector<std::string> TraceOf(std::uint64_t seed) {
  std::vector<std::string> lines;
  (void)Simulate(seed, Mutant::kNone,
                 [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

// ---- Seeds, in parts that ctest runs side by side.

constexpr std::uint64_t kSeeds = 2'000;
constexpr std::uint64_t kParts = 8;

class DeliverySimulation : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(DeliverySimulation, NoInvariantBreaks) {
  const std::uint64_t first = 1 + GetParam() * (kSeeds / kParts);
  for (std::uint64_t seed = first; seed < first + kSeeds / kParts; ++seed) {
    const Outcome outcome = Simulate(seed);
    ASSERT_FALSE(outcome.violation.has_value())
        << "seed " << seed << ": " << *outcome.violation
        << "\nreplay: " << ReplayCommand(seed, Mutant::kNone);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, DeliverySimulation,
                         ::testing::Range<std::uint64_t>(0, kParts));

// ---- Mutants.

class MutantTest : public ::testing::TestWithParam<MutantInfo> {};

TEST_P(MutantTest, IsCaughtWithinTwoHundredSeeds) {
  std::string violation;
  for (std::uint64_t seed = 1; seed <= 200 && violation.empty(); ++seed) {
    violation = Simulate(seed, GetParam().mutant).violation.value_or("");
  }
  EXPECT_THAT(violation, ContainsRegex(std::string(GetParam().caught_by)));
}

std::string TestNameOf(const ::testing::TestParamInfo<MutantInfo>& info) {
  std::string name;
  for (const char c : info.param.name) {
    if (c != '-') name.push_back(c);
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, MutantTest, ::testing::ValuesIn(kMutants),
                         TestNameOf);

// ---- The simulation itself.

TEST(SimulationTest, TheSameSeedGivesTheSameTrace) {
  for (const std::uint64_t seed : {3u, 17u, 25u, 150u}) {
    const std::vector<std::string> once = TraceOf(seed);
    // Addresses differ the second time.
    const std::vector<std::string> in_between = TraceOf(seed + 1);
    EXPECT_GT(once.size(), 100u);
    EXPECT_EQ(TraceOf(seed), once);
    EXPECT_NE(in_between, once);
  }
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  char buffer[4096];
  std::size_t n = 0;
  while ((n = ::fread(buffer, 1, sizeof buffer, pipe)) > 0) {
    output.append(buffer, n);
  }
  ::pclose(pipe);
  return output;
}

TEST(SimulationTest, AnotherProcessReplaysTheSameTrace) {
  char self[4096] = {};
  ASSERT_GT(::readlink("/proc/self/exe", self, sizeof self - 1), 0);
  std::string here;
  for (const std::string& line : TraceOf(42)) here += line + "\n";
  const std::string there =
      OutputOf(std::string("'") + self + "' --seed=42 --trace");
  EXPECT_EQ(there.substr(0, here.size()), here);
}

TEST(SimulationTest, AFailureNamesTheCommandThatReplaysIt) {
  char self[4096] = {};
  ASSERT_GT(::readlink("/proc/self/exe", self, sizeof self - 1), 0);
  const std::string output = OutputOf(std::string("'") + self +
                                      "' --seeds=100 --mutant=ack-before-sync");
  EXPECT_THAT(output, HasSubstr("replay: build/release/bin/delivery_sim_test "
                                "--seed="));
  EXPECT_THAT(output, HasSubstr(" --mutant=ack-before-sync --trace"));
}

// A simulation in which nothing happens proves nothing.
TEST(SimulationTest, EveryFaultAndEveryEndHappens) {
  Outcome all;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const Outcome one = Simulate(seed);
    all.steps += one.steps;
    all.stored += one.stored;
    all.lost += one.lost;
    all.deaths += one.deaths;
    all.handed_on += one.handed_on;
    for (const auto& [name, times] : one.faults) all.faults[name] += times;
  }
  EXPECT_EQ(all.faults.size(), 28u);
  EXPECT_GT(all.stored, 1'000u);
  EXPECT_GT(all.lost, 100u);
  EXPECT_GT(all.deaths, 100u);
  EXPECT_GT(all.handed_on, 1'000u);
  EXPECT_GT(all.steps, all.stored + all.lost);
}

}  // namespace
}  // namespace gradtap::sim
