// Exit codes and messages.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "client/cli_run.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::vector<std::vector<std::string>>& EveryCommand() {
  static const std::vector<std::vector<std::string>> commands = {
      {"runs"},
      {"params", "mnist"},
      {"series", "mnist", "--stat", "grad.l2"},
      {"snapshot", "mnist"},
      {"top", "mnist"},
      {"compare", "mnist", "mnist"},
      {"watch", "mnist"},
      {"gaps", "mnist"},
      {"status"},
      {"export", "mnist"},
      {"delete", "mnist", "--yes"}};
  return commands;
}

// One line on standard error, none on standard output.
void ExpectOneLine(const CliResult& result) {
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("gradtap: "));
  EXPECT_THAT(result.err, EndsWith("\n"));
  EXPECT_EQ(Lines(result.err).size(), 1u) << result.err;
}

TEST(CliErrorsTest, NoCollectorIsThreeAndNamesTheAddressAndWhatToDo) {
  for (const auto& command : EveryCommand()) {
    auto args = command;
    args.push_back("--collector=127.0.0.1:1");
    const CliResult result = RunCli(args);
    EXPECT_EQ(result.code, 3) << command[0];
    ExpectOneLine(result);
    EXPECT_THAT(result.err, HasSubstr("127.0.0.1:1: connection refused"));
    EXPECT_THAT(result.err, HasSubstr("start gradtapd"));
  }
}

TEST(CliErrorsTest, WithoutASocketThereIsNoCollectorEither) {
  const gradtap::testing::TempDir dir;
  const CliResult result = RunCli({"runs", "-c", "unix:" + dir.path() + "/no"});
  EXPECT_EQ(result.code, 3);
  ExpectOneLine(result);
  EXPECT_THAT(result.err, HasSubstr("/no: No such file or directory; start"));
}

TEST(CliErrorsTest, WhereSomethingListensTheDoctorTellsWhy) {
  FakeCollector collector;
  collector.Start();
  CliResult result = RunCli(collector, {"runs", "--tls"});
  EXPECT_EQ(result.code, 3);
  ExpectOneLine(result);
  EXPECT_THAT(result.err,
              EndsWith("TLS handshake failed; `gradtap doctor` tells why\n"));
  collector.service.failure =
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "Trying to connect http1.x");
  result = RunCli(collector, {"runs"});
  EXPECT_EQ(result.code, 3);
  ExpectOneLine(result);
  EXPECT_THAT(result.err,
              EndsWith("connect http1.x; `gradtap doctor` tells why\n"));
}

TEST(CliErrorsTest, TheCollectorsStatusDecidesTheExitCode) {
  FakeCollector collector;
  collector.service.runs["mnist"] = MakeMnist();
  collector.Start();
  using Code = grpc::StatusCode;
  for (const auto& [status, code] : {std::pair{Code::NOT_FOUND, 1},
                                     {Code::RESOURCE_EXHAUSTED, 1},
                                     {Code::PERMISSION_DENIED, 1},
                                     {Code::UNAUTHENTICATED, 1},
                                     {Code::FAILED_PRECONDITION, 1},
                                     {Code::INTERNAL, 1},
                                     {Code::UNIMPLEMENTED, 1},
                                     {Code::INVALID_ARGUMENT, 2},
                                     {Code::UNAVAILABLE, 3},
                                     {Code::DEADLINE_EXCEEDED, 3}}) {
    collector.service.failure =
        grpc::Status(status, "the reason\nin two lines");
    for (const auto& command : EveryCommand()) {
      const CliResult result = RunCli(collector, command);
      EXPECT_EQ(result.code, code) << command[0] << " " << status;
      ExpectOneLine(result);
    }
  }
}

TEST(CliErrorsTest, AnEmptyReasonStillSaysSomething) {
  FakeCollector collector;
  collector.service.failure = grpc::Status(grpc::StatusCode::INTERNAL, "");
  collector.Start();
  EXPECT_EQ(RunCli(collector, {"status"}).err,
            "gradtap: the collector says only INTERNAL\n");
}

TEST(CliErrorsTest, TheNearestNamePassesThrough) {
  FakeCollector collector;
  collector.service.runs["mnist"] = MakeMnist();
  collector.Start();
  for (std::vector<std::string> command : EveryCommand()) {
    if (command.size() == 1) continue;
    command[1] = "mnits";
    const CliResult result = RunCli(collector, command);
    EXPECT_EQ(result.code, 1) << command[0];
    EXPECT_EQ(result.err, "gradtap: no run 'mnits'; did you mean 'mnist'?\n");
  }
}

TEST(CliErrorsTest, HostileReasonsAreEscaped) {
  FakeCollector collector;
  collector.service.failure =
      grpc::Status(grpc::StatusCode::NOT_FOUND, "\x1b[31mno\x07");
  collector.Start();
  const CliResult result = RunCli(collector, {"runs"});
  EXPECT_THAT(result.err, Not(HasSubstr("\x1b")));
  EXPECT_THAT(result.err, Not(HasSubstr("\x07")));
}

TEST(CliErrorsTest, WhatTheCommandLineGetsWrongIsTwoAndNamed) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "no command"},
      {{"sries"}, "did you mean series?"},
      {{"xyzzy"}, "no command 'xyzzy'"},
      {{"runs", "--bogus"}, "--bogus"},
      {{"runs", "extra"}, "extra"},
      {{"params"}, "RUN is required"},
      {{"params", "../etc/passwd"}, "'../etc/passwd'"},
      {{"params", "r", "--kind", "weights"}, "'weights'"},
      {{"params", "r", "--rank", "x"}, "x"},
      {{"params", "r", "--match", "\xff"}, "UTF-8"},
      {{"series", "r"}, "--stat"},
      {{"series", "r", "--stat", ","}, "--stat"},
      {{"series", "r", "--stat", "x", "--steps", "a:b"}, "'a:b'"},
      {{"series", "r", "--stat", "x", "--steps", "7"}, "'7'"},
      {{"series", "r", "--stat", "x", "--since", "soon"}, "'soon'"},
      {{"series", "r", "--stat", "x", "--until", "-1y"}, "'-1y'"},
      {{"series", "r", "--stat", "x", "--points", "-1"}, "-1"},
      {{"series", "r", "--stat", "x", "--rank", "a"}, "'a'"},
      {{"series", "r", "--stat", "x", "--attempt", "0"}, "'0'"},
      {{"snapshot", "r", "--step", "first"}, "first"},
      {{"snapshot", "r", "--rank", "0,1"}, "one rank"},
      {{"top", "r", "--by", "colour"}, "'colour'"},
      {{"top", "r", "--by", "growth"}, "--since-step"},
      {{"top", "r", "--limit", "0"}, "--limit 0"},
      {{"top", "r", "--rank", "0,1"}, "one rank"},
      {{"compare", "r"}, "OTHER is required"},
      {{"compare", "r", "../x"}, "'../x'"},
      {{"compare", "r", "s", "--sort", "colour"}, "'colour'"},
      {{"compare", "r", "s", "--noise", "0"}, "--noise 0"},
      {{"compare", "r", "s", "--noise", "nan"}, "--noise nan"},
      {{"compare", "r", "s", "--in-a-row", "0"}, "--in-a-row 0"},
      {{"compare", "r", "s", "--limit", "0"}, "--limit 0"},
      {{"compare", "r", "s", "--steps", "7"}, "'7'"},
      {{"compare", "r", "s", "--other-attempt", "0"}, "'0'"},
      {{"compare", "r", "s", "--rank", "0,1"}, "one rank"},
      {{"watch", "r", "--rank", "merged"}, "'merged'"},
      {{"gaps", "r", "--rank", "merged"}, "'merged'"},
      {{"export", "r", "--format", "xml"}, "'xml'"},
      {{"runs", "--state", "done"}, "'done'"},
      {{"runs", "--tag", "x"}, "'x'"},
      {{"runs", "--sort", "colour"}, "'colour'"},
      {{"runs", "--output", "xml"}, "'xml'"},
      {{"runs", "--timeout", "-3"}, "-3"},
      {{"runs", "--timeout", "soon"}, "soon"},
      {{"runs", "--collector", "nonsense:port"}, "'nonsense:port'"},
      {{"runs", "--collector", "http://x"}, "'http://x'"},
      {{"runs", "--token-file", "/nowhere"}, "'/nowhere'"},
      {{"runs", "--tls", "--tls-ca", "/nowhere"}, "'/nowhere'"},
  };
  for (const auto& [args, named] : cases) {
    CliSurroundings around;
    around.env["GRADTAP_COLLECTOR"] = "127.0.0.1:1";
    const CliResult result = RunCli(args, around);
    EXPECT_EQ(result.code, 2) << ::testing::PrintToString(args) << result.err;
    ExpectOneLine(result);
    EXPECT_THAT(result.err, HasSubstr(named));
  }
}

TEST(CliErrorsTest, HostileArgumentsAreEscaped) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"\x1b[31m"},
                                             {"runs", "\x1b[31m"},
                                             {"runs", "--\x1b[31m"},
                                             {"runs", "-o", "\x1b[31m"},
                                             {"runs", "--sort", "\x1b[31m"},
                                             {"params", "\x1b[31m"}}) {
    const CliResult result = RunCli(args);
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, Not(HasSubstr("\x1b")));
  }
}

TEST(CliErrorsTest, ABadPatternIsTwoInTheCollectorsWords) {
  FakeCollector collector;
  collector.service.runs["mnist"] = MakeMnist();
  collector.Start();
  const CliResult result =
      RunCli(collector, {"params", "mnist", "--match", "a(b"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("bad pattern 'a(b'"));
}

TEST(CliErrorsTest, SortingBySomethingElseIsTwo) {
  FakeCollector collector;
  collector.service.runs["mnist"] = MakeMnist();
  collector.Start();
  const CliResult result =
      RunCli(collector, {"snapshot", "mnist", "--sort", "grad.l3"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("one of name, grad.l2, weight.std"));
}

TEST(CliErrorsTest, ATokenIsNotSentToAnotherMachineInTheClear) {
  gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/token";
  std::ofstream(path) << "secret\n";
  const std::vector<std::string> elsewhere = {"-c", "192.0.2.1:7317", "runs"};
  std::vector<std::string> with_file = elsewhere;
  with_file.insert(with_file.end(), {"--token-file", path});
  CliSurroundings around;
  around.env["GRADTAP_TOKEN"] = "secret";
  for (const CliResult& result :
       {RunCli(with_file), RunCli(elsewhere, around)}) {
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, HasSubstr("TLS"));
    EXPECT_THAT(result.err, Not(HasSubstr("secret")));
  }
}

TEST(CliErrorsTest, ATokenIsNoOptionThatPsWouldShow) {
  const std::vector<std::vector<std::string>> lines = {
      {"runs", "--token", "secret"},
      {"runs", "--token=secret"},
      {"--token", "secret", "runs"},
      {"--token=secret", "runs"},
      {"--token", "secret"}};
  for (const auto& line : lines) {
    const CliResult result = RunCli(line);
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, HasSubstr("--token-file"));
    EXPECT_THAT(result.err, Not(HasSubstr("secret")));
  }
}

TEST(CliErrorsTest, ATokenIsNotRepeatedWhateverItIsGivenFor) {
  const std::string secret(43, 'x');
  const std::string token = "gradtap_3f9a0c1d_" + secret;
  FakeCollector collector;
  collector.Start();
  const std::vector<std::vector<std::string>> lines = {
      {"runs", "--tokens", token},
      {"runs", "-token", token},
      {"runs", "--Token", token},
      {"runs", "--token:" + token},
      {"runs", "--api-token=" + token},
      {token},
      {"params", token},
      {"runs", "--token-file", token},
      {"runs", "--output", token}};
  for (const auto& line : lines) {
    const CliResult result = RunCli(collector, line);
    EXPECT_NE(result.code, 0);
    EXPECT_THAT(result.err, HasSubstr("gradtap_3f9a0c1d_..."));
    EXPECT_THAT(result.err + result.out, Not(HasSubstr(secret)));
  }
}

TEST(CliErrorsTest, ATokenIsSentToThisMachine) {
  FakeCollector collector;
  collector.Start();
  CliSurroundings around;
  around.env["GRADTAP_TOKEN"] = "secret";
  EXPECT_EQ(RunCli(collector, {"runs"}, around).code, 0);
  EXPECT_EQ(collector.service.calls, 1);
}

}  // namespace
}  // namespace gradtap::client::testing
