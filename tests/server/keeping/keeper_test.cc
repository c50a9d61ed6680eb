// The keeper against a store in memory, a disk that is two numbers, and a clock
// that a test moves.

#include "server/keeping/keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// Sizes by run, and values that can be taken.
class SizedStore : public gradtap::testing::MemoryStore {
 public:
  absl::StatusOr<std::uint64_t> RunDiskBytes(std::string_view run) override {
    return sizes[std::string(run)];
  }
  absl::Status DeleteRun(std::string_view run) override {
    if (!delete_fails.ok()) return delete_fails;
    if (on_delete) on_delete();
    const absl::Status s = MemoryStore::DeleteRun(run);
    if (s.ok()) disk.free_bytes += sizes[std::string(run)];
    return s;
  }
  absl::StatusOr<std::optional<ShrunkPart>> ShrinkOldest(
      const std::function<bool(const RunEntry&)>& may_shrink) override {
    for (auto it = parts.begin(); it != parts.end(); ++it) {
      if (!may_shrink(*FindRun(it->run))) continue;
      const ShrunkPart part = *it;
      parts.erase(it);
      disk.free_bytes += part.bytes;
      return std::optional(part);
    }
    return std::optional<ShrunkPart>();
  }
  void RefuseRecords(std::string why) override { refused = std::move(why); }
  absl::Status AddNote(std::string_view note, std::size_t most) override {
    if (!note_fails.ok()) return note_fails;
    notes.emplace_back(note);
    if (notes.size() > most) notes.erase(notes.begin());
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::string>> ReadNotes() override {
    return notes;
  }
  std::uint64_t disk_bytes() const override { return used; }

  std::map<std::string, std::uint64_t> sizes;
  std::deque<ShrunkPart> parts;
  DiskSpace disk{100 * kGiB, 50 * kGiB};
  std::uint64_t used = 0;
  std::function<void()> on_delete;
  absl::Status delete_fails, note_fails;
  std::vector<std::string> notes;
  std::string refused;
};

class KeeperTest : public ::testing::Test {
 protected:
  void Start() {
    KeeperSurroundings around;
    around.store = &store_;
    around.clock = &clock_;
    around.disk = [this] { return store_.disk; };
    around.say = [this](const std::string& line) { said_.push_back(line); };
    keeper_.emplace(around, limits_);
  }

  // Seen now; older ones are added first.
  void AddRun(const std::string& name, std::uint64_t gib,
              bool finished = true) {
    StreamHello hello;
    hello.run = name;
    hello.launch = "launch";
    hello.process_nonce = std::string(16, 'n');
    const auto stream = store_.OpenStream(hello, clock_.UnixNanos());
    ASSERT_TRUE(stream.ok());
    if (finished) {
      store_.AddEnd(stream->id, {EndReason::kFinished, 1, 0, 0, 0, 0});
    }
    store_.sizes[name] = gib * kGiB;
  }

  void LookAfter(std::chrono::nanoseconds time) {
    clock_.Advance(time);
    keeper_->Look();
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& run : store_.Runs()) names.push_back(run->run);
    return names;
  }

  v1::KeepingStatus Status() const {
    v1::KeepingStatus status;
    keeper_->Describe(&status);
    return status;
  }

  gradtap::testing::ManualClock clock_;
  SizedStore store_;
  KeepingLimits limits_;
  std::vector<std::string> said_;
  std::optional<Keeper> keeper_;
};

TEST_F(KeeperTest, ARunGoesWithItsAgeAndThatIsSaidAndShown) {
  limits_.keep_for = hours(48);
  Start();
  AddRun("old", 3);
  LookAfter(hours(40));
  AddRun("new", 1);
  LookAfter(hours(7));
  EXPECT_THAT(Names(), SizeIs(2));
  EXPECT_THAT(said_, IsEmpty());
  LookAfter(hours(2));
  EXPECT_THAT(Names(), ElementsAre("new"));
  EXPECT_THAT(said_,
              ElementsAre("removed run old (3.0 GiB): last seen 2 d ago, "
                          "and runs are kept for 2 d"));
  const v1::KeepingStatus status = Status();
  EXPECT_EQ(status.removed_runs(), 1U);
  EXPECT_EQ(status.removed_bytes(), 3 * kGiB);
  ASSERT_EQ(status.removals_size(), 1);
  EXPECT_EQ(status.removals(0).run(), "old");
  EXPECT_EQ(status.removals(0).what(), v1::Removal::WHAT_RUN);
  EXPECT_EQ(status.removals(0).why(), v1::Removal::WHY_AGE);
  EXPECT_EQ(status.removals(0).time_unix_ns(), clock_.UnixNanos());
}

TEST_F(KeeperTest, WhatWasRemovedIsShownAfterARestartTheNewestFirst) {
  limits_.keep_for = hours(1);
  Start();
  for (int i = 0; i < 101; ++i) {
    AddRun("run" + std::to_string(i), 1);
    LookAfter(hours(2));
  }
  const v1::KeepingStatus before = Status();
  EXPECT_EQ(before.removed_runs(), 101U);
  ASSERT_EQ(before.removals_size(), 100);
  store_.notes.insert(store_.notes.begin(), "\xff no removal");
  Start();
  const v1::KeepingStatus after = Status();
  EXPECT_EQ(after.removed_runs(), 0U);  // Since the start.
  ASSERT_EQ(after.removals_size(), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(after.removals(i).run(), "run" + std::to_string(100 - i));
    EXPECT_EQ(after.removals(i).SerializeAsString(),
              before.removals(i).SerializeAsString());
  }
}

TEST_F(KeeperTest, ARemovalThatCannotBeNotedIsShownAndSaid) {
  limits_.keep_for = hours(1);
  AddRun("run", 1);
  Start();
  store_.note_fails = absl::ResourceExhaustedError("no room for a note");
  LookAfter(hours(2));
  EXPECT_EQ(Status().removals_size(), 1);
  EXPECT_THAT(said_.back(), HasSubstr("no room for a note"));
}

TEST_F(KeeperTest, AClockThatJumpsAheadMakesNothingOld) {
  limits_.keep_for = hours(48);
  AddRun("run", 3);
  Start();
  clock_.JumpWall(hours(24 * 365 * 50));
  LookAfter(minutes(2));
  EXPECT_THAT(Names(), ElementsAre("run"));
}

TEST_F(KeeperTest, PinsAndSizesAreShownAndAPinHolds) {
  limits_.keep_bytes = 4 * kGiB;
  AddRun("pinned", 3);
  clock_.Advance(seconds(1));
  AddRun("a", 2);
  ASSERT_TRUE(store_.PinRun("pinned", true).ok());
  Start();
  keeper_->Look();
  EXPECT_THAT(Names(), ElementsAre("pinned"));
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("run a (2.0 GiB)"),
                                       HasSubstr("more than 4.0 GiB"))));
  LookAfter(minutes(1));
  EXPECT_EQ(Status().runs_bytes(), 3 * kGiB);
  EXPECT_EQ(Status().pinned_bytes(), 3 * kGiB);
  EXPECT_EQ(Status().pinned_runs(), 1U);
  EXPECT_EQ(Status().keep_bytes(), 4 * kGiB);
}

TEST_F(KeeperTest, AtTheReserveRunsGoFirstAndValuesNextAndIngestGoesOn) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("a", 1);
  AddRun("live", 5, false);
  store_.parts = {{"live", 256, 256, kGiB / 2},
                  {"live", 512, 256, kGiB / 2},
                  {"live", 768, 256, kGiB / 2}};
  Start();
  store_.disk.free_bytes = 7 * kGiB;  // Two are to become free.
  keeper_->Look();
  EXPECT_THAT(Names(), ElementsAre("live"));
  EXPECT_THAT(store_.parts, SizeIs(1));
  EXPECT_THAT(store_.refused, IsEmpty());
  EXPECT_THAT(
      said_,
      ElementsAre(AllOf(HasSubstr("removed run a (1.0 GiB)"),
                        HasSubstr("7.0 GiB of the disk are free"),
                        HasSubstr("reserve is 8.0 GiB")),
                  AllOf(HasSubstr("shrunk run live to its roll-ups at 512"),
                        HasSubstr("(1.0 GiB)"), HasSubstr("reserve"))));
  const v1::KeepingStatus status = Status();
  EXPECT_EQ(status.shrunk_steps(), 512U);
  EXPECT_EQ(status.removals(0).what(), v1::Removal::WHAT_TILES);
  EXPECT_EQ(status.removals(0).why(), v1::Removal::WHY_RESERVE);
  EXPECT_FALSE(status.ingest_stopped());
}

// Whatever the store is about: it must not keep the keeper from its next look.
TEST_F(KeeperTest, ARoundThatFreesNothingIsTheLast) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("live", 5, false);
  store_.parts.assign(50, {"live", 256, 0, 0});
  Start();
  store_.disk.free_bytes = 7 * kGiB;
  keeper_->Look();
  EXPECT_THAT(store_.parts, SizeIs(49));
  EXPECT_THAT(store_.refused, HasSubstr("reserve"));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("stores nothing")));
}

TEST_F(KeeperTest, PinnedRunsAreNotShrunk) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("live", 5, false);
  ASSERT_TRUE(store_.PinRun("live", true).ok());
  store_.parts = {{"live", 256, 256, kGiB}};
  Start();
  store_.disk.free_bytes = kGiB;
  keeper_->Look();
  EXPECT_THAT(store_.parts, SizeIs(1));
  EXPECT_THAT(store_.refused, HasSubstr("reserve"));
}

TEST_F(KeeperTest, IngestStopsLastAndGoesOnByItself) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("live", 5, false);
  store_.parts = {{"live", 256, 256, kGiB / 4}};
  Start();
  store_.disk.free_bytes = 7 * kGiB;
  keeper_->Look();
  EXPECT_THAT(store_.refused,
              AllOf(HasSubstr("stores nothing"), HasSubstr("7.2 GiB"),
                    HasSubstr("--disk-reserve")));
  EXPECT_TRUE(Status().ingest_stopped());
  EXPECT_EQ(Status().ingest_stopped_since_unix_ns(), clock_.UnixNanos());
  EXPECT_EQ(Status().days_until_full(), 0);
  ASSERT_THAT(said_, SizeIs(2));

  LookAfter(seconds(5));  // It is not said again.
  ASSERT_THAT(said_, SizeIs(2));
  store_.disk.free_bytes = 8 * kGiB;  // At the very edge it would flap.
  LookAfter(seconds(5));
  EXPECT_THAT(store_.refused, HasSubstr("reserve"));
  store_.disk.free_bytes = 9 * kGiB;
  LookAfter(seconds(5));
  EXPECT_THAT(store_.refused, IsEmpty());
  EXPECT_FALSE(Status().ingest_stopped());
  EXPECT_THAT(said_.back(), HasSubstr("stored again"));
}

TEST_F(KeeperTest, RunsThatAreSentAwayForDaysAreNotTakenForLost) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("live", 5, false);
  Start();
  store_.disk.free_bytes = 7 * kGiB;
  keeper_->Look();
  ASSERT_THAT(store_.refused, HasSubstr("reserve"));
  for (int hour = 0; hour < 60; ++hour) LookAfter(hours(1));
  EXPECT_THAT(Names(), ElementsAre("live"));
  // Nor at once when agents may come back.
  store_.disk.free_bytes = 9 * kGiB;
  LookAfter(seconds(5));
  store_.disk.free_bytes = 7 * kGiB;
  LookAfter(hours(1));
  EXPECT_THAT(Names(), ElementsAre("live"));
}

TEST_F(KeeperTest, WhileThereIsSomethingToRemoveIngestGoesOn) {
  limits_.disk_reserve_bytes = 8 * kGiB;
  AddRun("a", 4);
  Start();
  store_.disk.free_bytes = 7 * kGiB;
  // The disk gives back later than the store says.
  store_.sizes["a"] = 4 * kGiB;
  store_.disk.free_bytes = 2 * kGiB;
  keeper_->Look();
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(store_.disk.free_bytes, 6 * kGiB);
  EXPECT_THAT(store_.refused, HasSubstr("reserve"));  // 7 were needed.
}

TEST_F(KeeperTest, ARunThatCannotBeRemovedIsSaidOnce) {
  limits_.keep_for = hours(1);
  AddRun("run", 1);
  Start();
  store_.delete_fails = absl::ResourceExhaustedError("no room to delete");
  LookAfter(hours(2));
  LookAfter(minutes(2));
  EXPECT_THAT(said_, ElementsAre("cannot remove run run: no room to delete"));
  store_.delete_fails = absl::OkStatus();
  LookAfter(minutes(2));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(KeeperTest, OnceItIsStoppedItRemovesNoMore) {
  limits_.keep_for = hours(1);
  AddRun("a", 1);
  AddRun("b", 1);
  Start();
  store_.on_delete = [this] { keeper_->Stop(); };
  LookAfter(hours(2));
  EXPECT_THAT(Names(), ElementsAre("b"));
  LookAfter(minutes(2));
  EXPECT_THAT(Names(), ElementsAre("b"));
}

TEST_F(KeeperTest, TheTimeUntilTheDiskIsFullIsFromItsGrowth) {
  limits_.disk_reserve_bytes = 10 * kGiB;
  Start();
  keeper_->Look();
  EXPECT_TRUE(std::isnan(Status().days_until_full()));
  EXPECT_TRUE(std::isnan(Status().growth_bytes_per_day()));
  for (int minute = 1; minute <= 60; ++minute) {
    store_.used += kGiB / 60;
    LookAfter(minutes(1));
  }
  EXPECT_NEAR(Status().growth_bytes_per_day(), 24.0 * kGiB, 1e4);
  EXPECT_NEAR(Status().days_until_full(), 40.0 / 24, 1e-6);
}

TEST_F(KeeperTest, ADiskThatCannotBeAskedIsSaidAndNothingIsRemoved) {
  limits_.keep_for = hours(1);
  AddRun("run", 1);
  KeeperSurroundings around;
  around.store = &store_;
  around.clock = &clock_;
  around.disk = [] {
    return absl::StatusOr<DiskSpace>(absl::UnavailableError("no such disk"));
  };
  around.say = [this](const std::string& line) { said_.push_back(line); };
  keeper_.emplace(around, limits_);
  LookAfter(hours(2));
  LookAfter(hours(2));
  EXPECT_THAT(said_, ElementsAre("no such disk"));
  EXPECT_THAT(Names(), ElementsAre("run"));
}

}  // namespace
}  // namespace gradtap::server
