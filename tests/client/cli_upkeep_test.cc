// The commands for who operates a collector, in every output: status, backup,
// compact, delete.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli_fixture.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(CliTest, StatusInAllOutputs) {
  const CliResult table = Run({"status"});
  EXPECT_THAT(table.out, HasSubstr(collector_.address()));
  EXPECT_THAT(table.out, HasSubstr("up                  1 min 10 s\n"));
  EXPECT_THAT(table.out, HasSubstr("1,234,567 steps"));
  const auto rows = ReadCsv(Run({"status", "-o", "csv"}).out);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1][2], "/var/lib/gradtap");
  EXPECT_EQ(FromJson<v1::GetStatusResponse>(Run({"status", "--json"}))
                .SerializeAsString(),
            collector_.service.status.SerializeAsString());
}

TEST_F(CliTest, StatusSaysFirstWhatIsWrong) {
  v1::CollectorFigures& figures = *collector_.service.status.mutable_figures();
  figures.mutable_storing()->set_what("disk \x1b[31m full");
  figures.mutable_storing()->set_since_unix_ns(kFakeStart + 10'000'000'000);
  figures.set_writes_stopped(true);
  const std::vector<std::string> lines = Lines(Run({"status"}).out);
  ASSERT_GT(lines.size(), 3u);
  EXPECT_THAT(lines[1], StartsWith("STORING FAILS"));
  EXPECT_THAT(lines[1], HasSubstr("for 1 min: disk \\x1b[31m full"));
  EXPECT_THAT(lines[2], StartsWith("WRITES STOPPED"));
}

TEST_F(CliTest, StatusSaysWhatLimitsHaveRefused) {
  v1::CollectorFigures& figures = *collector_.service.status.mutable_figures();
  for (const auto& [name, refused] : {std::pair("sessions", 0),
                                      {"client_requests", 1'234},
                                      {"runs\x1b", 2}}) {
    v1::LimitFigures& limit = *figures.add_limits();
    limit.set_limit(name);
    limit.set_refused(static_cast<std::uint64_t>(refused));
  }
  EXPECT_THAT(
      Run({"status"}).out,
      HasSubstr("refused by limits   client_requests 1,234, runs\\x1b 2\n"));
  const auto rows = ReadCsv(Run({"status", "-o", "csv"}).out);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].back(), "refused_by_limits");
  EXPECT_EQ(rows[1].back(), "1236");
}

TEST_F(CliTest, StatusShowsLatenciesLagAndCalls) {
  v1::CollectorFigures& figures = *collector_.service.status.mutable_figures();
  v1::LatencyFigures& commit = *figures.mutable_commit();
  commit.set_count(900);
  commit.set_recent(120);
  commit.set_p50_ns(1'200'000);
  commit.set_p99_ns(34'000'000);
  commit.set_max_ns(2'500'000'000);
  figures.mutable_sealing()->set_rows_waiting(5000);
  figures.mutable_sealing()->set_rows_due(4900);
  figures.mutable_sealing()->set_branches_due(1);
  figures.mutable_sealing()->set_due_for_ns(90'000'000'000);
  v1::FamilyFigures& family = *figures.add_families();
  family.set_name("tiles");
  family.set_disk_bytes(3 << 20);
  v1::CallFigures& call = *figures.add_calls();
  call.set_method("GetSeries");
  call.set_failed(2);
  *call.mutable_latency() = commit;
  const std::string out = Run({"status"}).out;
  EXPECT_THAT(out, HasSubstr("commit latency      p50 1.2 ms, p99 34 ms, max "
                             "2.5 s (120 in the last minute)\n"));
  EXPECT_THAT(out, HasSubstr("sync latency        none in the last minute\n"));
  EXPECT_THAT(out, HasSubstr("5,000 rows to seal, 4,900 due in 1 branch for "
                             "90 s\n"));
  EXPECT_THAT(out, HasSubstr("tables              tiles 3 MiB\n"));
  EXPECT_THAT(out, HasSubstr("GetSeries    900       2          120  1.2 ms  "
                             "34 ms  2.5 s\n"));
  const auto rows = ReadCsv(Run({"status", "-o", "csv"}).out);
  ASSERT_EQ(rows.size(), 2u);
  ASSERT_EQ(rows[0].size(), rows[1].size());
  const auto column = [&](const std::string& name) {
    for (std::size_t i = 0; i < rows[0].size(); ++i) {
      if (rows[0][i] == name) return rows[1][i];
    }
    return std::string("no such column");
  };
  EXPECT_EQ(column("commit_p99_ns"), "34000000");
  EXPECT_EQ(column("rows_due"), "4900");
  EXPECT_EQ(column("tiles_disk_bytes"), "3145728");
  EXPECT_EQ(column("writes_stopped"), "false");
  EXPECT_EQ(Run({"status", "--calls", "-o", "csv"}).out,
            "call,failed,count,sum_ns,recent,p50_ns,p99_ns,max_ns\n"
            "GetSeries,2,900,0,120,1200000,34000000,2500000000\n");
}

TEST_F(CliTest, BackupInAllOutputs) {
  v1::BackupResponse& made = collector_.upkeep.backup;
  made.set_path("/srv/data.backups/mine");
  made.set_bytes(5 << 20);
  made.set_runs(2);
  made.set_rows(1234);
  made.set_took_ns(1'500'000'000);
  EXPECT_EQ(Run({"backup", "mine"}).out,
            "Backed up 2 runs with 1,234 rows: 5 MiB in 1.5 s, on the "
            "collector's host in\n/srv/data.backups/mine\n");
  EXPECT_EQ(collector_.upkeep.last_backup.name(), "mine");
  EXPECT_EQ(Run({"backup", "-o", "csv"}).out,
            "path,bytes,runs,rows,took_ns\n"
            "/srv/data.backups/mine,5242880,2,1234,1500000000\n");
  EXPECT_EQ(collector_.upkeep.last_backup.name(), "");
  EXPECT_EQ(FromJson<v1::BackupResponse>(Run({"backup", "--json"})).rows(),
            1234u);
}

TEST_F(CliTest, CompactInAllOutputs) {
  v1::CompactResponse& done = collector_.upkeep.compact;
  done.set_bytes_before(3 << 20);
  done.set_bytes_after(1 << 20);
  done.set_took_ns(2'000'000);
  v1::CompactResponse::Family& family = *done.add_families();
  family.set_name("tiles");
  family.set_bytes_before(3 << 20);
  family.set_bytes_after(1 << 20);
  EXPECT_EQ(Run({"compact"}).out,
            "DATA   BEFORE  AFTER\n"
            "tiles   3 MiB  1 MiB\n"
            "all     3 MiB  1 MiB\n"
            "Compacted in 2 ms.\n");
  EXPECT_EQ(Run({"compact", "-o", "csv"}).out,
            "family,bytes_before,bytes_after\ntiles,3145728,1048576\n");
  EXPECT_EQ(
      FromJson<v1::CompactResponse>(Run({"compact", "--json"})).families_size(),
      1);
}

TEST_F(CliTest, WhatUpkeepRefusesIsSaidAndIsOne) {
  collector_.upkeep.failure = {grpc::StatusCode::RESOURCE_EXHAUSTED,
                               "a backup or a compaction is at work"};
  for (const char* command : {"backup", "compact"}) {
    const CliResult result = Run({command});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr("is at work"));
  }
}

TEST_F(CliTest, DeleteInAllOutputs) {
  EXPECT_EQ(Run({"delete", "mnist", "--yes"}).out,
            "Deleted run mnist: 4 steps, 12.1 KiB.\n");
  EXPECT_EQ(Run({"delete", "mnist", "-y", "-o", "csv"}).out,
            "run,deleted_steps,deleted_bytes\nmnist,4,12345\n");
  EXPECT_EQ(FromJson<v1::DeleteRunResponse>(
                Run({"delete", "mnist", "--yes", "--json"}))
                .deleted_bytes(),
            12345u);
}

TEST_F(CliTest, DeleteAsksOnATerminalAndTakesYesAlone) {
  CliSurroundings terminal;
  terminal.in_is_terminal = true;
  for (const char* answer : {"", "n", "no", "yess", "delete"}) {
    terminal.input = answer;
    const CliResult result = Run({"delete", "mnist"}, terminal);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("Delete run mnist: 4 steps, 12.1 KiB"));
    EXPECT_THAT(result.err, HasSubstr("nothing was deleted"));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(collector_.service.Last<v1::DeleteRunRequest>().run(), "");
  terminal.input = "Y";
  EXPECT_EQ(Run({"delete", "mnist"}, terminal).code, 0);
  EXPECT_EQ(collector_.service.Last<v1::DeleteRunRequest>().run(), "mnist");
}

TEST_F(CliTest, DeleteWithoutATerminalWantsYes) {
  const CliResult result = Run({"delete", "mnist"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("--yes"));
  EXPECT_EQ(collector_.service.calls, 0);
}

}  // namespace
}  // namespace gradtap::client::testing
