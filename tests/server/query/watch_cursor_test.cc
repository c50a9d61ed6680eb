#include "server/query/watch_cursor.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/query/query_testing.h"
#include "server/query/watch_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WatchCursorTest : public QueryTest {
 protected:
  WatchCursorTest() : schema_(MakeSchema(1, {MakeParameter("w")})) {}

  std::unique_ptr<WatchCursor> Watch(const v1::WatchRequest& request) {
    auto cursor =
        WatchCursor::Open(&environment_, &overheads_, &questions_, request);
    GRADTAP_EXPECT_OK(cursor);
    return cursor.ok() ? *std::move(cursor) : nullptr;
  }
  std::unique_ptr<WatchCursor> Watch() { return Watch(Ask()); }

  static v1::WatchRequest Ask() {
    v1::WatchRequest request;
    request.set_run("run");
    request.add_statistics("weight.mean");
    return request;
  }

  // All messages that there are now.
  std::vector<v1::WatchResponse> Drain(WatchCursor* cursor) {
    std::vector<v1::WatchResponse> messages;
    WatchMessage message;
    for (;;) {
      const absl::StatusOr<bool> more = cursor->Next(&message);
      GRADTAP_EXPECT_OK(more);
      if (!more.ok() || (!*more && !cursor->behind())) return messages;
      if (*more) messages.push_back(Parsed(message));
    }
  }

  static std::vector<std::int64_t> Steps(
      const std::vector<v1::WatchResponse>& messages) {
    std::vector<std::int64_t> steps;
    for (const v1::WatchResponse& message : messages) {
      if (message.has_snapshot()) steps.push_back(message.snapshot().step());
    }
    return steps;
  }

  void AddSteps(StreamId stream, std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      store_.AddStep(stream, 0, MakeStep(schema_, i, static_cast<float>(i)));
    }
  }

  OverheadCache overheads_;
  WatchQuestions questions_;
  const Schema schema_;
};

TEST_F(WatchCursorTest, FirstTheRunThenTheNewestStepThenWhatComes) {
  const StreamId stream = AddRun("run", schema_, 5);
  connected_.insert(stream);
  auto cursor = Watch();
  auto messages = Drain(cursor.get());
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].run().state(), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(messages[1].snapshot().step(), 4);
  EXPECT_EQ(messages[1].snapshot().rows(0).value(0), 104);
  EXPECT_TRUE(Drain(cursor.get()).empty());
  AddSteps(stream, 5, 8);
  messages = Drain(cursor.get());
  EXPECT_THAT(Steps(messages), ElementsAre(5, 6, 7));
  EXPECT_EQ(messages.back().ordinal(), 8u);
}

TEST_F(WatchCursorTest, ResumesAfterAnOrdinalWithoutLossOrRepetition) {
  const StreamId stream = AddRun("run", schema_, 300);
  v1::WatchRequest request = Ask();
  request.set_after_ordinal(10);
  auto cursor = Watch(request);
  AddSteps(stream, 300, 305);
  const auto messages = Drain(cursor.get());
  const std::vector<std::int64_t> steps = Steps(messages);
  ASSERT_EQ(steps.size(), 295u);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i], static_cast<std::int64_t>(10 + i));
  }
  for (const auto& message : messages) {
    EXPECT_EQ(message.conflated_steps(), 0u);
  }
}

TEST_F(WatchCursorTest, ResumingFromAnyMessageGivesTheRest) {
  const StreamId stream = AddRun("run", schema_, 3);
  auto cursor = Watch();
  auto messages = Drain(cursor.get());
  AddSteps(stream, 3, 6);
  const auto more = Drain(cursor.get());
  messages.insert(messages.end(), more.begin(), more.end());
  for (const v1::WatchResponse& message : messages) {
    v1::WatchRequest request = Ask();
    request.set_after_ordinal(message.ordinal());
    std::vector<std::int64_t> expected;
    for (const std::int64_t step : {2, 3, 4, 5}) {
      if (static_cast<std::uint64_t>(step) + 1 > message.ordinal()) {
        expected.push_back(step);
      }
    }
    auto resumed = Watch(request);
    EXPECT_EQ(Steps(Drain(resumed.get())), expected) << message.ordinal();
  }
}

TEST_F(WatchCursorTest, ASlowWatcherGetsTheNewestStepAndACount) {
  const StreamId stream = AddRun("run", schema_, 1);
  auto cursor = Watch();
  Drain(cursor.get());
  AddSteps(stream, 1, 50);
  store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 50, 59));
  AddSteps(stream, 60, 501);
  const auto messages = Drain(cursor.get());
  EXPECT_THAT(Steps(messages), ElementsAre(500));
  std::uint64_t conflated = 0;
  int gaps = 0;
  for (const v1::WatchResponse& message : messages) {
    conflated += message.conflated_steps();
    gaps += message.has_gap() ? 1 : 0;
  }
  EXPECT_EQ(conflated, 49u + 440u);
  EXPECT_EQ(gaps, 1);
  AddSteps(stream, 501, 503);
  EXPECT_THAT(Steps(Drain(cursor.get())), ElementsAre(501, 502));
}

TEST_F(WatchCursorTest, StepsDeliveredAndConflatedSumToThoseStored) {
  const StreamId stream = AddRun("run", schema_, 1);
  auto cursor = Watch();
  std::uint64_t total = 0;
  const auto count = [&total](const std::vector<v1::WatchResponse>& messages) {
    for (const auto& message : messages) {
      total += message.conflated_steps() + (message.has_snapshot() ? 1 : 0);
    }
  };
  count(Drain(cursor.get()));
  std::int64_t step = 1;
  for (const int burst : {3, 64, 65, 1, 200, 130, 2, 66}) {
    AddSteps(stream, step, step + burst);
    step += burst;
    WatchMessage one;  // A reader that takes one now and then.
    ASSERT_TRUE(*cursor->Next(&one));
    count({Parsed(one)});
  }
  count(Drain(cursor.get()));
  EXPECT_EQ(total, static_cast<std::uint64_t>(step));
}

TEST_F(WatchCursorTest, ChangesOfStateAreTold) {
  const StreamId stream = AddRun("run", schema_, 1);
  auto cursor = Watch();
  Drain(cursor.get());
  clock_.Advance(std::chrono::seconds(100));
  auto messages = Drain(cursor.get());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].run().state(), v1::RUN_STATE_LOST);
  connected_.insert(stream);
  EXPECT_EQ(Drain(cursor.get())[0].run().state(), v1::RUN_STATE_RUNNING);
  AddSteps(stream, 1, 2);
  store_.AddEnd(stream, {EndReason::kFinished, kStart, 2, 2, 0, 0});
  messages = Drain(cursor.get());
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].snapshot().step(), 1);  // The step comes first.
  EXPECT_EQ(messages[1].run().state(), v1::RUN_STATE_FINISHED);
}

TEST_F(WatchCursorTest, RanksAndReplacedRowsAreFiltered) {
  const StreamId rank0 = AddRun("run", schema_, 10);
  const StreamId rank1 = Open("run", "one", 1);
  store_.AddSchema(rank1, schema_);
  v1::WatchRequest request = Ask();
  request.add_ranks(1);
  auto cursor = Watch(request);
  Drain(cursor.get());
  AddSteps(rank0, 10, 12);
  AddSteps(rank1, 0, 2);
  auto messages = Drain(cursor.get());
  EXPECT_THAT(Steps(messages), ElementsAre(0, 1));
  EXPECT_EQ(messages[0].snapshot().rank(), 1u);
  // A newer attempt from step 5 on: leftovers of the old one beyond it are not
  // on the line any more.
  const StreamId second = Open("run", "two", 1, kStart + kSecond);
  store_.AddSchema(second, schema_);
  AddSteps(second, 5, 6);
  AddSteps(rank1, 2, 8);
  EXPECT_THAT(Steps(Drain(cursor.get())), ElementsAre(5, 2, 3, 4));
}

TEST_F(WatchCursorTest, ASkippedStepShowsItsScalarsOrIsAGap) {
  const StreamId stream = AddRun("run", schema_, 1);
  auto with_scalars = Watch();
  v1::WatchRequest request = Ask();
  request.add_statistics("scalar.other");
  auto without = Watch(request);
  Drain(with_scalars.get());
  Drain(without.get());
  store_.AddStep(stream, 0, MakeSkipped(1, GapCause::kBudget, 3));
  auto messages = Drain(with_scalars.get());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].snapshot().scalars(0).value(), 3);
  EXPECT_EQ(messages[0].snapshot().rows_size(), 0);
  messages = Drain(without.get());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].gap().gap().cause(), v1::GAP_CAUSE_BUDGET);
}

TEST_F(WatchCursorTest, ADeletedRunEndsTheWatchEvenIfTheNameComesBack) {
  AddRun("run", schema_, 1);
  auto cursor = Watch();
  Drain(cursor.get());
  GRADTAP_ASSERT_OK(store_.DeleteRun("run"));
  WatchMessage message;
  EXPECT_THAT(cursor->Next(&message),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
  Open("run", "one", 0, kStart + kSecond);
  EXPECT_THAT(cursor->Next(&message),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
}

TEST_F(WatchCursorTest, WhoAsksForTheSameSharesTheMessage) {
  const StreamId stream = AddRun("run", schema_, 1);
  v1::WatchRequest other = Ask();
  other.add_statistics("grad.mean");
  std::vector<std::unique_ptr<WatchCursor>> cursors;
  cursors.push_back(Watch());
  cursors.push_back(Watch());
  cursors.push_back(Watch(other));
  for (const auto& cursor : cursors) Drain(cursor.get());
  AddSteps(stream, 1, 3);
  const auto next = [&](std::size_t which) {
    WatchMessage message;
    EXPECT_TRUE(*cursors[which]->Next(&message));
    return message.event;
  };
  const auto first = next(0);
  EXPECT_EQ(next(1), first);
  EXPECT_NE(next(2), first);
  // Also for one that comes later, when the first has been sent.
  const EncodedEvent* second = next(0).get();
  EXPECT_EQ(next(1).get(), second);
  // Another run of that name has the same ordinals, and other steps.
  GRADTAP_ASSERT_OK(store_.DeleteRun("run"));
  AddRun("run", schema_, 3);
  auto fresh = Watch();
  const auto messages = Drain(fresh.get());
  EXPECT_EQ(messages[1].snapshot().time_unix_ns(), kStart + 2 * kSecond);
}

TEST_F(WatchCursorTest, BadRequestsAreRefusedAtTheDoor) {
  AddRun("run", schema_, 1);
  const auto open = [this](const v1::WatchRequest& request) {
    return WatchCursor::Open(&environment_, &overheads_, &questions_, request)
        .status();
  };
  v1::WatchRequest request = Ask();
  request.set_run("rum");
  EXPECT_THAT(open(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'rum'")));
  request = Ask();
  request.set_match("(");
  EXPECT_THAT(open(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("(")));
  request = Ask();
  request.set_match("nothing");
  EXPECT_THAT(open(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'nothing'")));
  request = Ask();
  request.set_after_ordinal(2);
  EXPECT_THAT(open(request),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("2")));
}

// Every byte of a name costs as much as the pattern is long.
constexpr char kDear[] = "[ab]*a[ab]{500}c";

Schema DearSchema() {
  std::mt19937 random(1);
  std::vector<Parameter> parameters = {MakeParameter("w")};
  for (int i = 0; i < 1'000; ++i) {
    std::string name;
    while (name.size() < 500) name += random() % 2 == 0 ? 'a' : 'b';
    parameters.push_back(MakeParameter(name));
  }
  return MakeSchema(1, std::move(parameters));
}

TEST_F(WatchCursorTest, APatternThatTakesTooLongIsRefusedAtTheDoor) {
  AddRun("run", DearSchema(), 1);
  v1::WatchRequest request = Ask();
  request.set_match(kDear);
  EXPECT_THAT(
      WatchCursor::Open(&environment_, &overheads_, &questions_, request)
          .status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(kDear)));
}

TEST_F(WatchCursorTest, OneThatDoesLaterEndsItsWatchAndSpoilsNoOther) {
  AddRun("run", DearSchema(), 1);
  v1::WatchRequest request = Ask();
  request.set_match(std::string("^w$|") + kDear);
  // The first name is enough to let it in.
  const auto cursor = Watch(request);
  ASSERT_NE(cursor, nullptr);
  WatchMessage message;
  absl::StatusOr<bool> more = true;
  for (int i = 0; i < 10 && more.ok(); ++i) more = cursor->Next(&message);
  EXPECT_THAT(more.status(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("instructions")));
  // Who asks for the same gets no half of it.
  const auto again = Watch(request);
  ASSERT_NE(again, nullptr);
  GRADTAP_EXPECT_OK(again->Next(&message));
  EXPECT_THAT(again->Next(&message).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  request.set_match("^w$");
  const auto messages = Drain(Watch(request).get());
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1].snapshot().rows_size(), 1);
}

}  // namespace
}  // namespace gradtap::server::testing
