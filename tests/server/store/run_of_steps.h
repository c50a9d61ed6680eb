// One stream, written in commits of a few steps, and the check of what is
// there.

#ifndef GRADTAP_TESTS_SERVER_STORE_RUN_OF_STEPS_H_
#define GRADTAP_TESTS_SERVER_STORE_RUN_OF_STEPS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/store/store.h"
#include "server/store/store_testing.h"

namespace gradtap::server::testing {

inline constexpr std::int64_t kStepsPerCommit = 3;

inline std::string HistogramsOf(std::int64_t step) {
  return "histograms of step " + std::to_string(step);
}

inline absl::Status CommitSteps(Store* store, StreamId id, std::int64_t first) {
  auto owned = StepsCommit(id, static_cast<std::uint64_t>(first) + 1, first,
                           first + kStepsPerCommit - 1);
  std::vector<std::vector<HistogramBlock>> blocks;
  for (StreamCommit::Step& step : owned.commit.steps) {
    blocks.push_back({{Role::kGrad, 0, HistogramsOf(step.step)}});
    step.histograms = blocks.back();
  }
  return store->Commit({&owned.commit, 1});
}

// Each step whose seq is durable is there once, with its own content, and
// nothing else is. Returns the durable seq.
inline std::uint64_t CheckStore(Store* store) {
  const auto run = store->FindRun("run");
  if (run == nullptr) return 0;
  EXPECT_EQ(run->streams.size(), 1U);
  const StreamEntry& stream = run->streams[0];
  EXPECT_EQ(stream.durable_seq % kStepsPerCommit, 0U);
  std::int64_t next = 0;
  EXPECT_TRUE(store
                  ->ScanSteps(stream.id, 0, INT64_MIN, INT64_MAX,
                              [&](const StepRow& row) {
                                EXPECT_EQ(row.step, next);
                                EXPECT_EQ(StoredBody(row), StepBody(next));
                                ++next;
                                return true;
                              })
                  .ok());
  EXPECT_EQ(static_cast<std::uint64_t>(next), stream.durable_seq);
  // Its histograms as well, and no more.
  for (std::int64_t step = 0; step < next; ++step) {
    const auto block =
        store->ReadHistogramBlock(stream.id, 0, step, Role::kGrad, 0);
    EXPECT_TRUE(block.ok() && *block == HistogramsOf(step)) << step;
  }
  const auto last =
      store->FindHistogramStep(stream.id, 0, INT64_MIN, INT64_MAX, true);
  EXPECT_TRUE(last.ok());
  EXPECT_EQ(last->value_or(-1), next - 1);
  EXPECT_EQ(stream.stored_steps, stream.durable_seq);
  std::uint64_t ordinals = 0;
  EXPECT_TRUE(store
                  ->ScanByOrdinal("run", 0,
                                  [&](const StepRow* row, const GapRow*) {
                                    EXPECT_EQ(row->ordinal, ++ordinals);
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(ordinals, run->ordinal);
  EXPECT_EQ(ordinals, stream.durable_seq);
  return stream.durable_seq;
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_RUN_OF_STEPS_H_
