// A model of 10,000 parameters, within the memory that README.md states.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

constexpr char kModel[] = "many:5000";  // Two parameters a layer.
constexpr long kMiBInKib = 1024;

// Sanitizers multiply memory; what is stated holds for a program without.
#if defined(__SANITIZE_ADDRESS__)
constexpr long kFactor = 8;
#else
constexpr long kFactor = 1;
#endif
// Peak of `gradtap params`, in any format.
constexpr long kCommandPeakKib = 128 * kMiBInKib * kFactor;
// What the agent adds to a program, besides its ring and its copy of the
// weights.
constexpr long kAgentKib = 48 * kMiBInKib * kFactor;

class MemoryTest : public House {
 protected:
  struct Resident {
    long own_kib = 0;
    long shared_kib = 0;
  };
  Resident Measure(Trainer& trainer) {
    Resident resident;
    std::istringstream answer(trainer.Do("rss"));
    std::string word;
    answer >> word >> resident.own_kib >> resident.shared_kib;
    EXPECT_EQ(word, "rss");
    EXPECT_GT(resident.own_kib, 0);
    return resident;
  }
};

TEST_F(MemoryTest, ParamsListsAll10000WithinItsMemory) {
  Trainer& trainer = Start("many", kModel);
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  for (const char* format : {"table", "json", "csv"}) {
    const Outcome answer = Ask({"params", "many", "--output", format});
    ASSERT_EQ(answer.exit.code, 0) << answer.err;
    EXPECT_LT(answer.exit.peak_rss_kib, kCommandPeakKib) << format;
    RecordProperty(std::string(format) + "_peak_kib",
                   static_cast<int>(answer.exit.peak_rss_kib));
    if (std::string(format) == "json") {
      const ParamTable table = ParseParams(answer.out);
      EXPECT_EQ(table.rows.size(), 10000u);
      EXPECT_EQ(table.parameter_count, 10000u);
      EXPECT_EQ(table.parameter_numel, 5000u * 6);
      EXPECT_EQ(table.rows[0].name, "group0.layer0.weight");
      EXPECT_EQ(table.rows[9999].name, "group99.layer49.bias");
      EXPECT_EQ(table.rows[9999].module_path, "group99.layer49");
    } else if (std::string(format) == "csv") {
      EXPECT_EQ(Csv::Parse(answer.out).rows(), 10000u);
    } else {
      EXPECT_GT(Lines(answer.out).size(), 10000u);
    }
  }
  const Outcome tree = Ask({"params", "many", "--tree"});
  EXPECT_EQ(tree.exit.code, 0) << tree.err;
  EXPECT_LT(tree.exit.peak_rss_kib, kCommandPeakKib);
  EXPECT_THAT(tree.out, ::testing::HasSubstr("group99"));
}

TEST_F(MemoryTest, TheAgentGrowsByItsRingItsCopyAndAStatedRest) {
  Trainer plain(address(), "plain", kModel, {{"TRAINER_PLAIN", "1"}});
  plain.Step(20);
  const Resident without = Measure(plain);
  EXPECT_EQ(plain.Quit(), 0);

  Trainer& trainer = Start("grown", kModel);
  trainer.Step(20);
  ASSERT_TRUE(trainer.Flush());
  const TrainerStatus status = trainer.Status();
  EXPECT_EQ(status.At("parameters"), 10000u);
  EXPECT_EQ(status.At("weight_copy_bytes"), 30000u * 4);
  const long ring_kib = static_cast<long>(status.At("ring_bytes") / 1024);
  const long copy_kib =
      static_cast<long>(status.At("weight_copy_bytes") / 1024);
  const Resident with = Measure(trainer);
  EXPECT_LT(with.own_kib - without.own_kib, copy_kib + kAgentKib);
  EXPECT_LE(with.shared_kib - without.shared_kib, 2 * ring_kib);
  RecordProperty("agent_kib", static_cast<int>(with.own_kib - without.own_kib));
  // And by no more, however long it runs.
  trainer.Step(60);
  ASSERT_TRUE(trainer.Flush());
  const Resident later = Measure(trainer);
  EXPECT_LT(later.own_kib - without.own_kib, copy_kib + kAgentKib);
  EXPECT_EQ(later.shared_kib, with.shared_kib);
}

}  // namespace
}  // namespace gradtap::testing
