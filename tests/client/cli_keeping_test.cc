// gradtap pin and unpin, and what other commands say of what is kept.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CliKeepingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = MakeMnist();
    collector_.service.runs["values"] = MakeValues("values", {1, 2});
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args,
                const CliSurroundings& around = {}) {
    return RunCli(collector_, std::move(args), around);
  }

  FakeCollector collector_;
};

TEST_F(CliKeepingTest, RunsArePinnedAndUnpinned) {
  EXPECT_EQ(Run({"pin", "mnist"}).out,
            "Pinned run mnist: it stays until it is unpinned.\n");
  EXPECT_TRUE(collector_.service.Last<v1::PinRunRequest>().pinned());
  EXPECT_EQ(Run({"pin", "mnist", "values"}).out,
            "Run mnist was pinned already.\n"
            "Pinned run values: it stays until it is unpinned.\n");
  EXPECT_EQ(Run({"unpin", "mnist"}).out, "Unpinned run mnist.\n");
  EXPECT_FALSE(collector_.service.Last<v1::PinRunRequest>().pinned());
  EXPECT_EQ(Run({"unpin", "mnist", "values", "-o", "csv"}).out,
            "run,pinned,changed\nmnist,false,false\nvalues,false,true\n");
  EXPECT_THAT(Run({"pin", "mnist", "--json"}).out,
              HasSubstr("\"pinned\": true"));
}

TEST_F(CliKeepingTest, ARunThatIsNotThereCannotBePinned) {
  const CliResult result = Run({"pin", "mnits"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("mnist"));
  EXPECT_EQ(Run({"pin"}).code, 2);
  EXPECT_EQ(Run({"pin", "a/b"}).code, 2);
}

TEST_F(CliKeepingTest, RunsShowPinsAndBytesOnDisk) {
  EXPECT_THAT(Run({"runs"}).out, Not(HasSubstr("PINNED")));
  v1::RunInfo& info = *collector_.service.runs["mnist"].info.mutable_run();
  info.set_pinned(true);
  info.set_disk_bytes(4096);
  info.set_rolled_up_steps(3);
  const std::string table = Run({"runs"}).out;
  EXPECT_THAT(table, HasSubstr("ON DISK  PINNED"));
  EXPECT_THAT(table, HasSubstr("4 KiB  yes"));
  EXPECT_THAT(Run({"runs", "-o", "csv"}).out,
              HasSubstr(",disk_bytes,rolled_up_steps,pinned,"));
  EXPECT_THAT(Run({"runs", "-o", "csv"}).out, HasSubstr(",4096,3,true,"));
  EXPECT_THAT(Run({"runs", "--sort", "disk", "--json"}).out,
              HasSubstr("\"diskBytes\": \"4096\""));
}

TEST_F(CliKeepingTest, StatusSaysWhatIsKeptAndWhatWasRemoved) {
  EXPECT_THAT(Run({"status"}).out, Not(HasSubstr("growth")));
  v1::KeepingStatus& keeping = *collector_.service.status.mutable_keeping();
  keeping.set_disk_total_bytes(std::uint64_t{100} << 30);
  keeping.set_growth_bytes_per_day(NAN);
  keeping.set_days_until_full(NAN);
  std::string out = Run({"status"}).out;
  EXPECT_THAT(out, HasSubstr("kept                 everything\n"));
  EXPECT_THAT(out, HasSubstr("growth               not known yet\n"));
  EXPECT_THAT(out, HasSubstr("removed since start  0 runs, 0 B\n"));
  EXPECT_THAT(out, Not(HasSubstr("INGEST")));

  keeping.set_keep_for_ns(30 * 86'400'000'000'000);
  keeping.set_keep_bytes(std::uint64_t{50} << 30);
  keeping.set_disk_reserve_bytes(std::uint64_t{2} << 30);
  keeping.set_growth_bytes_per_day(1024 * 1024);
  keeping.set_days_until_full(12.9);
  keeping.set_removed_runs(1);
  keeping.set_removed_bytes(2048);
  keeping.set_shrunk_steps(4096);
  keeping.set_shrunk_bytes(1024);
  keeping.set_ingest_stopped(true);
  keeping.set_ingest_stopped_since_unix_ns(kFakeStart);
  v1::Removal& removal = *keeping.add_removals();
  removal.set_time_unix_ns(kFakeStart);
  removal.set_run("old\x1b[31m");
  removal.set_what(v1::Removal::WHAT_RUN);
  removal.set_why(v1::Removal::WHY_AGE);
  removal.set_bytes(2048);
  removal.set_steps(7);
  out = Run({"status"}).out;
  EXPECT_THAT(out, HasSubstr("finished runs for 30 d, at most 50 GiB, 2 "
                             "GiB of the disk free\n"));
  EXPECT_THAT(out, HasSubstr("1 MiB a day, full in 12 days\n"));
  EXPECT_THAT(out, HasSubstr("1 run, 2 KiB; values of 4,096 steps, 1 "
                             "KiB\n"));
  // What is wrong stands first.
  EXPECT_THAT(Lines(out)[1],
              StartsWith("INGEST STOPPED       1 min ago: the disk is at its "
                         "reserve; make room"));
  EXPECT_THAT(out, HasSubstr("age (--keep-for)"));
  EXPECT_THAT(out, Not(HasSubstr("\x1b")));
  keeping.set_days_until_full(INFINITY);
  keeping.set_growth_bytes_per_day(-5);
  EXPECT_THAT(Run({"status"}).out, HasSubstr("growth               none\n"));
  EXPECT_THAT(Run({"status", "-o", "csv"}).out,
              HasSubstr(",2147483648,-5,Infinity,true,1,2048,4096,1024,0\n"));
}

TEST_F(CliKeepingTest, GapsTellWhatIsKeptInPart) {
  v1::GapInfo& info = collector_.service.runs["mnist"].gaps.emplace_back();
  info.mutable_gap()->set_cause(v1::GAP_CAUSE_ROLLED_UP);
  info.mutable_gap()->set_last_step(4095);
  info.mutable_gap()->set_steps(4096);
  const std::string out = Run({"gaps", "mnist"}).out;
  EXPECT_THAT(out, HasSubstr("kept in part  rolled_up"));
  EXPECT_THAT(out, HasSubstr(", 4,096 kept as roll-ups and scalars.\n"));
  EXPECT_THAT(Run({"gaps", "mnist", "-o", "csv"}).out,
              HasSubstr(",4096,kept in part,rolled_up,"));
}

TEST_F(CliKeepingTest, DeletingAPinnedRunIsRefusedBeforeAnybodyIsAsked) {
  collector_.service.runs["mnist"].info.mutable_run()->set_pinned(true);
  CliSurroundings terminal;
  terminal.in_is_terminal = true;
  terminal.input = "y";
  const CliResult result = Run({"delete", "mnist"}, terminal);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("`gradtap unpin mnist` first"));
  EXPECT_THAT(result.err, Not(HasSubstr("y/N")));
  EXPECT_EQ(collector_.service.Last<v1::DeleteRunRequest>().run(), "");
}

}  // namespace
}  // namespace gradtap::client::testing
