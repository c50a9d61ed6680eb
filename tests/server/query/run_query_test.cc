#include "server/query/run_query.h"

#include <cmath>

#include "server/query/errors.h"
#include "server/query/query_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class RunQueryTest : public QueryTest {
 protected:
  RunQueryTest()
      : schema_(
            MakeSchema(1, {MakeParameter("fc.weight"), MakeBuffer("bn.mean"),
                           MakeParameter("frozen")})) {}

  v1::ListRunsResponse List(const v1::ListRunsRequest& request = {}) {
    v1::ListRunsResponse response;
    GRADTAP_EXPECT_OK(
        ListRuns(environment_, request, {}, &overheads_, &response));
    return response;
  }

  v1::GetRunResponse Get(const std::string& run) {
    v1::GetRunRequest request;
    request.set_run(run);
    v1::GetRunResponse response;
    GRADTAP_EXPECT_OK(
        GetRun(environment_, request, {}, &overheads_, &response));
    return response;
  }

  absl::StatusOr<v1::ListParametersResponse> Parameters(
      const v1::ListParametersRequest& request) {
    v1::ListParametersResponse response;
    absl::Status status =
        ListParameters(environment_, request, nullptr, &response);
    if (!status.ok()) return status;
    return response;
  }

  OverheadCache overheads_;
  const Schema schema_;
};

// A store in which one run's schema is not there any more.
class DamagedStore : public gradtap::testing::MemoryStore {
 public:
  absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      StreamId stream, std::uint32_t schema_id) override {
    if (stream == damaged) return absl::DataLossError("the schema is damaged");
    return MemoryStore::ReadSchema(stream, schema_id);
  }
  StreamId damaged = 0;
};

TEST(ListRunsTest, ARunThatCannotBeReadIsNamedBesideTheOthers) {
  DamagedStore store;
  QueryEnvironment environment;
  environment.store = &store;
  environment.clock = &RealClock();
  for (const char* run : {"bad\x1b", "good"}) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "one";
    hello.process_nonce = std::string(16, 'n');
    const auto stream = store.OpenStream(hello, kStart);
    GRADTAP_ASSERT_OK(stream);
    store.AddSchema(stream->id, MakeSchema(1, {MakeParameter("w")}));
    if (store.damaged == 0) store.damaged = stream->id;
  }
  OverheadCache overheads;
  v1::ListRunsResponse response;
  GRADTAP_ASSERT_OK(ListRuns(environment, {}, {}, &overheads, &response));
  ASSERT_EQ(response.runs_size(), 1);
  EXPECT_EQ(response.runs(0).run(), "good");
  ASSERT_EQ(response.notes_size(), 1);
  EXPECT_THAT(response.notes(0), HasSubstr("run 'bad"));
  EXPECT_THAT(response.notes(0), HasSubstr("the schema is damaged"));
  EXPECT_THAT(response.notes(0), ::testing::Not(HasSubstr("\x1b")));
}

TEST_F(RunQueryTest, RunsComeNewestFirstWithTheirBooks) {
  const StreamId stream = AddRun("old", schema_, 4);
  store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 4, 5));
  store_.AddStep(stream, 0, MakeSkipped(6, GapCause::kLoop));
  Open("new", "one", 0, kStart + kSecond);
  const v1::ListRunsResponse answer = List();
  ASSERT_EQ(answer.runs_size(), 2);
  EXPECT_EQ(answer.runs(0).run(), "new");
  EXPECT_EQ(answer.runs(0).last_step(), -1);
  EXPECT_TRUE(std::isnan(answer.runs(0).overhead()));
  const v1::RunInfo& old = answer.runs(1);
  EXPECT_EQ(old.stored_steps(), 4u);
  EXPECT_EQ(old.skipped_steps(), 1u);
  EXPECT_EQ(old.lost_steps(), 2u);
  EXPECT_EQ(old.first_step(), 0);
  EXPECT_EQ(old.last_step(), 6);
  EXPECT_EQ(old.parameters(), 2u);
  EXPECT_DOUBLE_EQ(old.overhead(), 0.01 / 0.5);
  EXPECT_GT(old.bytes(), 0u);
}

TEST_F(RunQueryTest, OverheadIsThatOfTheNewest64Steps) {
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema_);
  for (int i = 0; i < 200; ++i) {
    StepData step = MakeStep(schema_, i, 0);
    step.scalars = {{"agent.step_seconds", 1.0},
                    {"agent.capture_seconds", i < 136 ? 0.9 : 0.25}};
    store_.AddStep(stream, 0, step);
  }
  EXPECT_EQ(Get("run").run().overhead(), 0.25);
}

TEST_F(RunQueryTest, OverheadFollowsNewStepsAndANewRunOfTheSameName) {
  AddRun("run", schema_, 1);
  EXPECT_DOUBLE_EQ(Get("run").run().overhead(), 0.02);
  v1::DeleteRunRequest request;
  request.set_run("run");
  v1::DeleteRunResponse response;
  GRADTAP_ASSERT_OK(DeleteRun(environment_, request, &overheads_, &response));
  EXPECT_EQ(response.deleted_steps(), 1u);
  const StreamId stream = Open("run");
  StepData step = MakeStep(schema_, 0, 0);
  step.scalars[2].value = 0.1;
  store_.AddStep(stream, 0, step);
  EXPECT_DOUBLE_EQ(Get("run").run().overhead(), 0.2);
}

TEST_F(RunQueryTest, StatesAndTagsSelectRuns) {
  StreamHello hello;
  hello.run = "tagged";
  hello.launch = "one";
  hello.process_nonce = "x";
  hello.start_time_unix_ns = kStart;
  hello.tags = {{"team", "vision"}, {"lr", "0.1"}};
  const StreamId tagged = store_.OpenStream(hello, kStart)->id;
  AddRun("plain", schema_, 1);
  clock_.Advance(std::chrono::seconds(120));
  connected_.insert(tagged);
  v1::ListRunsRequest request;
  request.set_state(v1::RUN_STATE_LOST);
  EXPECT_EQ(List(request).runs(0).run(), "plain");
  request.set_state(v1::RUN_STATE_RUNNING);
  EXPECT_EQ(List(request).runs(0).run(), "tagged");
  request.Clear();
  v1::Tag* tag = request.add_tags();
  tag->set_key("team");
  tag->set_value("vision");
  ASSERT_EQ(List(request).runs_size(), 1);
  EXPECT_EQ(List(request).runs(0).tags_size(), 2);
  tag->set_value("audio");
  EXPECT_EQ(List(request).runs_size(), 0);
}

TEST_F(RunQueryTest, AStreamShowsTheOptimizersOfItsNewestSchema) {
  const StreamId stream = AddRun("run", schema_, 1);
  EXPECT_EQ(Get("run").attempts(0).streams(0).optimizers_size(), 0);
  Schema next = schema_;
  next.schema_id = 2;
  next.optimizers = {"torch::optim::AdamW", "Lion"};
  store_.AddSchema(stream, next);
  const v1::GetRunResponse answer = Get("run");
  EXPECT_THAT(answer.attempts(0).streams(0).optimizers(),
              ElementsAre("torch::optim::AdamW", "Lion"));
}

TEST_F(RunQueryTest, ARunShowsItsAttemptsAndStreams) {
  const StreamId first = AddRun("run", schema_, 3);
  store_.AddEnd(first, {EndReason::kStopped, kStart + 9, 3, 3, 0, 0});
  const StreamId second = Open("run", "two", 0, kStart + kSecond, 2);
  connected_.insert(second);
  clock_.Advance(std::chrono::seconds(5));
  const v1::GetRunResponse answer = Get("run");
  EXPECT_EQ(answer.run().state(), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(answer.run().world_size(), 2u);
  ASSERT_EQ(answer.attempts_size(), 2);
  EXPECT_EQ(answer.attempts(0).state(), v1::RUN_STATE_STOPPED);
  EXPECT_EQ(answer.attempts(0).streams(0).last_step(), 2);
  EXPECT_EQ(answer.attempts(0).streams(0).end_reason(),
            v1::End::REASON_STOPPED);
  const v1::StreamInfo& live = answer.attempts(1).streams(0);
  EXPECT_TRUE(live.connected());
  EXPECT_EQ(live.last_seen_unix_ns(), kStart + 5 * kSecond);
  EXPECT_EQ(live.last_step(), -1);
}

TEST_F(RunQueryTest, ParametersAreCountedApartFromBuffers) {
  AddRun("run", schema_, 1);
  v1::ListParametersRequest request;
  request.set_run("run");
  auto answer = Parameters(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->parameters_size(), 3);
  EXPECT_EQ(answer->parameter_count(), 2u);
  EXPECT_EQ(answer->parameter_numel(), 2 * kNumel);
  EXPECT_EQ(answer->buffer_count(), 1u);
  EXPECT_EQ(answer->buffer_bytes(), 4 * kNumel);
  EXPECT_EQ(answer->trainable_numel(), 2 * kNumel);
  request.add_kinds(v1::KIND_BUFFER);
  answer = Parameters(request);
  EXPECT_EQ(answer->parameters_size(), 1);
  EXPECT_EQ(answer->parameter_count(), 0u);
  request.clear_kinds();
  request.set_match("weigth");
  EXPECT_THAT(Parameters(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no parameter")));
  request.set_match("");
  request.set_rank(4);
  EXPECT_THAT(Parameters(request), StatusIs(absl::StatusCode::kNotFound,
                                            HasSubstr("known one is 0")));
}

TEST_F(RunQueryTest, ANewAttemptWithoutATableShowsTheOldOne) {
  AddRun("run", schema_, 1);
  Open("run", "two", 0, kStart + kSecond);
  v1::ListParametersRequest request;
  request.set_run("run");
  const auto answer = Parameters(request);
  EXPECT_EQ(answer->attempt(), 1u);
  EXPECT_EQ(answer->parameters_size(), 3);
  request.set_attempt(2);
  EXPECT_EQ(Parameters(request)->parameters_size(), 0);
}

TEST_F(RunQueryTest, AnUnknownRunIsToldWithTheNearestOfThoseThatMayBeKnown) {
  AddRun("run-1", schema_, 1);
  v1::DeleteRunRequest request;
  request.set_run("run-2");
  v1::DeleteRunResponse response;
  const absl::Status status =
      DeleteRun(environment_, request, &overheads_, &response);
  const absl::StatusCode unknown = absl::StatusCode::kNotFound;
  EXPECT_THAT(status, StatusIs(unknown, "no run 'run-2'"));
  using Names = std::vector<std::string>;
  EXPECT_THAT(
      WithNearestRun(status,
                     [] {
                       return Names{"run-1", "apart"};
                     }),
      StatusIs(unknown, "no run 'run-2'; the nearest known one is 'run-1'"));
  EXPECT_THAT(WithNearestRun(status, [] { return Names{}; }),
              StatusIs(unknown, Not(HasSubstr("run-1"))));
  const absl::Status another = absl::NotFoundError("no rank 7");
  EXPECT_EQ(WithNearestRun(another, [] { return Names{"run-1"}; }), another);
  EXPECT_EQ(List().runs_size(), 1);
}

TEST_F(RunQueryTest, APinnedRunSaysSoAndIsNotDeleted) {
  AddRun("run-1", schema_, 1);
  v1::PinRunRequest request;
  request.set_run("run-1");
  request.set_pinned(true);
  v1::PinRunResponse response;
  GRADTAP_ASSERT_OK(PinRun(environment_, request, &response));
  EXPECT_TRUE(response.pinned());
  EXPECT_TRUE(response.changed());
  GRADTAP_ASSERT_OK(PinRun(environment_, request, &response));
  EXPECT_FALSE(response.changed());
  EXPECT_TRUE(Get("run-1").run().pinned());
  v1::DeleteRunRequest gone;
  gone.set_run("run-1");
  v1::DeleteRunResponse deleted;
  EXPECT_THAT(
      DeleteRun(environment_, gone, &overheads_, &deleted),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("pin")));
  request.set_run("run-2");
  EXPECT_THAT(PinRun(environment_, request, &response),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'run-2'")));
}

TEST_F(RunQueryTest, StatusCountsWhatWasStored) {
  AddRun("run", schema_, 3);
  environment_.open_watches = [] { return 5u; };
  v1::GetStatusResponse response;
  GRADTAP_ASSERT_OK(GetStatus(environment_, &response));
  EXPECT_EQ(response.runs(), 1u);
  EXPECT_EQ(response.stored_steps(), 3u);
  EXPECT_EQ(response.open_watches(), 5u);
  EXPECT_FALSE(response.version().empty());
  EXPECT_GT(response.resident_bytes(), 0u);
  EXPECT_EQ(response.time_unix_ns(), clock_.UnixNanos());
}

TEST_F(RunQueryTest, StatusHasTotalsAndTheCallsFigures) {
  AddRun("run", schema_, 3);
  AddRun("other", schema_, 2);
  environment_.calls = [] {
    CallsFigures calls;
    calls.methods = {{"GetSeries", {7, 70, 2, 10, 20, 30}, 1}};
    calls.waiting = 4;
    return calls;
  };
  v1::GetStatusResponse response;
  GRADTAP_ASSERT_OK(GetStatus(environment_, &response));
  const v1::CollectorFigures& figures = response.figures();
  EXPECT_EQ(figures.total_rows(), 5u);
  EXPECT_EQ(figures.total_steps(), 5u);
  EXPECT_EQ(figures.streams(), 2u);
  ASSERT_EQ(figures.calls_size(), 1);
  EXPECT_EQ(figures.calls(0).method(), "GetSeries");
  EXPECT_EQ(figures.calls(0).failed(), 1u);
  EXPECT_EQ(figures.calls(0).latency().count(), 7u);
  EXPECT_EQ(figures.calls(0).latency().p50_ns(), 10);
  EXPECT_EQ(figures.calls(0).latency().p99_ns(), 20);
  EXPECT_EQ(figures.calls(0).latency().max_ns(), 30);
  EXPECT_EQ(figures.calls_waiting(), 4u);
}

}  // namespace
}  // namespace gradtap::server::testing
