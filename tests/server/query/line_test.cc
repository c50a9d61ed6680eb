#include "server/query/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <tuple>

namespace gradtap::server {
namespace {

using ::testing::ElementsAre;

constexpr std::int64_t kSecond = 1'000'000'000;

StreamEntry MakeStream(StreamId id, const std::string& launch,
                       std::uint32_t rank, std::int64_t start,
                       std::vector<Branch> branches) {
  StreamEntry stream;
  stream.id = id;
  stream.hello.launch = launch;
  stream.hello.rank = rank;
  stream.hello.start_time_unix_ns = start;
  stream.last_seen_unix_ns = start;
  stream.branches = std::move(branches);
  return stream;
}

EndData EndOf(EndReason reason, std::int64_t time) {
  EndData end;
  end.reason = reason;
  end.wall_time_unix_ns = time;
  return end;
}

TEST(AttemptsTest, AreOrderedByTheEarliestStartOfTheirStreams) {
  RunEntry run;
  run.streams = {MakeStream(1, "b", 0, 20, {{}}),
                 MakeStream(2, "a", 1, 30, {{}}),
                 MakeStream(3, "a", 0, 10, {{}})};
  const std::vector<Attempt> attempts = AttemptsOf(run);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].launch, "a");
  EXPECT_EQ(attempts[0].label, 1u);
  EXPECT_EQ(attempts[0].start_time_unix_ns, 10);
  EXPECT_EQ(attempts[0].streams[0]->id, 3u);  // By rank.
  EXPECT_EQ(attempts[1].launch, "b");
  EXPECT_THAT(RanksOf(attempts), ElementsAre(0, 1));
}

TEST(AttemptsTest, EqualStartsAreOrderedByTheirFirstHello) {
  RunEntry run;
  run.streams = {MakeStream(1, "z", 0, 10, {{}}),
                 MakeStream(2, "a", 0, 10, {{}})};
  const std::vector<Attempt> attempts = AttemptsOf(run);
  EXPECT_EQ(attempts[0].launch, "z");
  EXPECT_EQ(attempts[1].launch, "a");
}

class StateTest : public ::testing::Test {
 protected:
  StateSince State(std::int64_t now, std::set<StreamId> connected = {}) {
    attempts_ = AttemptsOf(run_);
    return StateOf(
        attempts_.back(),
        [connected](StreamId id) { return connected.count(id) > 0; }, now);
  }

  RunEntry run_;
  std::vector<Attempt> attempts_;
};

TEST_F(StateTest, ConnectedWithoutEndIsRunningHoweverSilent) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}})};
  EXPECT_EQ(State(1000 * kSecond, {1}).state, v1::RUN_STATE_RUNNING);
}

TEST_F(StateTest, SilentForExactlyTheLimitIsLostSinceThen) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}})};
  run_.streams[0].last_seen_unix_ns = 5 * kSecond;
  EXPECT_EQ(State(65 * kSecond - 1).state, v1::RUN_STATE_RUNNING);
  const StateSince lost = State(65 * kSecond);
  EXPECT_EQ(lost.state, v1::RUN_STATE_LOST);
  EXPECT_EQ(lost.since_unix_ns, 65 * kSecond);
}

TEST_F(StateTest, AnAgentWhoseClockIsAheadIsLostByTheCollectorsClock) {
  run_.streams = {MakeStream(1, "a", 0, 3600 * kSecond, {{}})};
  run_.streams[0].last_seen_unix_ns = 5 * kSecond;
  EXPECT_EQ(State(64 * kSecond).state, v1::RUN_STATE_RUNNING);
  EXPECT_EQ(State(65 * kSecond).state, v1::RUN_STATE_LOST);
}

TEST_F(StateTest, EndOfEveryRankIsFinishedAndOneStoppedIsStopped) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}}),
                  MakeStream(2, "a", 1, 0, {{}})};
  run_.streams[0].end = EndOf(EndReason::kFinished, 7);
  EXPECT_EQ(State(kSecond).state, v1::RUN_STATE_RUNNING);
  run_.streams[1].end = EndOf(EndReason::kFinished, 9);
  EXPECT_EQ(State(kSecond).state, v1::RUN_STATE_FINISHED);
  EXPECT_EQ(State(kSecond).since_unix_ns, 9);
  run_.streams[0].end = EndOf(EndReason::kStopped, 7);
  EXPECT_EQ(State(1000 * kSecond).state, v1::RUN_STATE_STOPPED);
}

TEST_F(StateTest, OneRankThatEndedDoesNotHideOneThatWentSilent) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}}),
                  MakeStream(2, "a", 1, 0, {{}})};
  run_.streams[0].end = EndOf(EndReason::kFinished, 7);
  EXPECT_EQ(State(1000 * kSecond).state, v1::RUN_STATE_LOST);
}

TEST_F(StateTest, ALostRunThatComesBackIsRunningAndItsLateEndFinishesIt) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}})};
  EXPECT_EQ(State(1000 * kSecond).state, v1::RUN_STATE_LOST);
  EXPECT_EQ(State(1000 * kSecond, {1}).state, v1::RUN_STATE_RUNNING);
  run_.streams[0].end = EndOf(EndReason::kFinished, 3);
  EXPECT_EQ(State(1000 * kSecond).state, v1::RUN_STATE_FINISHED);
}

TEST_F(StateTest, AReplacedProcessOfARankDoesNotCount) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}}),
                  MakeStream(2, "a", 0, 5, {{}})};
  run_.streams[1].end = EndOf(EndReason::kFinished, 9);  // Newer; 1 has no End.
  EXPECT_EQ(State(kSecond).state, v1::RUN_STATE_FINISHED);
}

TEST_F(StateTest, ANewerAttemptMakesAFinishedRunRun) {
  run_.streams = {MakeStream(1, "a", 0, 0, {{}})};
  run_.streams[0].end = EndOf(EndReason::kFinished, 7);
  run_.streams.push_back(MakeStream(2, "b", 0, 10 * kSecond, {{}}));
  EXPECT_EQ(State(11 * kSecond).state, v1::RUN_STATE_RUNNING);
}

// (stream, branch, step) of the rows that a line holds.
using RowId = std::tuple<StreamId, std::uint32_t, std::int64_t>;

std::vector<Segment> LineOf(const RunEntry& run, std::uint32_t rank,
                            std::vector<Attempt>* attempts) {
  *attempts = AttemptsOf(run);
  return CanonicalLine(*attempts, rank).segments;
}

TEST(LineTest, ANewerAttemptCutsAllRanksFromItsFirstStepOn) {
  RunEntry run;
  run.streams = {MakeStream(1, "a", 0, 0, {{0, 0, 99, 100}}),
                 MakeStream(2, "a", 1, 0, {{0, 0, 99, 100}}),
                 MakeStream(3, "b", 0, 10, {{0, 50, 60, 11}})};
  std::vector<Attempt> attempts;
  std::vector<Segment> line = LineOf(run, 0, &attempts);
  ASSERT_EQ(line.size(), 2u);
  EXPECT_EQ(line[0].end, 50);
  EXPECT_EQ(line[1].begin, 50);
  EXPECT_EQ(line[1].end, 61);
  EXPECT_EQ(line[1].attempt, 2u);
  // Rank 1 has no stream in the new attempt: nothing is filled from the old.
  line = LineOf(run, 1, &attempts);
  ASSERT_EQ(line.size(), 1u);
  EXPECT_EQ(line[0].end, 50);
}

TEST(LineTest, AnAttemptWithoutAStepReplacesNothing) {
  RunEntry run;
  run.streams = {MakeStream(1, "a", 0, 0, {{0, 0, 9, 10}}),
                 MakeStream(2, "b", 0, 10, {{}})};
  std::vector<Attempt> attempts;
  const std::vector<Segment> line = LineOf(run, 0, &attempts);
  ASSERT_EQ(line.size(), 1u);
  EXPECT_EQ(line[0].end, 10);
}

TEST(LineTest, ABranchThatGoesBackTwiceReplacesBothOlderOnes) {
  RunEntry run;
  run.streams = {
      MakeStream(1, "a", 0, 0, {{0, 0, 10, 11}, {1, 5, 7, 3}, {2, 3, 4, 2}})};
  std::vector<Attempt> attempts;
  const std::vector<Segment> line = LineOf(run, 0, &attempts);
  ASSERT_EQ(line.size(), 2u);
  EXPECT_EQ(line[0].end, 3);
  EXPECT_EQ(line[1].branch, 2u);
}

// ---- Rollbacks: a branch replaces from the step that its rollback named. ----

RunEntry OneStream(std::vector<Branch> branches) {
  RunEntry run;
  run.streams = {MakeStream(1, "a", 0, 0, std::move(branches))};
  return run;
}

// The steps of a line that could be stored, as [begin, end) of (branch).
std::vector<std::tuple<std::uint32_t, std::int64_t, std::int64_t>> PiecesOf(
    const RunEntry& run) {
  std::vector<Attempt> attempts;
  std::vector<std::tuple<std::uint32_t, std::int64_t, std::int64_t>> pieces;
  for (const Segment& s : LineOf(run, 0, &attempts)) {
    pieces.emplace_back(s.branch, s.begin, s.end);
  }
  return pieces;
}

TEST(LineTest, StepsLostAfterARollbackAreNotFilledFromTheBranchBefore) {
  // Back to 5; what was stored of it begins at 8.
  EXPECT_THAT(PiecesOf(OneStream({{0, 0, 10, 11}, {1, 8, 9, 2, 5}})),
              ElementsAre(std::make_tuple(0, 0, 5), std::make_tuple(1, 8, 10)));
}

TEST(LineTest, ARollbackWithNoStepAfterItEndsTheLineThere) {
  const RunEntry run = OneStream({{0, 0, 10, 11}, {1, -1, -1, 0, 5}});
  EXPECT_THAT(PiecesOf(run), ElementsAre(std::make_tuple(0, 0, 5)));
  EXPECT_EQ(CanonicalLine(AttemptsOf(run), 0).last_step(), 4);
}

TEST(LineTest, TheLowerOfTwoRollbacksHolds) {
  // Back to 3, then, from 6, to 5: of the first branch 0 to 2 are left.
  EXPECT_THAT(
      PiecesOf(OneStream({{0, 0, 10, 11}, {1, 4, 6, 3, 3}, {2, 7, 7, 1, 5}})),
      ElementsAre(std::make_tuple(0, 0, 3), std::make_tuple(1, 4, 5),
                  std::make_tuple(2, 7, 8)));
  // The second one to below the first: nothing of the branch between stands.
  EXPECT_THAT(
      PiecesOf(OneStream({{0, 0, 10, 11}, {1, 5, 6, 2, 5}, {2, -1, -1, 0, 2}})),
      ElementsAre(std::make_tuple(0, 0, 2)));
}

TEST(LineTest, ARollbackToZeroReplacesEverything) {
  EXPECT_THAT(PiecesOf(OneStream({{0, 0, 10, 11}, {1, -1, -1, 0, 0}})),
              ElementsAre());
}

TEST(LineTest, ARollbackOfANewerAttemptCutsOlderAttemptsToo) {
  RunEntry run;
  run.streams = {
      MakeStream(1, "a", 0, 0, {{0, 0, 99, 100}}),
      MakeStream(2, "a", 1, 0, {{0, 0, 99, 100}}),
      MakeStream(3, "b", 0, 10, {{0, 50, 60, 11}, {1, -1, -1, 0, 40}})};
  std::vector<Attempt> attempts;
  for (const std::uint32_t rank : {0U, 1U}) {
    const std::vector<Segment> line = LineOf(run, rank, &attempts);
    ASSERT_EQ(line.size(), 1u) << rank;
    EXPECT_EQ(line[0].end, 40);
  }
}

TEST(LineTest, ABranchStoredWithoutItsRollbackBeginsAtItsFirstStep) {
  EXPECT_THAT(PiecesOf(OneStream({{0, 0, 10, 11}, {1, 8, 9, 2, -1}})),
              ElementsAre(std::make_tuple(0, 0, 8), std::make_tuple(1, 8, 10)));
  EXPECT_THAT(PiecesOf(OneStream({{0, 0, 10, 11}, {1, -1, -1, 0, -1}})),
              ElementsAre(std::make_tuple(0, 0, 11)));
}

TEST(LineTest, TheLargestStepDoesNotOverflow) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  RunEntry run;
  run.streams = {MakeStream(1, "a", 0, 0, {{0, kMax - 1, kMax, 2}})};
  std::vector<Attempt> attempts;
  const std::vector<Segment> line = LineOf(run, 0, &attempts);
  ASSERT_EQ(line.size(), 1u);
  EXPECT_EQ(line[0].begin, kMax - 1);
}

struct RandomRun {
  RunEntry run;
  std::set<RowId> rows;
};

RandomRun MakeRandomRun(std::mt19937* rng) {
  const auto pick = [rng](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*rng);
  };
  RandomRun random;
  StreamId id = 0;
  const int attempts = pick(1, 4);
  for (int a = 0; a < attempts; ++a) {
    for (int s = pick(1, 4); s > 0; --s) {
      ++id;
      StreamEntry stream =
          MakeStream(id, "launch" + std::to_string(a),
                     static_cast<std::uint32_t>(pick(0, 2)), pick(0, 30), {});
      const int branches = pick(1, 3);
      for (int b = 0; b < branches; ++b) {
        Branch branch;
        branch.branch = static_cast<std::uint32_t>(b);
        std::int64_t step = pick(0, 25);
        for (int n = pick(0, 12); n > 0; --n, step += pick(1, 3)) {
          if (branch.first_step < 0) branch.first_step = step;
          branch.last_step = step;
          ++branch.rows;
          random.rows.insert({id, branch.branch, step});
        }
        stream.branches.push_back(branch);
      }
      random.run.streams.push_back(stream);
    }
  }
  return random;
}

// The rule as it is worded, applied to one row at a time.
bool IsCanonical(const RandomRun& random, const RowId& row) {
  const auto [id, branch, step] = row;
  const auto stream_of = [&random](StreamId wanted) -> const StreamEntry& {
    return random.run.streams[wanted - 1];
  };
  const StreamEntry& own = stream_of(id);
  const auto attempt_key = [&random](const StreamEntry& of) {
    std::pair<std::int64_t, StreamId> key{INT64_MAX, 0};
    StreamId first = 0;
    for (const StreamEntry& stream : random.run.streams) {
      if (stream.hello.launch != of.hello.launch) continue;
      if (first == 0) first = stream.id;
      key.first = std::min(key.first, stream.hello.start_time_unix_ns);
    }
    key.second = first;
    return key;
  };
  for (const auto& [other_id, other_branch, other_step] : random.rows) {
    if (other_step > step) continue;
    const StreamEntry& other = stream_of(other_id);
    if (other_id == id) {
      if (other_branch > branch) return false;
    } else if (other.hello.launch == own.hello.launch) {
      if (other.hello.rank == own.hello.rank &&
          std::make_pair(other.hello.start_time_unix_ns, other.id) >
              std::make_pair(own.hello.start_time_unix_ns, own.id)) {
        return false;
      }
    } else if (attempt_key(other) > attempt_key(own)) {
      return false;
    }
  }
  return true;
}

TEST(LineTest, EqualsTheRuleAppliedRowByRowOnRandomRuns) {
  std::mt19937 rng(20240607);
  for (int round = 0; round < 500; ++round) {
    const RandomRun random = MakeRandomRun(&rng);
    const std::vector<Attempt> attempts = AttemptsOf(random.run);
    for (std::uint32_t rank = 0; rank < 3; ++rank) {
      const Line line = CanonicalLine(attempts, rank);
      std::int64_t last_end = 0;
      for (const Segment& segment : line.segments) {
        ASSERT_LE(last_end, segment.begin);
        ASSERT_LT(segment.begin, segment.end);
        last_end = segment.end;
      }
      for (const RowId& row : random.rows) {
        const auto [id, branch, step] = row;
        if (random.run.streams[id - 1].hello.rank != rank) continue;
        ASSERT_EQ(FindSegment(line, id, branch, step) != nullptr,
                  IsCanonical(random, row))
            << "round " << round << " stream " << id << " branch " << branch
            << " step " << step;
      }
    }
  }
}

v1::StepRange Range(std::optional<std::int64_t> begin,
                    std::optional<std::int64_t> end) {
  v1::StepRange range;
  if (begin.has_value()) range.set_begin(*begin);
  if (end.has_value()) range.set_end(*end);
  return range;
}

TEST(StepRangeTest, ReadsLikeAPythonSlice) {
  constexpr std::int64_t kLast = 9;  // Steps 0 to 9.
  const auto steps = [](const v1::StepRange& range) {
    const StepWindow window = ResolveSteps(range, kLast);
    std::vector<std::int64_t> found;
    for (std::int64_t step = 0; step <= kLast; ++step) {
      if (window.Contains(step)) found.push_back(step);
    }
    return found;
  };
  EXPECT_EQ(steps(Range({}, {})).size(), 10u);
  EXPECT_THAT(steps(Range(2, 4)), ElementsAre(2, 3));
  EXPECT_THAT(steps(Range(-2, {})), ElementsAre(8, 9));
  EXPECT_THAT(steps(Range({}, -8)), ElementsAre(0, 1));
  EXPECT_THAT(steps(Range(-3, -1)), ElementsAre(7, 8));
  EXPECT_THAT(steps(Range(-100, 1)), ElementsAre(0));
  EXPECT_THAT(steps(Range(5, 5)), ElementsAre());
  EXPECT_THAT(steps(Range(7, 3)), ElementsAre());
  EXPECT_THAT(steps(Range(20, {})), ElementsAre());
}

TEST(StepRangeTest, ExtremesAndAnEmptyLineAreSafe) {
  const StepWindow all =
      ResolveSteps(Range(std::numeric_limits<std::int64_t>::min(),
                         std::numeric_limits<std::int64_t>::max()),
                   std::numeric_limits<std::int64_t>::max() - 1);
  EXPECT_EQ(all.begin, 0);
  const StepWindow empty = ResolveSteps(Range(-1, {}), -1);
  EXPECT_EQ(empty.begin, 0);
}

}  // namespace
}  // namespace gradtap::server
