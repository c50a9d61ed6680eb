// Scans under which a run is deleted, or its rows become windows and go.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
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
constexpr std::size_t kParameters = 4;

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

  // All windows that are full, and the rest as rows below level 0.
  StreamId AddHalfSealed() {
    const StreamId stream = AddRun("run", kSteps, kParameters);
    SealAll();
    std::atomic<bool> cancelled{false};
    GRADTAP_EXPECT_OK(store_->Compact(&cancelled));
    return stream;
  }
};

TEST_F(MeanwhileTest, ARunDeletedUnderAScanByOrdinalIsNotFoundAndNotDamaged) {
  const StreamId stream = AddRun("run", kSteps, kParameters);
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
  const StreamId stream = AddRun("run", kSteps, kParameters);
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

TEST_F(MeanwhileTest, RowsThatAreSealedUnderAScanByOrdinalAreAllVisited) {
  const StreamId stream = AddHalfSealed();
  std::uint64_t visited = 0;
  GRADTAP_EXPECT_OK(
      store_->ScanByOrdinal("run", 0, [&](const StepRow* row, const GapRow*) {
        if (visited == 0) {
          EXPECT_NE(row->window, nullptr);
          End(stream);
          SealAll();
        }
        EXPECT_EQ(row->ordinal, ++visited);
        return true;
      }));
  EXPECT_EQ(visited, std::uint64_t{kSteps});
}

TEST_F(MeanwhileTest, RowsThatAreSealedUnderAScanOfStepsAreAllVisited) {
  const StreamId stream = AddHalfSealed();
  std::int64_t visited = 0;
  GRADTAP_EXPECT_OK(
      store_->ScanSteps(stream, 0, 0, INT64_MAX, [&](const StepRow& row) {
        if (visited == 0) {
          EXPECT_NE(row.window, nullptr);
          End(stream);
          SealAll();
        }
        EXPECT_EQ(row.step, visited++);
        return true;
      }));
  EXPECT_EQ(visited, kSteps);
}

}  // namespace
}  // namespace gradtap::server::testing
