// What a contest rests on: its values, the check of answers, and the table.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/peers/check.h"
#include "bench/peers/data_set.h"
#include "bench/peers/figures.h"
#include "support/temp_dir.h"

namespace gradtap::bench {
namespace {

class PeersTest : public ::testing::Test {
 protected:
  DataSet Make(const std::string& name, std::uint64_t seed,
               std::int64_t steps = 40) {
    return DataSet::Generate({name, 6, steps}, seed, recorded_, dir_.path());
  }
  Answer ColumnOf(const DataSet& data, const Question& question) {
    const float* const column =
        data.Column(question.step, question.role, question.field);
    Answer answer;
    answer.values.assign(column, column + data.shape().parameters);
    return answer;
  }
  static Extremes EndsOf(const DataSet& data, const Question& question,
                         std::size_t p, std::int64_t from, std::int64_t to) {
    Extremes ends{INFINITY, -INFINITY};
    for (std::int64_t step = from; step < to; ++step) {
      const double value = data.At(step, question.role, question.field, p);
      ends.min = std::min(ends.min, value);
      ends.max = std::max(ends.max, value);
    }
    return ends;
  }

  testing::TempDir dir_;
  const Recorded recorded_ = Recorded::StandIn();
  CheckCounts counts_;
};

TEST_F(PeersTest, ASeedMakesItsValuesAndNoOthers) {
  const DataSet a = Make("a", 1), b = Make("b", 1), c = Make("c", 2);
  const std::size_t bytes = a.shape().values() * sizeof(float);
  EXPECT_EQ(std::memcmp(a.Column(0, 0, 0), b.Column(0, 0, 0), bytes), 0);
  EXPECT_NE(std::memcmp(a.Column(0, 0, 0), c.Column(0, 0, 0), bytes), 0);
}

TEST_F(PeersTest, NoStretchOfASeriesComesTwice) {
  const std::int64_t turn = 2 * recorded_.steps();
  const DataSet data = Make("long", 1, turn + 40);
  for (std::size_t p = 0; p < data.shape().parameters; ++p) {
    std::int64_t same = 0;
    for (std::int64_t step = 0; step < 40; ++step) {
      if (data.At(step, 1, 1, p) == data.At(turn + step, 1, 1, p)) ++same;
    }
    EXPECT_LT(same, 4) << "parameter " << p;
  }
}

TEST_F(PeersTest, RightAnswersPassAndAreCounted) {
  const DataSet data = Make("a", 1);
  Question question{Question::Kind::kColumn, 1, 3};
  question.step = 7;
  Check(data, question, ColumnOf(data, question), "it", &counts_);
  EXPECT_EQ(counts_.values, 6u);
  EXPECT_EQ(counts_.inexact, 0u);
}

TEST_F(PeersTest, AValueThatIsWrongOrMissingIsRefused) {
  const DataSet data = Make("a", 1);
  Question question{Question::Kind::kColumn, 1, 3};
  Answer answer = ColumnOf(data, question);
  answer.values[4] *= 1.00001;
  EXPECT_THROW(Check(data, question, answer, "it", &counts_),
               std::runtime_error);
  answer = ColumnOf(data, question);
  answer.values[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(Check(data, question, answer, "it", &counts_),
               std::runtime_error);
  answer = ColumnOf(data, question);
  answer.values.pop_back();
  EXPECT_THROW(Check(data, question, answer, "it", &counts_),
               std::runtime_error);
}

TEST_F(PeersTest, AValueThatLostItsLastBitsIsCounted) {
  const DataSet data = Make("a", 1);
  const Question question{Question::Kind::kColumn, 1, 3};
  Answer answer = ColumnOf(data, question);
  answer.values[4] *= 1 + 5e-7;
  Check(data, question, answer, "it", &counts_);
  EXPECT_EQ(counts_.inexact, 1u);
  EXPECT_NEAR(counts_.largest_error, 5e-7, 1e-8);
}

TEST_F(PeersTest, PointsThatLeaveOutAnExtremeAreRefused) {
  const DataSet data = Make("a", 1);
  Question question{Question::Kind::kSeries, 1, 4};
  question.parameter = 2;
  question.bucket_steps = 1;
  Answer all;
  std::size_t largest = 0;
  for (std::int64_t step = 0; step < 40; ++step) {
    all.points.push_back({2, step, data.At(step, 1, 4, 2)});
    if (all.points.back().value > all.points[largest].value) {
      largest = all.points.size() - 1;
    }
  }
  Check(data, question, all, "it", &counts_);
  all.points.erase(all.points.begin() + static_cast<std::ptrdiff_t>(largest));
  EXPECT_THROW(Check(data, question, all, "it", &counts_), std::runtime_error);
}

TEST_F(PeersTest, ABucketWithoutItsExtremeIsRefused) {
  const DataSet data = Make("a", 1);
  Question question{Question::Kind::kSeries, 2, 0};
  question.parameter = 3;
  question.bucket_steps = 25;
  Answer answer;
  answer.cells = {EndsOf(data, question, 3, 0, 25),
                  EndsOf(data, question, 3, 25, 40)};
  Check(data, question, answer, "it", &counts_);
  EXPECT_EQ(counts_.values, 4u);
  answer.cells[1].min = answer.cells[1].max;
  EXPECT_THROW(Check(data, question, answer, "it", &counts_),
               std::runtime_error);
}

TEST_F(PeersTest, AHeatMapHasTheWorstOfEachBucket) {
  const DataSet data = Make("a", 1);
  for (const std::size_t field : {0, 1, 3}) {  // mean, std, min.
    Question question{Question::Kind::kHeatMap, 1, field};
    question.bucket_steps = 25;
    Answer answer;
    for (std::size_t p = 0; p < 6; ++p) {
      for (const std::int64_t from : {0, 25}) {
        const Extremes ends = EndsOf(data, question, p, from,
                                     std::min<std::int64_t>(from + 25, 40));
        answer.values.push_back(WorstOf(question, ends.min, ends.max));
        EXPECT_EQ(answer.values.back(), field == 1             ? ends.max
                                        : field == 3           ? ends.min
                                        : -ends.min > ends.max ? ends.min
                                                               : ends.max);
      }
    }
    Check(data, question, answer, "it", &counts_);
    answer.values[7] *= 1.001;
    EXPECT_THROW(Check(data, question, answer, "it", &counts_),
                 std::runtime_error);
    answer.values.pop_back();
    EXPECT_THROW(Check(data, question, answer, "it", &counts_),
                 std::runtime_error);
  }
}

TEST(PeersTableTest, SaysWhereGradtapLosesAndHowMuch) {
  Figures figures;
  figures.questions = {"slow here", "fast here"};
  figures.peers.resize(2);
  figures.peers[0].name = "gradtap";
  figures.peers[0].warm = {{"slow here", {4, 4, 4}}, {"fast here", {1, 1, 1}}};
  figures.peers[1].name = "other";
  figures.peers[1].warm = {{"slow here", {1, 1, 1}}, {"fast here", {3, 3, 3}}};
  const std::string table = TableOf(figures);
  EXPECT_NE(table.find("1.00 (0.250x LOSS)"), std::string::npos) << table;
  EXPECT_NE(table.find("3.00 (3.00x)"), std::string::npos) << table;
}

// gradtap and others, each loaded with `wide` into so many bytes.
Figures FiguresOf(const std::vector<double>& disk_bytes) {
  Figures figures;
  figures.shapes = {{"wide", 101, 10}};
  for (const double bytes : disk_bytes) {
    PeerFigures& peer = figures.peers.emplace_back();
    peer.checks.values = 10;
    LoadFigures load;
    load.disk_bytes = bytes;
    peer.loads["wide"] = {load};
  }
  return figures;
}

// The cells of the row, or nothing.
std::string DiskSharesOf(const Figures& figures) {
  const std::string table = TableOf(figures);
  const std::string label = "wide: disk, over the smallest bit-exact peer's";
  const std::size_t at = table.find(label);
  if (at == std::string::npos) return "";
  std::istringstream row(table.substr(
      at + label.size(), table.find('\n', at) - at - label.size()));
  std::string cells;
  for (std::string word; row >> word;)
    cells += (cells.empty() ? "" : " ") + word;
  return cells;
}

TEST(PeersTableTest, DiskIsComparedWithTheSmallestBitExactPeer) {
  Figures figures = FiguresOf({600, 900, 1000, 700});
  figures.peers[1].checks.inexact = 1;  // Smaller, but not all that was sent.
  figures.peers[3].has_our_tiles = true;
  EXPECT_EQ(DiskSharesOf(figures), "0.600 (within 0.700) 0.900 1.00 0.700");
  figures.peers[1].checks.inexact = 0;
  EXPECT_EQ(DiskSharesOf(figures), "0.667 (within 0.700) 1.00 1.11 0.778");
  figures.peers[1].loads["wide"][0].disk_bytes = 800;
  EXPECT_EQ(DiskSharesOf(figures), "0.750 (MISSES 0.700) 1.00 1.25 0.875");
  figures.peers[1].checks = figures.peers[2].checks = {};  // Never asked.
  EXPECT_EQ(DiskSharesOf(figures), "");
}

TEST(PeersTableTest, QuantilesAreByRank) {
  std::vector<double> values;
  for (int i = 200; i > 0; --i) values.push_back(i);
  EXPECT_EQ(Median(values), 100.5);
  EXPECT_EQ(Quantile(values, 0.99), 198);
  EXPECT_EQ(Quantile({7}, 0.99), 7);
}

}  // namespace
}  // namespace gradtap::bench
