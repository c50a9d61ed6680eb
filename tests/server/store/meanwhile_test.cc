// Scans under which a run is deleted.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "keeping_testing.h"

namespace gradtap::server::testing {
namespace {

using gradtap::testing::StatusIs;
using ::testing::HasSubstr;

constexpr std::int64_t kSteps = 400;

class MeanwhileTest : public KeepingTest {
 protected:
  // Bodies by step.
  std::map<std::int64_t, std::string> Bodies(StreamId stream) {
    std::map<std::int64_t, std::string> bodies;
    GRADTAP_EXPECT_OK(
        store_->ScanSteps(stream, 0, 0, INT64_MAX, [&](const StepRow& row) {
          bodies[row.step] = StoredBody(row);
          return true;
        }));
    return bodies;
  }

  // What was read is as it was, or says that the run is gone.
  static void ExpectBodyOrGone(const StepRow& row, const std::string& body) {
    const std::string read = StoredBody(row);
    if (read.starts_with("NOT_FOUND")) return;
    EXPECT_TRUE(read == body)
        << "step " << row.step << ": " << read.substr(0, 200);
  }
};

TEST_F(MeanwhileTest, ARunDeletedUnderAScanByOrdinalIsNotFoundAndNotDamaged) {
  const StreamId stream = AddRun("run", kSteps);
  End(stream);
  ASSERT_EQ(SealAll(), 4);
  auto bodies = Bodies(stream);
  std::int64_t visited = 0;
  const absl::Status s =
      store_->ScanByOrdinal("run", 0, [&](const StepRow* row, const GapRow*) {
        if (visited++ == 0) {
          GRADTAP_EXPECT_OK(store_->DeleteRun("run"));
        }
        ExpectBodyOrGone(*row, bodies[row->step]);
        return true;
      });
  EXPECT_THAT(s, StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
}

TEST_F(MeanwhileTest, ARunDeletedUnderAScanOfStepsIsNotFoundAndNotDamaged) {
  const StreamId stream = AddRun("run", kSteps);
  End(stream);
  ASSERT_EQ(SealAll(), 4);
  auto bodies = Bodies(stream);
  const absl::Status s =
      store_->ScanSteps(stream, 0, 0, INT64_MAX, [&](const StepRow& row) {
        if (row.step == 100) {
          GRADTAP_EXPECT_OK(store_->DeleteRun("run"));
        }
        ExpectBodyOrGone(row, bodies[row.step]);
        return true;
      });
  EXPECT_THAT(s, StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
}

}  // namespace
}  // namespace gradtap::server::testing
