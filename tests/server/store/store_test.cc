// The contract of server/store/store.h over RocksDB.

#include "server/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeHello;
using testing::OwnedCommit;
using ::testing::Pair;
using testing::StepsCommit;
using testing::StepsOf;
using ::testing::UnorderedElementsAre;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;

// With the newest steps in memory, and without: what is read is the same.
class StoreTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override { Open(); }

  // What the catalog counts is what the rows say, whatever a test has done.
  void TearDown() override {
    if (store_ == nullptr) return;
    for (const auto& run : store_->Runs()) {
      for (const StreamEntry& stream : run->streams) {
        std::uint64_t rows = 0;
        for (const Branch& branch : stream.branches) {
          EXPECT_EQ(StepsOf(store_.get(), stream.id, branch.branch).size(),
                    branch.rows);
          rows += branch.rows;
        }
        EXPECT_LE(stream.stored_steps, rows);
      }
    }
  }

  void Open() {
    store_.reset();
    StoreOptions options;
    options.data_dir = temp_.path() + "/data";
    options.tail_bytes = GetParam();
    auto store = OpenRocksdbStore(options);
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
  }

  StreamId OpenStream(const StreamHello& hello = MakeHello()) {
    const auto stream = store_->OpenStream(hello, kNow);
    EXPECT_THAT(stream, ::gradtap::testing::IsOk());
    return stream.ok() ? stream->id : 0;
  }

  absl::Status Commit(const StreamCommit& commit) {
    return store_->Commit({&commit, 1});
  }

  StreamEntry Entry(StreamId id, const std::string& run = "run") {
    const auto entry = store_->FindRun(run);
    for (const StreamEntry& stream : entry->streams) {
      if (stream.id == id) return stream;
    }
    ADD_FAILURE() << "no stream " << id;
    return {};
  }

  // "r STEP" and "g FIRST" in the order of ordinals, checked to be 1, 2, ...
  std::vector<std::string> Ordinals(std::uint64_t after = 0,
                                    const std::string& run = "run") {
    std::vector<std::string> seen;
    std::uint64_t expected = after;
    GRADTAP_EXPECT_OK(store_->ScanByOrdinal(
        run, after, [&](const StepRow* row, const GapRow* gap) {
          EXPECT_NE(row == nullptr, gap == nullptr);
          EXPECT_EQ(row != nullptr ? row->ordinal : gap->ordinal, ++expected);
          seen.push_back(row != nullptr
                             ? "r " + std::to_string(row->step)
                             : "g " + std::to_string(gap->gap.first_step));
          return true;
        }));
    return seen;
  }

  TempDir temp_;
  std::unique_ptr<Store> store_;
};

TEST_P(StoreTest, AnEmptyFolderHasNoRuns) {
  EXPECT_THAT(store_->Runs(), IsEmpty());
  EXPECT_EQ(store_->FindRun("run"), nullptr);
  EXPECT_EQ(store_->format_version(), 3U);
  EXPECT_EQ(store_->data_dir(), temp_.path() + "/data");
  EXPECT_GT(store_->disk_bytes(), 0U);
}

TEST_P(StoreTest, AStreamIsFoundAgainAndNotMadeTwice) {
  const StreamId id = OpenStream();
  EXPECT_EQ(OpenStream(), id);
  EXPECT_NE(OpenStream(MakeHello("run", "launch", 1)), id);
  EXPECT_NE(OpenStream(MakeHello("run", "launch", 0, 'm')), id);
  EXPECT_NE(OpenStream(MakeHello("other")), id);
  EXPECT_EQ(store_->FindRun("run")->streams.size(), 3U);
  EXPECT_EQ(store_->Runs().size(), 2U);
  Open();
  EXPECT_EQ(OpenStream(), id);
  EXPECT_EQ(store_->FindRun("run")->streams.size(), 3U);
  EXPECT_EQ(store_->FindRun("run")->created_unix_ns, kNow);
}

TEST_P(StoreTest, TagsOfAReturningStreamAreMerged) {
  OpenStream();
  StreamHello hello = MakeHello();
  hello.tags = {{"team", "speech"}, {"seed", "7"}};
  OpenStream(hello);
  Open();
  EXPECT_THAT(store_->FindRun("run")->streams[0].hello.tags,
              ElementsAre(Pair("seed", "7"), Pair("team", "speech")));
}

TEST_P(StoreTest, RowsComeBackAsTheyWereInOrderOfStep) {
  const StreamId id = OpenStream();
  const OwnedCommit commit = StepsCommit(id, 1, 0, 299);
  GRADTAP_ASSERT_OK(Commit(commit.commit));
  Open();
  std::int64_t next = 100;
  GRADTAP_ASSERT_OK(store_->ScanSteps(id, 0, 100, 200, [&](const StepRow& row) {
    EXPECT_EQ(row.step, next);
    EXPECT_EQ(row.stream, id);
    EXPECT_EQ(row.branch, 0U);
    EXPECT_EQ(row.ordinal, static_cast<std::uint64_t>(next) + 1);
    EXPECT_EQ(row.body, commit.bodies[static_cast<std::size_t>(next)]);
    ++next;
    return next < 150;
  }));
  EXPECT_EQ(next, 150);  // It stopped when told so.
  EXPECT_EQ(StepsOf(store_.get(), id).size(), 300U);
}

TEST_P(StoreTest, EmptyAndReversedRangesVisitNothing) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 9).commit));
  for (const auto& [begin, end] :
       {std::pair<std::int64_t, std::int64_t>{5, 5}, {9, 2}, {10, 99}}) {
    GRADTAP_EXPECT_OK(store_->ScanSteps(id, 0, begin, end, [](const StepRow&) {
      ADD_FAILURE();
      return true;
    }));
  }
  EXPECT_THAT(
      store_->ScanSteps(id + 1, 0, 0, 1, [](const StepRow&) { return true; }),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("stream 2")));
}

TEST_P(StoreTest, ACommitMovesCursorCountsAndBranchTogether) {
  const StreamId id = OpenStream();
  OwnedCommit commit = StepsCommit(id, 1, 10, 19);
  commit.commit.steps[3].has_statistics = false;
  commit.commit.gaps.push_back({0, {GapCause::kRingFull, 20, 29, 10, "full"}});
  commit.commit.gaps.push_back({0, {GapCause::kLoop, 30, 30, 1, ""}});
  commit.commit.last_seq = 12;
  commit.commit.rejected_records = 2;
  commit.commit.end = EndData{EndReason::kFinished, 5, 21, 9, 2, 10};
  GRADTAP_ASSERT_OK(Commit(commit.commit));
  const auto check = [&] {
    const StreamEntry entry = Entry(id);
    EXPECT_EQ(entry.durable_seq, 12U);
    EXPECT_EQ(entry.stored_steps, 9U);
    EXPECT_EQ(entry.skipped_steps, 2U);
    EXPECT_EQ(entry.lost_steps, 10U);
    EXPECT_EQ(entry.rejected_records, 2U);
    EXPECT_EQ(entry.bytes, commit.commit.bytes);
    EXPECT_EQ(entry.last_seen_unix_ns, commit.commit.last_seen_unix_ns);
    ASSERT_TRUE(entry.end.has_value());
    EXPECT_EQ(entry.end->steps_seen, 21U);
    ASSERT_EQ(entry.branches.size(), 1U);
    EXPECT_EQ(entry.branches[0].first_step, 10);
    EXPECT_EQ(entry.branches[0].last_step, 30);
    EXPECT_EQ(entry.branches[0].rows, 10U);
    EXPECT_EQ(store_->FindRun("run")->ordinal, 12U);
  };
  check();
  EXPECT_EQ(store_->counters().stored_steps, 9U);
  EXPECT_EQ(store_->counters().stored_values, 9U * 9U * 4U);
  EXPECT_EQ(store_->counters().rejected_records, 2U);
  Open();
  check();
}

TEST_P(StoreTest, ACommitThatDoesNotFollowTheCursorIsRefused) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 4).commit));
  for (const std::uint64_t first : {1U, 5U, 7U}) {
    EXPECT_THAT(Commit(StepsCommit(id, first, 5, 6).commit),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("durable up to seq 5")));
  }
  EXPECT_EQ(Entry(id).durable_seq, 5U);
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 6, 5, 6).commit));
  EXPECT_EQ(StepsOf(store_.get(), id).size(), 7U);
}

TEST_P(StoreTest, OneMisfitInAGroupStoresNothingOfTheGroup) {
  const StreamId a = OpenStream(MakeHello("a"));
  const StreamId b = OpenStream(MakeHello("b"));
  const OwnedCommit good = StepsCommit(a, 1, 0, 4);
  const OwnedCommit bad = StepsCommit(b, 2, 0, 4);
  const StreamCommit group[] = {good.commit, bad.commit};
  EXPECT_THAT(store_->Commit(group),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("does not follow")));
  EXPECT_THAT(StepsOf(store_.get(), a), IsEmpty());
  EXPECT_EQ(Entry(a, "a").durable_seq, 0U);
  EXPECT_EQ(store_->counters().commits, 0U);
}

TEST_P(StoreTest, AGroupOfManyStreamsAndSeveralCommitsOfOneIsOneSync) {
  const StreamId a = OpenStream(MakeHello("a"));
  const StreamId b = OpenStream(MakeHello("b"));
  const std::uint64_t syncs = store_->counters().syncs;
  const OwnedCommit a1 = StepsCommit(a, 1, 0, 4);
  const OwnedCommit b1 = StepsCommit(b, 1, 0, 1);
  const OwnedCommit a2 = StepsCommit(a, 6, 5, 9);
  const StreamCommit group[] = {a1.commit, b1.commit, a2.commit};
  GRADTAP_ASSERT_OK(store_->Commit(group));
  EXPECT_EQ(store_->counters().syncs, syncs + 1);
  EXPECT_EQ(store_->counters().commits, 3U);
  EXPECT_EQ(Entry(a, "a").durable_seq, 10U);
  EXPECT_EQ(Entry(b, "b").durable_seq, 2U);
  EXPECT_EQ(Ordinals(0, "a").size(), 10U);
}

TEST_P(StoreTest, BranchesAreKeptApart) {
  const StreamId id = OpenStream();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 9).commit));
  OwnedCommit back = StepsCommit(id, 11, 5, 7);
  back.commit.new_branches = {{1, 4}};
  for (auto& step : back.commit.steps) step.branch = 1;
  GRADTAP_ASSERT_OK(Commit(back.commit));
  Open();
  EXPECT_EQ(StepsOf(store_.get(), id, 0).size(), 10U);
  EXPECT_THAT(StepsOf(store_.get(), id, 1), ElementsAre(5, 6, 7));
  ASSERT_EQ(Entry(id).branches.size(), 2U);
  EXPECT_EQ(Entry(id).branches[1].first_step, 5);
  EXPECT_EQ(Entry(id).branches[1].last_step, 7);
  EXPECT_EQ(Entry(id).branches[1].rollback_step, 4);
  EXPECT_EQ(Entry(id).branches[0].rollback_step, -1);

  OwnedCommit unknown = StepsCommit(id, 14, 8, 8);
  unknown.commit.steps[0].branch = 2;
  EXPECT_THAT(Commit(unknown.commit),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("no branch 2")));
  OwnedCommit skipping = StepsCommit(id, 14, 8, 8);
  skipping.commit.new_branches = {{3, 8}};
  EXPECT_THAT(Commit(skipping.commit),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("branch 3 does not follow branch 1")));
}

TEST_P(StoreTest, GapsComeInOrderOfBranchAndStep) {
  const StreamId id = OpenStream();
  StreamCommit commit;
  commit.stream = id;
  commit.first_seq = 1;
  commit.last_seq = 3;
  commit.gaps = {{0, {GapCause::kLoop, 7, 7, 1, "nan loss"}},
                 {0, {GapCause::kBudget, 2, 4, 3, ""}},
                 {0, {GapCause::kRejected, 7, 7, 1, ""}}};
  GRADTAP_ASSERT_OK(Commit(commit));
  Open();
  const auto gaps = store_->ReadGaps(id);
  GRADTAP_ASSERT_OK(gaps);
  ASSERT_EQ(gaps->size(), 3U);
  EXPECT_EQ((*gaps)[0].gap.first_step, 2);
  EXPECT_EQ((*gaps)[0].gap.cause, GapCause::kBudget);
  EXPECT_EQ((*gaps)[1].gap.detail, "nan loss");
  EXPECT_EQ((*gaps)[1].ordinal, 1U);
  EXPECT_EQ((*gaps)[2].gap.cause, GapCause::kRejected);
  EXPECT_EQ((*gaps)[2].ordinal, 3U);
}

TEST_P(StoreTest, OrdinalsFollowCommitsAndSurviveAReopen) {
  const StreamId a = OpenStream();
  const StreamId b = OpenStream(MakeHello("run", "launch", 1));
  OwnedCommit first = StepsCommit(a, 1, 0, 2);
  first.commit.gaps.push_back({0, {GapCause::kLoop, 1, 1, 1, ""}});
  first.commit.last_seq = 4;
  GRADTAP_ASSERT_OK(Commit(first.commit));
  GRADTAP_ASSERT_OK(Commit(StepsCommit(b, 1, 5, 6).commit));
  Open();
  GRADTAP_ASSERT_OK(Commit(StepsCommit(a, 5, 3, 3).commit));
  EXPECT_THAT(Ordinals(),
              ElementsAre("r 0", "g 1", "r 1", "r 2", "r 5", "r 6", "r 3"));
  EXPECT_THAT(Ordinals(5), ElementsAre("r 6", "r 3"));
  EXPECT_THAT(Ordinals(7), IsEmpty());
  EXPECT_THAT(Ordinals(std::numeric_limits<std::uint64_t>::max()), IsEmpty());
  EXPECT_THAT(
      store_->ScanByOrdinal("nope", 0,
                            [](const StepRow*, const GapRow*) { return true; }),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("nope")));
}

TEST_P(StoreTest, SchemasAreDecodedOnceAndShared) {
  const StreamId id = OpenStream();
  const std::string one =
      testing::BodyOf(EncodeSchema(testing::MakeSchema(1, 3)));
  const std::string two =
      testing::BodyOf(EncodeSchema(testing::MakeSchema(2, 5)));
  StreamCommit commit;
  commit.stream = id;
  commit.first_seq = 1;
  commit.last_seq = 2;
  commit.schemas = {{1, one, {"Lion"}}, {2, two, {"Lion", "Sophia"}}};
  GRADTAP_ASSERT_OK(Commit(commit));
  Open();
  EXPECT_EQ(Entry(id).schema_id, 2U);
  EXPECT_THAT(Entry(id).optimizers, ElementsAre("Lion", "Sophia"));
  const auto first = store_->ReadSchema(id, 1);
  GRADTAP_ASSERT_OK(first);
  EXPECT_EQ((*first)->parameters.size(), 3U);
  EXPECT_EQ((*first)->parameters[2].name, "layer2.weight");
  EXPECT_EQ((*store_->ReadSchema(id, 1)).get(), first->get());
  EXPECT_EQ((*store_->ReadSchema(id, 2))->parameters.size(), 5U);
  EXPECT_THAT(store_->ReadSchema(id, 3),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no schema 3")));
}

TEST_P(StoreTest, ADeletedRunIsGoneForGoodAndItsNameIsFree) {
  const StreamId id = OpenStream();
  const StreamId kept = OpenStream(MakeHello("kept"));
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 99).commit));
  GRADTAP_ASSERT_OK(Commit(StepsCommit(kept, 1, 0, 9).commit));
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_EQ(store_->FindRun("run"), nullptr);
  EXPECT_THAT(Commit(StepsCommit(id, 101, 100, 100).commit),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
  EXPECT_THAT(store_->DeleteRun("run"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("run")));
  Open();
  EXPECT_EQ(store_->FindRun("run"), nullptr);
  EXPECT_EQ(StepsOf(store_.get(), kept).size(), 10U);
  const StreamId again = OpenStream();
  EXPECT_NE(again, id);
  EXPECT_EQ(Entry(again).durable_seq, 0U);
  EXPECT_THAT(StepsOf(store_.get(), again), IsEmpty());
  EXPECT_THAT(Ordinals(), IsEmpty());
}

TEST_P(StoreTest, DeletingFreesTheDisk) {
  const StreamId id = OpenStream();
  std::string noise(2 << 20, '\0');
  std::uint32_t x = 1;
  for (char& c : noise)
    c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  for (std::uint64_t seq = 1; seq <= 40; ++seq) {
    StreamCommit commit;
    commit.stream = id;
    commit.first_seq = commit.last_seq = seq;
    commit.steps = {{0, static_cast<std::int64_t>(seq), true, 1, noise}};
    GRADTAP_ASSERT_OK(Commit(commit));
  }
  Open();  // What was in memory and in logs is in tables now.
  const std::uint64_t full = store_->disk_bytes();
  EXPECT_GT(full, 60U << 20);
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  Open();  // Files go a moment after what was in them.
  EXPECT_LT(store_->disk_bytes(), full / 2);
}

TEST_P(StoreTest, ListenersHearOfEveryChangeAndMayCallTheStore) {
  std::vector<std::string> heard;
  std::size_t runs_seen = 0;
  const int id = store_->AddListener([&](const std::string& run) {
    heard.push_back(run);
    runs_seen = store_->Runs().size();
  });
  const StreamId a = OpenStream(MakeHello("a"));
  const StreamId b = OpenStream(MakeHello("b"));
  const OwnedCommit on_a = StepsCommit(a, 1, 0, 1);
  const OwnedCommit on_b = StepsCommit(b, 1, 0, 1);
  const StreamCommit group[] = {on_a.commit, on_b.commit};
  GRADTAP_ASSERT_OK(store_->Commit(group));
  GRADTAP_ASSERT_OK(store_->DeleteRun("b"));
  EXPECT_THAT(heard, ElementsAre("a", "b", "a", "b", "b"));
  EXPECT_EQ(runs_seen, 1U);
  store_->RemoveListener(id);
  store_->RemoveListener(id);  // Unknown by now: nothing happens.
  OpenStream(MakeHello("c"));
  EXPECT_EQ(heard.size(), 5U);
}

TEST_P(StoreTest, AListenerSeesWhatItIsToldOf) {
  const StreamId id = OpenStream();
  std::uint64_t durable = 0;
  store_->AddListener([&](const std::string& run) {
    durable = store_->FindRun(run)->streams[0].durable_seq;
  });
  GRADTAP_ASSERT_OK(Commit(StepsCommit(id, 1, 0, 4).commit));
  EXPECT_EQ(durable, 5U);
}

TEST_P(StoreTest, ASecondCollectorIsRefused) {
  EXPECT_THAT(OpenRocksdbStore({temp_.path() + "/data"}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("pid " + std::to_string(::getpid()))));
}

INSTANTIATE_TEST_SUITE_P(Tail, StoreTest,
                         ::testing::Values(std::size_t{1} << 20, 0U));

}  // namespace
}  // namespace gradtap::server
