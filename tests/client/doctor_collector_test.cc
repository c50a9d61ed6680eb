// The doctor's way to the collector, and what it prints.

#include <string>
#include <utility>

#include "client/cli/doctor_rows.h"
#include "client/doctor_testing.h"

namespace gradtap::client::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::int64_t kSecond = 1'000'000'000;

class DoctorCollectorTest : public DoctorTest {
 protected:
  absl::StatusCode Result() const { return DoctorResult(findings_).code(); }
  void AnswersAt(std::int64_t offset_ns) {
    world_.answer.time_unix_ns = world_.answer.asked_unix_ns + offset_ns;
  }
};

TEST_F(DoctorCollectorTest, AHostWithoutAnAddressIsUnreachable) {
  world_.env["GRADTAP_COLLECTOR"] = "gpu7";
  world_.resolution = {absl::UnavailableError("Name not known"), {}, 0};
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(HasSubstr("the host 'gpu7': Name not known"),
                                HasSubstr("/etc/resolv.conf"))));
  EXPECT_EQ(Result(), absl::StatusCode::kUnavailable);
}

TEST_F(DoctorCollectorTest, ASlowNameServerIsANote) {
  world_.resolution.took_ns = 5 * kSecond;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("took 5 s")));
}

TEST_F(DoctorCollectorTest, ARefusedConnectionIsUnreachable) {
  world_.refused["127.0.0.1:7317"] = absl::UnavailableError("refused");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("127.0.0.1:7317: refused")));
  EXPECT_EQ(Result(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(world_.asked, IsEmpty());
}

TEST_F(DoctorCollectorTest, UnreachableBesideAnotherProblemIsAProblem) {
  world_.refused["127.0.0.1:7317"] = absl::UnavailableError("refused");
  world_.env["GRADTAP_INTERVAL"] = "often";
  Complaints();
  EXPECT_EQ(Result(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DoctorCollectorTest, OneAddressOfSeveralIsEnough) {
  world_.resolution.addresses = {"::1", "127.0.0.1"};
  world_.refused["[::1]:7317"] = absl::UnavailableError("refused");
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(world_.dialled, ElementsAre("[::1]:7317", "127.0.0.1:7317"));
}

TEST_F(DoctorCollectorTest, ASocketIsDialledAsItIs) {
  world_.env["GRADTAP_COLLECTOR"] = "unix:/run/gradtap";
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(world_.dialled, ElementsAre("unix:/run/gradtap"));
  world_.refused["unix:/run/gradtap"] = absl::UnavailableError("no file");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("no file")));
  EXPECT_EQ(Result(), absl::StatusCode::kUnavailable);
}

TEST_F(DoctorCollectorTest, WhatIsWrongWithACertificateIsToldApart) {
  Tls();
  EXPECT_THAT(Complaints(), IsEmpty());
  const PeerCertificate good = world_.certificate;
  world_.certificate.expired = true;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("problem tls: "),
                                              HasSubstr("has expired"))));
  world_.certificate = good;
  world_.certificate.not_yet_valid = true;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("not valid yet")));
  world_.certificate = good;
  world_.certificate.for_host = false;
  EXPECT_THAT(
      Complaints(),
      ElementsAre(HasSubstr("is for 'gpu7', '192.0.2.7', not for 'gpu7'")));
  world_.certificate = good;
  world_.certificate.distrust = "self-signed certificate";
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(HasSubstr("self-signed"),
                                              HasSubstr("GRADTAP_TLS_CA"))));
  world_.certificate = good;
  world_.certificate.refused_ours = true;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("certificate of ours")));
  EXPECT_EQ(Result(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DoctorCollectorTest, ACertificateThatEndsSoonIsANote) {
  Tls();
  world_.certificate.not_after_unix_s = kFakeNow / kSecond + 86400;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note tls: "),
                                              HasSubstr("which is soon"))));
}

TEST_F(DoctorCollectorTest, ACertificateOfHostileWordsIsHarmless) {
  Tls();
  world_.certificate.subject = "CN=\x1b[31m" + std::string(100'000, 'x');
  world_.certificate.names.assign(10'000, "\x1b]0;evil\x07");
  world_.certificate.not_after_unix_s = INT64_MAX;
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(),
              AllOf(Not(HasSubstr("\x1b")), HasSubstr("and 9995 more")));
  EXPECT_LT(Everything().size(), 10'000u);
}

TEST_F(DoctorCollectorTest, NoTlsWhereItIsAskedForIsAProblem) {
  Tls();
  world_.certificate.handshake = absl::UnavailableError("no TLS handshake");
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(HasSubstr("no TLS handshake"),
                                              HasSubstr("GRADTAP_TLS"))));
  EXPECT_THAT(world_.asked, IsEmpty());
}

TEST_F(DoctorCollectorTest, TlsWhereItIsNotAskedForIsAProblem) {
  world_.answer.reached = absl::UnavailableError("connection closed");
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(HasSubstr("speaks TLS"),
                                              HasSubstr("GRADTAP_TLS=1"))));
}

TEST_F(DoctorCollectorTest, SomethingThatSpeaksNoGrpcIsAProblem) {
  world_.answer.reached = absl::UnavailableError("connection closed");
  world_.certificate.handshake = absl::UnavailableError("none");
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(HasSubstr("speaks no gRPC"),
                                              HasSubstr("7317"))));
  EXPECT_EQ(Result(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DoctorCollectorTest, AnotherGrpcServiceIsNoCollector) {
  world_.answer.read = absl::UnimplementedError("unknown service");
  world_.answer.write = absl::UnimplementedError("unknown service");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("is no gradtap collector")));
}

TEST_F(DoctorCollectorTest, ACollectorThatDoesNotAnswerIsUnreachable) {
  world_.answer.read = absl::DeadlineExceededError("did not answer");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("--timeout")));
  EXPECT_EQ(Result(), absl::StatusCode::kUnavailable);
}

TEST_F(DoctorCollectorTest, TheCollectorsWordsAboutATokenPassThrough) {
  world_.answer.read = absl::UnauthenticatedError("no token: make one");
  world_.answer.write = world_.answer.read;
  const std::string version = std::exchange(world_.answer.version, "");
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(StartsWith("problem token: no token: make one"),
                                HasSubstr("--role write")),
                          StartsWith("note version: ")));
  world_.env["GRADTAP_TOKEN"] = "reader";
  world_.answer.read = absl::OkStatus();
  world_.answer.version = version;
  world_.answer.write = absl::PermissionDeniedError("role read alone");
  EXPECT_THAT(
      Complaints(),
      ElementsAre(HasSubstr("the token may not write: role read alone")));
}

TEST_F(DoctorCollectorTest, ATokenThatIsNotSentToASocketIsTheProblem) {
  world_.env["GRADTAP_COLLECTOR"] = "unix:/tmp/grpc";
  world_.env["GRADTAP_TOKEN"] = "writer";
  world_.answer.reached =
      absl::FailedPreconditionError("a token is not sent to unix:/tmp/grpc");
  EXPECT_THAT(Complaints(),
              ElementsAre(StartsWith("problem token: a token is not sent")));
}

TEST_F(DoctorCollectorTest, ATokenThatOnlyWritesIsAllThatAnAgentNeeds) {
  world_.env["GRADTAP_TOKEN"] = "writer";
  world_.answer.read = absl::PermissionDeniedError("role write alone");
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(),
              AllOf(HasSubstr("it may write, of the runs that"),
                    HasSubstr("this is gradtap"), HasSubstr("agrees with"),
                    HasSubstr("it tells only who may read")));
  AnswersAt(-61 * kSecond);
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("problem clock: ")));
}

TEST_F(DoctorCollectorTest,
       AnOlderCollectorTellsThatTokenNeitherVersionNorTime) {
  world_.env["GRADTAP_TOKEN"] = "writer";
  world_.answer.read = absl::PermissionDeniedError("role write alone");
  world_.answer.version = "";
  world_.answer.time_unix_ns = 0;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note version: "),
                                              HasSubstr("--token-file"))));
}

TEST_F(DoctorCollectorTest, ARunThatTheTokenIsNotForIsAProblem) {
  world_.env["GRADTAP_TOKEN"] = "writer";
  Complaints();
  world_.env["GRADTAP_RUN"] = "other";
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), Not(HasSubstr("the run 'other'")));  // Not asked.
  world_.answer.run = absl::OkStatus();
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), HasSubstr("it may write and read the run 'other'"));
  world_.answer.run = absl::PermissionDeniedError("limited to 'vis-'");
  EXPECT_THAT(
      Complaints(),
      ElementsAre(AllOf(StartsWith("problem token: limited to 'vis-'"),
                        HasSubstr("another GRADTAP_RUN than 'other'"))));
  world_.answer.run = absl::ResourceExhaustedError("too many open calls");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("takes no records now")));
  EXPECT_THAT(world_.runs, ElementsAre("", "other", "other", "other", "other"));
}

TEST_F(DoctorCollectorTest, ARunWhoseNameIsNoneIsNotAskedFor) {
  world_.env["GRADTAP_RUN"] = "my run";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("GRADTAP_RUN")));
  EXPECT_THAT(world_.runs, ElementsAre(""));
}

TEST_F(DoctorCollectorTest, AStatusThatDoesNotComeIsSaidInItsWords) {
  world_.answer.read = absl::ResourceExhaustedError("too many requests");
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note storing: "),
                                              HasSubstr("too many requests"))));
}

TEST_F(DoctorCollectorTest, ACollectorThatTakesNothingNowIsAProblem) {
  world_.answer.write = absl::ResourceExhaustedError("too many open calls");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("too many open calls")));
}

TEST_F(DoctorCollectorTest, ACollectorThatStoresNothingIsAProblem) {
  v1::GetStatusResponse& status = world_.answer.status;
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), Not(HasSubstr("storing")));  // It does not tell.
  status.mutable_figures()->set_total_rows(1);
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), HasSubstr("the collector stores what comes"));
  status.mutable_keeping()->set_ingest_stopped(true);
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(StartsWith("problem storing: "),
                                HasSubstr("stores nothing: its disk is at"),
                                HasSubstr("make room"))));
  EXPECT_EQ(Result(), absl::StatusCode::kFailedPrecondition);
  status.clear_keeping();
  status.mutable_figures()->mutable_storing()->set_what(
      "\x1b[31mNo space left" + std::string(100'000, 'x'));
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(StartsWith("problem storing: the collector "
                                           "cannot store: \\x1b[31mNo space"),
                                HasSubstr("gradtap status"))));
  EXPECT_LT(Everything().size(), 10'000u);
}

TEST_F(DoctorCollectorTest, AnotherMinorVersionIsANote) {
  world_.answer.version = "99.1.0";
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note version: "),
                                              HasSubstr("'99.1.0'"))));
  world_.answer.version = "";
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("note version: ")));
}

TEST_F(DoctorCollectorTest, ClocksThatAreApartAreANoteThenAProblem) {
  AnswersAt(2 * kSecond);
  EXPECT_THAT(Complaints(), IsEmpty()) << "the answer took 2 ms";
  AnswersAt(3 * kSecond);
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note clock: "),
                                              HasSubstr("ahead of"))));
  AnswersAt(-3 * kSecond);
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("3 s behind")));
  AnswersAt(-61 * kSecond);
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("problem clock: ")));
  world_.answer.time_unix_ns = INT64_MAX;
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("problem clock: ")));
}

TEST_F(DoctorCollectorTest, ASlowAnswerIsNoDifferenceOfClocks) {
  world_.answer.answered_unix_ns = world_.answer.asked_unix_ns + 90 * kSecond;
  AnswersAt(80 * kSecond);
  EXPECT_THAT(Complaints(), IsEmpty());
}

TEST_F(DoctorCollectorTest, ACollectorThatDoesNotTellItsTimeIsANote) {
  world_.answer.time_unix_ns = 0;
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("note clock: ")));
}

TEST(DoctorRowsTest, AllThreeFormatsHaveEveryFinding) {
  const std::vector<Finding> findings = {
      {"proxy", Finding::Level::kOk, "none is set", "", false},
      {"spool", Finding::Level::kProblem, "\"/a\", full", "make room", false}};
  EXPECT_EQ(DoctorText(findings, {}),
            "OK       proxy  none is set\n"
            "problem  spool  \"/a\", full\n"
            "                do: make room\n");
  EXPECT_EQ(DoctorCsv(findings, {}),
            "check,level,what,advice\n"
            "proxy,OK,none is set,\n"
            "spool,problem,\"\"\"/a\"\", full\",make room\n");
  EXPECT_EQ(DoctorJson(findings),
            "{\n \"findings\": [\n"
            "  {\n   \"check\": \"proxy\",\n   \"level\": \"OK\",\n"
            "   \"what\": \"none is set\",\n   \"advice\": \"\"\n  },\n"
            "  {\n   \"check\": \"spool\",\n   \"level\": \"problem\",\n"
            "   \"what\": \"\\\"/a\\\", full\",\n"
            "   \"advice\": \"make room\"\n  }\n ],\n \"problems\": 1\n}\n");
}

}  // namespace
}  // namespace gradtap::client::testing
