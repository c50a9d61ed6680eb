// Shrinking: the oldest steps lose their values, and nothing else.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keeping_testing.h"
#include "server/store/engine.h"
#include "server/store/keys.h"
#include "server/store/stored_step.h"
#include "server/store/tile/tile.h"
#include "server/store/verify/verify.h"
#include "tests/support/status_matchers.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

constexpr std::int64_t kChapter = 4096;
constexpr std::size_t kParameters = 2;

class ShrinkTest : public KeepingTest {
 protected:
  std::optional<ShrunkPart> Shrink() {
    auto part = store_->ShrinkOldest([](const RunEntry&) { return true; });
    EXPECT_TRUE(part.ok()) << part.status();
    return part.ok() ? *part : std::nullopt;
  }

  // Opens the store anew, with a window that cannot be read.
  void DamageWindow(StreamId stream, std::int64_t first_step) {
    store_.reset();
    {
      const auto engine = Engine::Open(dir_.path() + "/data/db", nullptr);
      ASSERT_TRUE(engine.ok()) << engine.status();
      rocksdb::ColumnFamilyHandle* const windows = (*engine)->windows();
      const auto key = [&](std::uint64_t run_id) {
        return keys::Timeline(run_id, stream, 0, first_step);
      };
      std::uint64_t run_id = 0;
      std::string value;
      while (run_id < 9 &&
             !(*engine)->db()->Get({}, windows, key(run_id), &value).ok()) {
        ++run_id;
      }
      ASSERT_LT(run_id, 9U);
      ASSERT_TRUE((*engine)->db()->Put({}, windows, key(run_id), "x").ok());
    }
    Open();
  }

  struct Seen {
    GapCause skipped = GapCause::kUnspecified;
    bool has_columns = false;
    double loss = -1;
    std::string values;  // Of all records.
  };
  // Every step of branch 0.
  std::map<std::int64_t, Seen> Read(StreamId stream) {
    std::map<std::int64_t, Seen> steps;
    const absl::Status s =
        store_->ScanSteps(stream, 0, 0, INT64_MAX, [&](const StepRow& row) {
          const auto step = OpenStep(row);
          EXPECT_TRUE(step.ok()) << step.status();
          Seen& seen = steps[row.step];
          seen.skipped = (*step)->skipped();
          seen.has_columns = (*step)->has_columns();
          (*step)->ForEachScalar(
              nullptr, [&](std::string_view, double v) { seen.loss = v; });
          for (std::int64_t place = 0; place < 2; ++place) {
            Record record;
            if ((*step)->Read(Role::kGrad, place, kAllFields, &record) ==
                StoredStep::Presence::kValue) {
              for (const float value :
                   {record.mean, record.std, record.abs_mean, record.min,
                    record.max}) {
                seen.values +=
                    std::to_string(std::bit_cast<std::uint32_t>(value)) + " ";
              }
              seen.values += std::to_string(record.zero) + ";";
            }
          }
          EXPECT_TRUE((*step)->status().ok()) << (*step)->status();
          return true;
        });
    EXPECT_TRUE(s.ok()) << s;
    return steps;
  }

  // All roll-ups of a level that the second parameter's gradient has, as text.
  std::vector<std::string> Rollups(StreamId stream, std::uint8_t level) {
    std::vector<std::string> pieces;
    const auto span = store_->RolledUp(stream, 0, 0, INT64_MAX);
    EXPECT_TRUE(span.ok());
    for (const RollupStatistic statistic :
         {RollupStatistic::kMean, RollupStatistic::kL2}) {
      RollupSelection selection{level, Role::kGrad, statistic, 1, 1};
      GRADTAP_EXPECT_OK(store_->ScanRollups(
          stream, 0, *span, selection, [&](const RollupPiece& piece) {
            std::string text = std::to_string(piece.first_step) + "+" +
                               std::to_string(piece.recorded) + ":";
            for (const RollupEntry& entry : piece.entries) {
              text += " " + std::to_string(entry.min) + "@" +
                      std::to_string(entry.min_at) + ".." +
                      std::to_string(entry.max) + "@" +
                      std::to_string(entry.max_at);
            }
            pieces.push_back(std::move(text));
            return true;
          }));
    }
    return pieces;
  }
};

TEST_F(ShrinkTest, OldStepsLoseTheirValuesAndKeepScalarsAndRollUps) {
  const StreamId id = AddRun("run", 2 * kChapter + 400, kParameters);
  SealAll();
  const auto before = Read(id);
  const auto fine = Rollups(id, 0);
  const auto coarse = Rollups(id, 1);
  EXPECT_EQ(coarse.size(), 4U);
  for (const bool reopened : {false, true}) {
    SCOPED_TRACE(reopened);
    if (reopened) {
      Open();
    } else {
      const auto part = Shrink();
      ASSERT_TRUE(part.has_value());
      EXPECT_EQ(part->run, "run");
      EXPECT_EQ(part->end_step, kChapter);
      EXPECT_EQ(part->steps, 4096U);
    }
    const Branch branch = store_->FindRun("run")->streams[0].branches[0];
    EXPECT_EQ(branch.rolled_up_end, kChapter);
    EXPECT_EQ(branch.rolled_up_steps, 4096U);
    const auto after = Read(id);
    ASSERT_EQ(after.size(), before.size());
    for (const auto& [step, seen] : after) {
      SCOPED_TRACE(step);
      const Seen& was = before.at(step);
      EXPECT_EQ(seen.loss, was.loss);
      EXPECT_EQ(seen.has_columns, step >= kChapter);
      EXPECT_EQ(seen.skipped,
                step < kChapter ? GapCause::kRolledUp : GapCause::kUnspecified);
      EXPECT_EQ(seen.values, step < kChapter ? "" : was.values);
    }
    EXPECT_EQ(Rollups(id, 0), fine);
    EXPECT_EQ(Rollups(id, 1), coarse);
  }
}

TEST_F(ShrinkTest, TheNewestStepsKeepTheirValues) {
  const StreamId id = AddRun("run", 2 * kChapter + 700, kParameters);
  SealAll();
  EXPECT_EQ(Shrink()->end_step, kChapter);
  EXPECT_EQ(Shrink()->end_step, 2 * kChapter);
  EXPECT_FALSE(Shrink().has_value());
  EXPECT_FALSE(Read(id).at(2 * kChapter - 1).has_columns);
  EXPECT_TRUE(Read(id).at(2 * kChapter).has_columns);
}

TEST_F(ShrinkTest, SealingAndBindingGoOn) {
  const StreamId id = AddRun("run", kChapter + 500, kParameters);
  SealAll();
  ASSERT_TRUE(Shrink().has_value());
  AddSteps(id, kChapter + 500, 3 * kChapter, kParameters);
  End(id);
  SealAll();
  EXPECT_EQ(Rollups(id, 1).size(), 6U);
  const auto steps = Read(id);
  EXPECT_EQ(steps.size(), std::size_t{3 * kChapter});
  EXPECT_FALSE(steps.at(kChapter - 1).has_columns);
  EXPECT_TRUE(steps.at(kChapter).has_columns);
  EXPECT_EQ(Shrink()->end_step, 2 * kChapter);
}

TEST_F(ShrinkTest, TheFolderGetsItsBytesBack) {
  const StreamId id = AddRun("run", kChapter + 400, 40);
  SealAll();
  std::atomic<bool> cancelled{false};  // What rows took is back before.
  GRADTAP_ASSERT_OK(store_->Compact(&cancelled));
  const std::uint64_t before = store_->disk_bytes();
  const std::uint64_t run_before = store_->RunDiskBytes("run").value();
  EXPECT_GT(before, 5U << 20);
  const auto part = Shrink();
  ASSERT_TRUE(part.has_value());
  EXPECT_GT(part->bytes, run_before / 2);
  EXPECT_EQ(store_->counters().removed_bytes, part->bytes);
  Open();  // Files go a moment after what was in them.
  EXPECT_LT(store_->disk_bytes(), before - part->bytes * 9 / 10);
  EXPECT_LT(store_->RunDiskBytes("run").value(),
            run_before - part->bytes * 9 / 10);
  EXPECT_EQ(Read(id).size(), std::size_t{kChapter + 400});
}

TEST_F(ShrinkTest, PinnedRunsAndThoseThatMayNotAreLeftAlone) {
  const StreamId id = AddRun("run", kChapter + 400, kParameters);
  SealAll();
  ASSERT_TRUE(store_->PinRun("run", true).ok());
  EXPECT_FALSE(Shrink().has_value());
  ASSERT_TRUE(store_->PinRun("run", false).ok());
  const auto part = store_->ShrinkOldest(
      [](const RunEntry& run) { return run.run != "run"; });
  ASSERT_TRUE(part.ok());
  EXPECT_FALSE(part->has_value());
  EXPECT_TRUE(Read(id).at(0).has_columns);
  EXPECT_TRUE(Shrink().has_value());
}

TEST_F(ShrinkTest, TheOldestStepsOfAllRunsGoFirst) {
  // Times go with steps: those of the second run are later.
  const StreamId newer = AddRun("newer", 0, kParameters);
  AddSteps(newer, 100'000, 100'000 + kChapter + 400, kParameters);
  AddRun("older", 2 * kChapter + 400, kParameters);
  SealAll();
  EXPECT_EQ(Shrink()->run, "older");
  EXPECT_EQ(Shrink()->run, "older");
  EXPECT_EQ(Shrink()->run, "newer");
  EXPECT_FALSE(Shrink().has_value());
}

TEST_F(ShrinkTest, ADamagedRunDoesNotKeepOthersFromBeingShrunk) {
  for (const std::int64_t first_step : {0L, kChapter + 128}) {
    SCOPED_TRACE(first_step);
    const std::string name = std::to_string(first_step);
    const StreamId newer = AddRun("newer" + name, 0, kParameters);
    AddSteps(newer, 100'000, 100'000 + kChapter + 400, kParameters);
    const StreamId damaged = AddRun(name, 2 * kChapter + 400, kParameters);
    SealAll();
    DamageWindow(damaged, first_step);
    if (first_step > 0) {
      EXPECT_EQ(Shrink()->run, name);
    }
    EXPECT_EQ(Shrink()->run, "newer" + name);
    EXPECT_THAT(store_->ShrinkOldest([](const RunEntry&) { return true; }),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("timeline")));
  }
}

// Every second step, say, is recorded: what is left begins beyond what has
// gone.
TEST_F(ShrinkTest, ARunWithNothingLeftToTakeIsPassedOver) {
  const StreamId id = AddRun("run", kChapter, kParameters);
  AddSteps(id, kChapter + 10, kChapter + 410, kParameters);
  const StreamId newer = AddRun("newer", 0, kParameters);
  AddSteps(newer, 100'000, 100'000 + kChapter + 400, kParameters);
  SealAll();
  EXPECT_EQ(Shrink()->run, "run");
  EXPECT_EQ(Shrink()->run, "newer");
  EXPECT_FALSE(Shrink().has_value());
  EXPECT_TRUE(Read(id).at(kChapter + 10).has_columns);
}

TEST_F(ShrinkTest, StepsWithoutValuesDoNotStandBeforeThoseWithThem) {
  const StreamId skipped = AddRun("skipped", 0, kParameters);
  StreamCommit commit = Next(skipped);
  StepData step = MakeStep(0, kParameters);
  step.roles.clear();
  step.skipped = GapCause::kLoop;
  const std::string body = BodyOf(EncodedStep(step));
  commit.steps.push_back({0, 0, false, 0, body});
  GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  End(skipped);
  AddRun("run", kChapter + 400, kParameters);
  SealAll();
  const auto part = Shrink();
  ASSERT_TRUE(part.has_value());
  EXPECT_EQ(part->run, "run");
  EXPECT_EQ(part->steps, std::uint64_t{kChapter});
  EXPECT_FALSE(Shrink().has_value());
  EXPECT_EQ(Read(skipped).at(0).skipped, GapCause::kLoop);
}

TEST_F(ShrinkTest, HistogramsGoWithTheValues) {
  const StreamId id = AddRun("run", 0, kParameters);
  for (const std::int64_t step : {0, 4'000, 4'200}) {
    AddSteps(id, store_->FindRun("run")->streams[0].branches[0].last_step + 1,
             step, kParameters);
    StreamCommit commit = Next(id);
    const std::string body = BodyOf(EncodedStep(RandomStep(step, kParameters)));
    const std::vector<HistogramBlock> blocks = {{Role::kGrad, 0, "bins"}};
    commit.steps.push_back({0, step, true, 4, body, blocks});
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }
  AddSteps(id, 4'201, kChapter + 400, kParameters);
  SealAll();
  ASSERT_TRUE(Shrink().has_value());
  EXPECT_EQ(store_->FindHistogramStep(id, 0, 0, INT64_MAX, false)->value_or(-1),
            4'200);
  EXPECT_FALSE(
      store_->ReadHistogramBlock(id, 0, 4'000, Role::kGrad, 0)->has_value());
}

TEST_F(ShrinkTest, OnAFullDiskNothingIsTakenAndWhatIsTakenLasts) {
  env_ = faulty_.env();
  Open();
  const StreamId id = AddRun("run", kChapter + 400, kParameters);
  SealAll();
  faulty_.fs().SetFull(true);
  const auto may = [](const RunEntry&) { return true; };
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(store_->ShrinkOldest(may).status(),
                StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
    EXPECT_TRUE(Read(id).at(0).has_columns);
  }
  faulty_.fs().SetFull(false);
  // Opened again, it has the rows that could not go to disk as windows.
  EXPECT_FALSE(Shrink().has_value());
  SealAll();
  ASSERT_TRUE(Shrink().has_value());
  // The power goes.
  faulty_.fs().FailFromOperation(1);
  store_.reset();
  faulty_.fs().LosePower();
  faulty_.fs().FailFromOperation(0);
  env_ = nullptr;
  Open();
  EXPECT_EQ(store_->FindRun("run")->streams[0].branches[0].rolled_up_end,
            kChapter);
  const auto steps = Read(id);
  EXPECT_EQ(steps.size(), std::size_t{kChapter + 400});
  EXPECT_FALSE(steps.at(0).has_columns);
  EXPECT_TRUE(steps.at(kChapter).has_columns);
}

TEST_F(ShrinkTest, StepsThatAreStillInMemoryAreShrunkToo) {
  tail_bytes_ = std::size_t{64} << 20;
  Open();
  const StreamId id = AddRun("run", kChapter + 400, kParameters);
  SealAll();
  ASSERT_GT(store_->tail_bytes(), 0U);
  ASSERT_TRUE(Read(id).at(kChapter - 1).has_columns);
  ASSERT_TRUE(Shrink().has_value());
  const auto steps = Read(id);
  EXPECT_EQ(steps.size(), std::size_t{kChapter + 400});
  EXPECT_FALSE(steps.at(kChapter - 1).has_columns);
  EXPECT_TRUE(steps.at(kChapter).has_columns);
}

TEST_F(ShrinkTest, WhatIsLeftAgreesWithItself) {
  AddRun("run", 2 * kChapter + 400, kParameters);
  SealAll();
  ASSERT_TRUE(Shrink().has_value());
  store_.reset();
  const auto verified =
      VerifyFolder(dir_.path() + "/data",
                   [](const std::string& place, const std::string& what) {
                     ADD_FAILURE() << place << ": " << what;
                   });
  GRADTAP_EXPECT_OK(verified);
  Open();
}

// Windows are in no log; what says that they have been shrunk is.
TEST_F(ShrinkTest, WhereverItDiesWhatIsLeftAgreesWithItself) {
  for (const std::uint64_t at : {2, 3, 4, 6, 40}) {
    SCOPED_TRACE("dies at operation " + std::to_string(at));
    env_ = faulty_.env();
    Open();
    const std::string run = "run" + std::to_string(at);
    AddRun(run, kChapter + 400, kParameters);
    SealAll();
    faulty_.fs().FailFromOperation(faulty_.fs().operations() + at);
    (void)store_->ShrinkOldest(
        [&](const RunEntry& entry) { return entry.run == run; });
    store_.reset();
    faulty_.fs().LosePower();
    faulty_.fs().FailFromOperation(0);
    env_ = nullptr;
    Open();
    SealAll();
    store_.reset();
    GRADTAP_EXPECT_OK(
        VerifyFolder(dir_.path() + "/data",
                     [](const std::string& place, const std::string& what) {
                       ADD_FAILURE() << place << ": " << what;
                     }));
  }
  Open();
}

// Neither damage nor zeros: who has a step in hand is told.
TEST_F(ShrinkTest, AReaderThatIsLateIsToldToAskAgain) {
  const StreamId id = AddRun("run", kChapter + 400, kParameters);
  SealAll();
  std::vector<std::shared_ptr<const StoredStep>> held;
  GRADTAP_ASSERT_OK(
      store_->ScanSteps(id, 0, 500, INT64_MAX, [&](const StepRow& row) {
        held.push_back(*OpenStep(row));
        return held.size() < 300;
      }));
  Record record;
  EXPECT_EQ(
      held.back()->Read(Role::kGrad, 1, BitOf(WindowField::kMean), &record),
      StoredStep::Presence::kValue);
  ASSERT_TRUE(Shrink().has_value());
  // What was decoded stays.
  EXPECT_EQ(
      held.back()->Read(Role::kGrad, 1, BitOf(WindowField::kMean), &record),
      StoredStep::Presence::kValue);
  for (const WindowField field : {WindowField::kMax, WindowField::kZero}) {
    const auto& step = field == WindowField::kMax ? held.back() : held.front();
    EXPECT_EQ(step->Read(Role::kGrad, 1, BitOf(field), &record),
              StoredStep::Presence::kMissing);
    EXPECT_THAT(step->status(), StatusIs(absl::StatusCode::kUnavailable,
                                         HasSubstr("ask again")));
  }
}

}  // namespace
}  // namespace gradtap::server::testing
