#include "faults/leftovers.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "integration/collector.h"

namespace gradtap::testing {
namespace fs = std::filesystem;

void Drain(const std::string& collector, const std::string& spool,
           const std::string& rings) {
  const Outcome drained =
      RunProgram(GradtapCommand(collector, {"drain", "--any-collector"}),
                 {{"GRADTAP_SPOOL", spool}, {"GRADTAP_RING_FOLDER", rings}});
  EXPECT_EQ(drained.exit.code, 0) << drained.err;
  EXPECT_EQ(drained.err, "");
}

void ExpectNothingLeft(const std::string& spool, const std::string& rings) {
  if (fs::exists(rings)) {
    for (const auto& ring : fs::directory_iterator(rings)) {
      // But for one that was being made: it never had a record, and goes with
      // the next.
      const std::string name = ring.path().filename().string();
      EXPECT_TRUE(name.front() == '.' && name.ends_with(".new")) << name;
    }
  }
  if (!fs::exists(spool)) return;
  for (const auto& folder : fs::directory_iterator(spool)) {
    ADD_FAILURE() << folder.path() << " is left";
  }
}

}  // namespace gradtap::testing
