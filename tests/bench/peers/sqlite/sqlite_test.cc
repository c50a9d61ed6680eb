// The collector's tiles in SQLite answer every question as what was put in.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "bench/peers/check.h"
#include "bench/peers/data_set.h"
#include "bench/peers/sqlite/answers.h"
#include "bench/peers/sqlite/database.h"
#include "bench/peers/sqlite/window_writer.h"
#include "support/temp_dir.h"

namespace gradtap::bench {
namespace {

class SqliteTest : public ::testing::Test {
 protected:
  void Put(std::int64_t steps) {
    WindowWriter writer(database_.get(), "run", 70);
    for (std::int64_t step = 0; step < steps; ++step) {
      std::copy_n(data_.Column(step, 0, 0), kFloats * 70, writer.Next());
      writer.Took();
    }
    writer.Finish();
  }
  // How many values were right.
  std::uint64_t Ask(const Question& question) {
    CheckCounts counts;
    Check(data_, question,
          AnswerOf(Answers(database_.get()).Ask("run", question)), "sqlite",
          &counts);
    EXPECT_EQ(counts.inexact, 0u);
    return counts.values;
  }

  testing::TempDir dir_;
  // Two blocks, the second one not full; two windows of 1,024 steps and a short
  // one.
  const DataSet data_ =
      DataSet::Generate({"run", 70, 2100}, 3, Recorded::StandIn(), dir_.path());
  std::unique_ptr<Database> database_ = std::make_unique<Database>(dir_.path());
};

TEST_F(SqliteTest, StepsComeBackBitForBitAfterItWasOpenedAgain) {
  Put(2100);
  database_.reset();
  database_ = std::make_unique<Database>(dir_.path());
  for (const std::int64_t step : {0, 63, 1023, 1024, 2048, 2099}) {
    Question question{Question::Kind::kStep};
    question.step = step;
    EXPECT_EQ(Ask(question), 70u * kFloats);
    question = {Question::Kind::kColumn, 0, 2};
    question.step = step;
    EXPECT_EQ(Ask(question), 70u);
  }
}

TEST_F(SqliteTest, SeriesComeFromTilesAndFromRollUps) {
  Put(2100);
  database_->Settle();
  for (const std::int64_t width : {7, 100, 640}) {
    for (const bool l2 : {false, true}) {
      Question question{Question::Kind::kSeries, 1, 3};
      question.l2 = l2;
      question.parameter = 67;
      question.bucket_steps = width;
      EXPECT_GT(Ask(question), 0u) << width;
    }
  }
}

TEST_F(SqliteTest, HeatMapsComeFromTilesAndFromRollUps) {
  Put(2100);
  for (const std::int64_t width : {30, 64, 128}) {
    for (std::size_t field = 0; field < kFields; ++field) {
      Question question{Question::Kind::kHeatMap, 2, field};
      question.bucket_steps = width;
      EXPECT_EQ(Ask(question), 70u * ((2100 + width - 1) / width));
    }
  }
}

TEST_F(SqliteTest, WhatIsNotThereIsAnError) {
  Put(100);
  Question question{Question::Kind::kColumn};
  question.step = 2000;  // Of another window.
  EXPECT_THROW(Answers(database_.get()).Ask("run", question),
               std::runtime_error);
  EXPECT_THROW(Answers(database_.get()).Ask("runs", question),
               std::runtime_error);
  EXPECT_THROW(Put(1), std::runtime_error);  // There is one of that name.
}

}  // namespace
}  // namespace gradtap::bench
