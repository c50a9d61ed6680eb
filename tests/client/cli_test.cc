// The commands that read runs, in every output, against canned answers; and
// what all commands have in common.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli_fixture.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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
