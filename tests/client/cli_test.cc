// Every command in every output, against canned answers.

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = MakeMnist();
    collector_.service.runs["values"] = MakeValues("values", {1, 2});
    v1::GetStatusResponse& status = collector_.service.status;
    status.set_version("0.1.0");
    status.set_start_time_unix_ns(kFakeStart);
    status.set_data_dir("/var/lib/gradtap");
    status.set_format_version(1);
    status.set_runs(2);
    status.set_stored_steps(1234567);
    status.set_batches(100);
    status.set_syncs(10);
    status.set_disk_bytes(1 << 20);
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args,
                const CliSurroundings& around = {}) {
    return RunCli(collector_, std::move(args), around);
  }

  // The answer read back from its JSON.
  template <typename Message>
  Message FromJson(const CliResult& result) {
    Message message;
    const auto status =
        google::protobuf::util::JsonStringToMessage(result.out, &message);
    EXPECT_TRUE(status.ok()) << status.ToString() << result.out << result.err;
    return message;
  }

  FakeCollector collector_;
};

TEST_F(CliTest, RunsAsATable) {
  const CliResult result = Run({"runs"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out,
            "RUN     STATE     RANKS  ATTEMPTS  STEPS  LAST STEP  LOST  LAST "
            "SEEN  OVERHEAD      SIZE  TAGS\n"
            "mnist   finished      2         1      4          4     1  1 min "
            "ago     1.8 %  12.1 KiB  data=fashion\n"
            "values  running       1         1      2          1     0  1 min "
            "ago     1.8 %  12.1 KiB\n");
}

TEST_F(CliTest, RunsAsCsv) {
  const CliResult result = Run({"runs", "--output", "csv"});
  EXPECT_EQ(result.code, 0);
  const auto rows = ReadCsv(result.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0][0], "run");
  EXPECT_EQ(rows[0].back(), "tags");
  EXPECT_THAT(rows[1],
              ElementsAre("mnist", "finished", "2023-11-14T22:13:30.000000000Z",
                          "2", "2", "1", "0", "4", "4", "0", "1",
                          "2023-11-14T22:13:20.000000000Z",
                          "2023-11-14T22:13:30.000000000Z", "0.0184", "12345",
                          "0", "0", "false", "4", "data=fashion"));
}

TEST_F(CliTest, RunsAsJsonIsTheAnswer) {
  for (const char* flag : {"--json", "--output=json"}) {
    const auto answer = FromJson<v1::ListRunsResponse>(Run({"runs", flag}));
    ASSERT_EQ(answer.runs_size(), 2);
    EXPECT_EQ(answer.runs(0).SerializeAsString(),
              MakeMnist().info.run().SerializeAsString());
  }
}

TEST_F(CliTest, RunsThatCannotBeReadAreNamedBesideTheOthers) {
  collector_.service.notes = {"run 'a\x1b[2J' cannot be read: damaged"};
  const CliResult result = Run({"runs", "--output", "csv"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("mnist"));
  EXPECT_THAT(result.err, HasSubstr("cannot be read: damaged"));
  EXPECT_THAT(result.err, Not(HasSubstr("\x1b")));
}

TEST_F(CliTest, RunsFilterAndSort) {
  EXPECT_THAT(Run({"runs", "--state", "running"}).out, Not(HasSubstr("mnist")));
  EXPECT_THAT(Run({"runs", "--tag", "data=fashion"}).out,
              Not(HasSubstr("values")));
  EXPECT_EQ(Run({"runs", "--tag", "data=x"}).out, "No runs.\n");
  const auto sorted = FromJson<v1::ListRunsResponse>(
      Run({"runs", "--sort", "state", "--json"}));
  EXPECT_EQ(sorted.runs(0).run(), "values");
}

TEST_F(CliTest, ParamsAsATableWithTotals) {
  const CliResult result = Run({"params", "mnist"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(
      result.out,
      "NAME                    KIND       SHAPE   DTYPE    DEVICE  GRAD  "
      "ELEMENTS  BYTES  MODULE       TIED WITH\n"
      "encoder.0.weight        parameter  [4, 8]  float32  cpu     yes        "
      " 32  128 B  Linear       decoder.weight\n"
      "encoder.0.bias          parameter  [4]     float32  cpu     no         "
      "  4   16 B  Linear\n"
      "encoder.1.running_mean  buffer     [4]     float32  cpu     no         "
      "  4   16 B  BatchNorm1d\n"
      "scale                   parameter  []      float32  cpu     yes        "
      "  1    4 B  Net\n"
      "\n"
      "3 parameters: 37 elements (33 trainable), 148 B; 1 buffer: 4 elements, "
      "16 B.\n");
}

TEST_F(CliTest, ParamsAsATree) {
  CliSurroundings utf8;
  utf8.utf8 = true;
  const std::string expected = R"(
MODULE                 TYPE                SHAPE   PARAMETERS  BUFFERS  BYTES
(model)                Net                                 37        4  164 B
├─ encoder                                                 36        4  160 B
│  ├─ 0                Linear                              36        -  144 B
│  │  ├─ weight        float32             [4, 8]          32        -  128 B
│  │  └─ bias          float32, frozen     [4]              4        -   16 B
│  └─ 1                BatchNorm1d                          -        4   16 B
│     └─ running_mean  float32, buffer     [4]              -        4   16 B
├─ decoder                                                  -        -    0 B
│  └─ weight           = encoder.0.weight
└─ scale               float32             []               1        -    4 B

3 parameters: 37 elements (33 trainable), 148 B; 1 buffer: 4 elements, 16 B.
)";
  EXPECT_EQ("\n" + Run({"params", "mnist", "--tree"}, utf8).out, expected);
}

TEST_F(CliTest, ParamsTreeUsesAsciiWithoutUtf8) {
  EXPECT_THAT(Run({"params", "mnist", "--tree"}).out, HasSubstr("|  `- 1 "));
}

TEST_F(CliTest, ParamsAsCsvAndJson) {
  const auto rows = ReadCsv(Run({"params", "mnist", "-o", "csv"}).out);
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_THAT(
      rows[1],
      ElementsAre("mnist", "1", "0", "encoder.0.weight", "parameter", "[4, 8]",
                  "float32", "cpu", "strided", "true", "32", "128", "encoder.0",
                  "Linear", "decoder.weight", "replicated", ""));
  const auto answer =
      FromJson<v1::ListParametersResponse>(Run({"params", "mnist", "--json"}));
  EXPECT_EQ(answer.SerializeAsString(),
            MakeMnist().parameters.SerializeAsString());
  const auto tree =
      ReadCsv(Run({"params", "mnist", "--tree", "-o", "csv"}).out);
  EXPECT_THAT(tree[1], ElementsAre("", "module", "Net", "37", "4", "164"));
}

TEST_F(CliTest, ParamsFilter) {
  EXPECT_EQ(Lines(Run({"params", "mnist", "--kind", "buffer"}).out).size(), 4u);
  EXPECT_EQ(ReadCsv(Run({"params", "mnist", "--kind", "parameter,buffer", "-o",
                         "csv"})
                        .out)
                .size(),
            5u);
  EXPECT_EQ(
      ReadCsv(Run({"params", "mnist", "--match", "weight$", "-o", "csv"}).out)
          .size(),
      2u);
  EXPECT_EQ(Run({"params", "mnist", "--match", "nothing"}).out,
            "No parameter is like that.\n");
}

TEST_F(CliTest, SeriesAsATable) {
  const CliResult result = Run(
      {"series", "mnist", "--stat", "grad.l2", "--rank", "0", "--steps", "2:"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(
      result.out,
      "RUN    ATTEMPT  RANK  STEP  TIME                      PARAM             "
      "STAT        VALUE\n"
      "mnist        1     0     2  2023-11-14 22:13:22.123Z  encoder.0.weight  "
      "grad.l2       NaN\n"
      "mnist        1     0     4  2023-11-14 22:13:24.123Z  encoder.0.weight  "
      "grad.l2  Infinity\n"
      "mnist        1     0     2  2023-11-14 22:13:22.123Z  encoder.0.bias    "
      "grad.l2         -\n"
      "mnist        1     0     4  2023-11-14 22:13:24.123Z  encoder.0.bias    "
      "grad.l2         -\n"
      "\n"
      "missing: step 3 of rank 0, attempt 1: lost, ring_full (1 step): 64 MiB, "
      "full\n");
}

TEST_F(CliTest, SeriesAsCsvHasOneValueARowAndSaysWhatWasLost) {
  const CliResult result =
      Run({"series", "mnist", "--stat", "grad.l2,scalar.*", "--rank", "0",
           "--output", "csv", "--steps", "2:3"});
  EXPECT_EQ(result.out,
            "run,attempt,rank,step,time,param,stat,value\n"
            "mnist,1,0,2,2023-11-14T22:13:22.123456789Z,encoder.0.weight,"
            "grad.l2,NaN\n"
            "mnist,1,0,2,2023-11-14T22:13:22.123456789Z,encoder.0.bias,grad.l2,"
            "\n"
            "mnist,1,0,2,2023-11-14T22:13:22.123456789Z,,scalar.loss,1.75\n");
  EXPECT_EQ(result.err,
            "gradtap: lost in this range: 1 step (ring_full 1); see gradtap "
            "gaps\n");
}

TEST_F(CliTest, SeriesAsJsonIsTheAnswer) {
  const auto answer = FromJson<v1::GetSeriesResponse>(
      Run({"series", "mnist", "--stat", "grad.l2", "--json"}));
  ASSERT_EQ(answer.series_size(), 3);
  EXPECT_THAT(answer.series(2).absent(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(answer.gaps_size(), 1);
}

TEST_F(CliTest, SeriesTakesSeveralRuns) {
  const auto rows = ReadCsv(
      Run({"series", "mnist", "values", "--stat", "weight.mean", "-o", "csv"})
          .out);
  EXPECT_EQ(rows.size(), 7u);
}

TEST_F(CliTest, SeriesOptionsReachTheCollector) {
  EXPECT_EQ(Run({"series", "mnist", "-s", "grad.l2", "--steps",
                 "-2:", "--since", "-10m", "--until", "2023-11-14T22:14:30Z",
                 "--points", "9", "--rank", "0-1", "--attempt", "2"})
                .code,
            0);
  const auto sent = collector_.service.Last<v1::GetSeriesRequest>();
  EXPECT_EQ(sent.steps().begin(), -2);
  EXPECT_EQ(sent.since_unix_ns(),
            kFakeStart + 70'000'000'000 - 600'000'000'000);
  EXPECT_EQ(sent.until_unix_ns(), kFakeStart + 70'000'000'000);
  EXPECT_EQ(sent.max_points(), 9u);
  EXPECT_THAT(sent.ranks(), ElementsAre(0, 1));
  EXPECT_FALSE(sent.merged());
  EXPECT_EQ(sent.attempt(), 2u);
}

TEST_F(CliTest, AnEmptySeriesIsNoError) {
  const CliResult table =
      Run({"series", "values", "--stat", "grad.mean", "--steps", "50:"});
  EXPECT_EQ(table.code, 0);
  EXPECT_THAT(table.out, StartsWith("No points"));
  const CliResult csv = Run({"series", "values", "--stat", "grad.mean",
                             "--steps", "50:", "-o", "csv"});
  EXPECT_EQ(csv.out, "run,attempt,rank,step,time,param,stat,value\n");
}

TEST_F(CliTest, SnapshotAsATable) {
  const CliResult result = Run({"snapshot", "mnist"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out,
            "mnist  attempt 1  rank 0  step 4  2023-11-14 22:13:24.123Z\n"
            "loss 1.5\n"
            "\n"
            "PARAM                   grad.l2  weight.std  grad.nan\n"
            "encoder.0.weight         0.1235           4         0\n"
            "encoder.0.bias                -         0.5         -\n"
            "scale                       NaN           0    12,345\n"
            "encoder.1.running_mean        7           8         0\n");
}

TEST_F(CliTest, SnapshotAsCsvAndJson) {
  const CliResult csv = Run({"snapshot", "mnist", "-o", "csv"});
  EXPECT_EQ(
      csv.out,
      "run,attempt,rank,step,time,param,kind,grad.l2,weight.std,grad.nan\n"
      "mnist,1,0,4,2023-11-14T22:13:24.123456789Z,encoder.0.weight,"
      "parameter,0.12345678,4,0\n"
      "mnist,1,0,4,2023-11-14T22:13:24.123456789Z,encoder.0.bias,"
      "parameter,,0.5,\n"
      "mnist,1,0,4,2023-11-14T22:13:24.123456789Z,scale,parameter,NaN,0,"
      "12345\n"
      "mnist,1,0,4,2023-11-14T22:13:24.123456789Z,encoder.1.running_mean,"
      "buffer,7,8,0\n");
  const auto answer =
      FromJson<v1::GetSnapshotResponse>(Run({"snapshot", "mnist", "--json"}));
  EXPECT_EQ(answer.rows_size(), 4);
  EXPECT_THAT(answer.rows(1).absent(), ElementsAre(0, 2));
}

TEST_F(CliTest, SnapshotSortsAndAsks) {
  const auto answer = FromJson<v1::GetSnapshotResponse>(Run(
      {"snapshot", "mnist", "--sort", "grad.l2", "--step", "-1", "--stat",
       "grad.l2,weight.std", "--match", ".", "--rank", "merged", "--json"}));
  EXPECT_EQ(answer.rows(0).parameter(), "scale");
  EXPECT_EQ(answer.rows(1).parameter(), "encoder.1.running_mean");
  EXPECT_EQ(answer.rows(3).parameter(), "encoder.0.bias");
  const auto sent = collector_.service.Last<v1::GetSnapshotRequest>();
  EXPECT_EQ(sent.step(), -1);
  EXPECT_TRUE(sent.merged());
  EXPECT_THAT(sent.statistics(), ElementsAre("grad.l2", "weight.std"));
}

TEST_F(CliTest, GapsInAllOutputs) {
  EXPECT_EQ(Run({"gaps", "mnist"}).out,
            "ATTEMPT  RANK  BRANCH  FIRST  LAST  STEPS  STATE  CAUSE      "
            "DETAIL\n"
            "      1     0       0      3     3      1  lost   ring_full  64 "
            "MiB, full\n"
            "\n"
            "1 step lost, 0 skipped.\n");
  EXPECT_EQ(Run({"gaps", "mnist", "-o", "csv"}).out,
            "run,attempt,rank,branch,first_step,last_step,steps,state,cause,"
            "detail\n"
            "mnist,1,0,0,3,3,1,lost,ring_full,\"64 MiB, full\"\n");
  EXPECT_EQ(FromJson<v1::ListGapsResponse>(Run({"gaps", "mnist", "--json"}))
                .lost_steps(),
            1u);
}

TEST_F(CliTest, NoGapsSaysHowFarThatIsKnown) {
  auto& run = collector_.service.runs["values"];
  EXPECT_EQ(Run({"gaps", "values"}).out,
            "No gaps up to step 1; the run goes on.\n");
  run.info.mutable_run()->set_state(v1::RUN_STATE_LOST);
  EXPECT_EQ(Run({"gaps", "values"}).out,
            "No gaps up to step 1; the run is lost: what came after is not "
            "known.\n");
  run.info.mutable_run()->set_state(v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Run({"gaps", "values"}).out,
            "No gaps: every step up to 1, the last, is there.\n");
  EXPECT_EQ(Run({"gaps", "values", "--steps", "100:"}).out,
            "No gaps there; the run's last step is 1.\n");
}

TEST_F(CliTest, RanksAndTheirMergeCanBeAskedForAtOnce) {
  const int before = collector_.service.calls;
  EXPECT_EQ(
      Run({"series", "values", "--stat", "grad.mean", "--rank", "0,merged"})
          .code,
      0);
  EXPECT_EQ(collector_.service.calls - before, 2);
  EXPECT_TRUE(collector_.service.Last<v1::GetSeriesRequest>().merged());
}

TEST_F(CliTest, TlsFilesWithoutTlsAreAUsageError) {
  const CliResult result = Run({"--tls-ca", "/none", "runs"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("need --tls"));
}

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

TEST_F(CliTest, ColourIsForTerminalsThatWantIt) {
  CliSurroundings terminal;
  terminal.out_is_terminal = true;
  terminal.env["TERM"] = "xterm";
  EXPECT_THAT(Run({"runs"}, terminal).out, HasSubstr("\x1b["));
  terminal.env["NO_COLOR"] = "1";
  EXPECT_THAT(Run({"runs"}, terminal).out, Not(HasSubstr("\x1b")));
  terminal.env.erase("NO_COLOR");
  terminal.env["TERM"] = "dumb";
  EXPECT_THAT(Run({"runs"}, terminal).out, Not(HasSubstr("\x1b")));
}

TEST_F(CliTest, GlobalOptionsStandOnEitherSideOfTheCommand) {
  const CliResult before =
      RunCli({"--collector", collector_.address(), "--json", "runs"});
  const CliResult after =
      RunCli({"runs", "--json", "--collector", collector_.address()});
  EXPECT_EQ(before.code, 0);
  EXPECT_EQ(before.out, after.out);
}

TEST_F(CliTest, TheEnvironmentNamesTheCollectorAndTheOptionWins) {
  CliSurroundings around;
  around.env["GRADTAP_COLLECTOR"] = collector_.address();
  EXPECT_EQ(RunCli({"runs"}, around).code, 0);
  around.env["GRADTAP_COLLECTOR"] = "127.0.0.1:1";
  EXPECT_EQ(RunCli({"runs"}, around).code, 3);
  EXPECT_EQ(Run({"runs"}, around).code, 0);
}

TEST_F(CliTest, ARunMayBeNamedLikeACommand) {
  collector_.service.runs["runs"] = MakeValues("runs", {1});
  EXPECT_EQ(Run({"params", "runs"}).code, 0);
  EXPECT_EQ(Run({"series", "runs", "values", "--stat", "grad.mean"}).code, 0);
}

TEST_F(CliTest, EveryCommandHasHelpWithAnExample) {
  for (const char* command :
       {"runs", "params", "series", "snapshot", "top", "compare", "watch",
        "gaps", "status", "doctor", "export", "backup", "compact", "delete",
        "drain", "import"}) {
    const CliResult result = RunCli({command, "--help"});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out,
                HasSubstr(std::string("Usage: gradtap ") + command));
    EXPECT_THAT(result.out, HasSubstr(std::string("\n  gradtap ") + command));
    for (const std::string& line : Lines(result.out)) {
      EXPECT_LE(line.size(), 80u) << line;
    }
  }
  const CliResult help = RunCli({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Exit codes:"));
  EXPECT_THAT(RunCli({"--version"}).out, StartsWith("gradtap "));
}

}  // namespace
}  // namespace gradtap::client::testing
