// What goes to watchers as bytes is what a snapshot of the same step says.

#include "server/query/live_rows.h"

#include <cmath>
#include <limits>
#include <random>

#include "server/query/query_testing.h"
#include "server/query/row_find.h"
#include "server/query/watch_question.h"

namespace gradtap::server::testing {
namespace {

class LiveRowsTest : public QueryTest {
 protected:
  static Record RandomRecord(std::mt19937_64* random) {
    const auto number = [random] {
      return std::ldexp(
          static_cast<float>(static_cast<std::int64_t>((*random)() % 2001)) -
              1000,
          static_cast<int>((*random)() % 60) - 30);
    };
    const auto count = [random] {
      return (*random)() % 4 == 0 ? (*random)() % (kNumel + 2) : 0;
    };
    Record record;
    record.mean = number();
    record.std = std::fabs(number());
    record.abs_mean = std::fabs(number());
    record.min = number();
    record.max = (*random)() % 9 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                      : number();
    record.zero = count();
    record.nan = count();
    record.pos_inf = count();
    record.neg_inf = count();
    return record;
  }

  // Records and absences at random; now and then a role is not there at all.
  StepData RandomStep(std::int64_t at, std::mt19937_64* random) {
    StepData step = MakeStep(schema_, at, 1);
    std::erase_if(step.roles,
                  [random](const auto&) { return (*random)() % 6 == 0; });
    for (RoleColumns& columns : step.roles) {
      for (std::size_t i = 0; i < columns.size(); ++i) {
        if ((*random)() % 5 == 0) {
          columns.SetAbsent(i);
        } else {
          columns.Set(i, RandomRecord(random));
        }
      }
    }
    return step;
  }

  static std::string Wire(const EncodedEvent& event) {
    return event.head + event.rows;
  }

  // The newest step, by the long way.
  v1::WatchResponse Expected(const v1::WatchRequest& request, const Row& row) {
    v1::WatchResponse expected;
    expected.set_ordinal(row.ordinal);
    const auto selection =
        ParseSnapshotSelection(request.statistics(), request.match());
    SchemaCache schemas(&store_);
    ReadBudget budget(environment_.limits.max_read_bytes, nullptr);
    GRADTAP_EXPECT_OK(FillSnapshot(environment_, "run", 0, row, *selection,
                                   &schemas, &budget,
                                   expected.mutable_snapshot()));
    return expected;
  }

  Row Newest(const RunView& run) {
    ReadBudget budget(environment_.limits.max_read_bytes, nullptr);
    return **NewestRecorded(&store_, run.LineOf(0, 0), StepWindow{}, &budget);
  }

  void ExpectSame(const v1::WatchRequest& request) {
    const auto run = OpenRun(store_, "run");
    GRADTAP_ASSERT_OK(run);
    const Row row = Newest(*run);
    ASSERT_NE(row.stored->row_view(), nullptr);
    WatchQuestions questions;
    const auto question = questions.Get(&environment_, request);
    GRADTAP_ASSERT_OK(question);
    const auto event = (*question)->Encode(0, row, false);
    GRADTAP_ASSERT_OK(event);
    v1::WatchResponse parsed;
    ASSERT_TRUE(parsed.ParseFromString(Wire(**event)));
    // Bit for bit, NaN included, and with the fields in protobuf's own order.
    EXPECT_EQ(parsed.SerializeAsString(),
              Expected(request, row).SerializeAsString())
        << parsed.DebugString();
  }

  v1::WatchRequest Ask(const std::vector<std::string>& statistics,
                       const std::string& match = "") {
    v1::WatchRequest request;
    request.set_run("run");
    for (const std::string& name : statistics) request.add_statistics(name);
    request.set_match(match);
    return request;
  }

  const Schema schema_ =
      MakeSchema(1, {MakeParameter("a.weight"), MakeBuffer("a.running_mean"),
                     MakeParameter("b.weight"), MakeParameter("b.bias"),
                     MakeBuffer("b.count")});
};

TEST_F(LiveRowsTest, EveryStatisticIsThatOfASnapshot) {
  std::mt19937_64 random(5);
  const StreamId stream = AddRun("run", schema_, 1);
  for (std::int64_t step = 1; step <= 60; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    store_.AddStep(stream, 0, RandomStep(step, &random));
    std::vector<std::string> names = AllStatisticNames();
    std::shuffle(names.begin(), names.end(), random);
    names.resize(1 + random() % kMaxStatistics);
    ExpectSame(Ask(names));
    ExpectSame(Ask({}));
    ExpectSame(Ask({"update.ratio", "scalar.loss"}, "weight$"));
    ExpectSame(Ask({"scalar.loss"}));
    ExpectSame(Ask({"buffer.mean"}, "^b"));
  }
}

TEST_F(LiveRowsTest, QuantilesAndTooLargeAnswersGoTheLongWay) {
  AddRun("run", schema_, 2);
  ExpectSame(Ask({"grad.p50", "grad.l2"}));
  environment_.limits.max_values = 9;  // Of 2 x 5.
  const auto run = OpenRun(store_, "run");
  WatchQuestions questions;
  const auto question =
      questions.Get(&environment_, Ask({"grad.l2", "weight.l2"}));
  EXPECT_THAT((*question)->Encode(0, Newest(*run), false),
              gradtap::testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                         ::testing::_));
}

TEST_F(LiveRowsTest, RecentMessagesAreHeldWithinABound) {
  RecentEvents recent(1000);
  std::vector<std::weak_ptr<const EncodedEvent>> all;
  for (int i = 0; i < 10; ++i) {
    const auto event = std::make_shared<const EncodedEvent>(
        EncodedEvent{std::string(100, 'h'), std::string(200, 'r')});
    all.push_back(event);
    recent.Add(event);
    EXPECT_LE(recent.bytes(), 1000U);
  }
  EXPECT_TRUE(all[6].expired());
  EXPECT_FALSE(all[7].expired());
  recent.Add(std::make_shared<const EncodedEvent>(
      EncodedEvent{std::string(2000, 'h'), ""}));
  EXPECT_EQ(recent.bytes(), 0U);
  EXPECT_TRUE(all[9].expired());
}

}  // namespace
}  // namespace gradtap::server::testing
