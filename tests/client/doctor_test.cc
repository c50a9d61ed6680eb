// The doctor's reading of the environment, and its checks of this host.

#include "client/cli/doctor.h"

#include <fstream>

#include "client/doctor_testing.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using DoctorEnvironmentTest = DoctorTest;
using DoctorHostTest = DoctorTest;

TEST_F(DoctorEnvironmentTest, FindsNothingToComplainAboutWhereAllIsWell) {
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_TRUE(DoctorResult(findings_).ok());
  for (const char* check :
       {"environment", "proxy", "collector", "token", "version", "clock",
        "shared memory", "spool", "leftovers", "agent"}) {
    EXPECT_THAT(Everything(), HasSubstr(std::string("  ") + check + "  "));
  }
}

TEST_F(DoctorEnvironmentTest, AMisspeltVariableIsAProblemWithTheNameMeant) {
  world_.env["GRADTAP_COLECTOR"] = "gpu7";
  EXPECT_THAT(
      Complaints(),
      ElementsAre(AllOf(StartsWith("problem environment: 'GRADTAP_COLECTOR'"),
                        HasSubstr("did you mean GRADTAP_COLLECTOR?"))));
}

TEST_F(DoctorEnvironmentTest, AVariableLikeNoneOfOursIsANote) {
  world_.env["GRADTAP_ZZZZZZZZZZ"] = "1";
  EXPECT_THAT(
      Complaints(),
      ElementsAre(StartsWith("note environment: 'GRADTAP_ZZZZZZZZZZ'")));
}

TEST_F(DoctorEnvironmentTest, AThousandUnknownVariablesAreNotAThousandLines) {
  for (int i = 0; i < 1000; ++i) {
    world_.env["GRADTAP_ZZZZZZZZ" + std::to_string(i)] = "1";
  }
  const auto complaints = Complaints();
  EXPECT_EQ(complaints.size(), 11u);
  EXPECT_THAT(complaints, Contains(HasSubstr("990 more unknown")));
}

TEST_F(DoctorEnvironmentTest, AValueThatTheAgentIgnoresIsAProblem) {
  world_.env["GRADTAP_INTERVAL"] = "often";
  EXPECT_THAT(
      Complaints(),
      ElementsAre(AllOf(HasSubstr("GRADTAP_INTERVAL='often' is ignored"),
                        StartsWith("problem environment"))));
}

TEST_F(DoctorEnvironmentTest,
       DisabledIsAProblemAndTheRestIsLookedAtAllTheSame) {
  world_.env["GRADTAP_DISABLED"] = "yes";
  world_.env["GRADTAP_INTERVAL"] = "often";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("GRADTAP_DISABLED is on"),
                                        HasSubstr("GRADTAP_INTERVAL")));
}

TEST_F(DoctorEnvironmentTest, WhatIsNeitherOnNorOffDoesNotSwitchOff) {
  world_.env["GRADTAP_DISABLED"] = "perhaps";
  EXPECT_THAT(Complaints(),
              ElementsAre(HasSubstr("GRADTAP_DISABLED='perhaps' is ignored")));
}

TEST_F(DoctorEnvironmentTest, OfflineIsANoteAndNobodyIsDialled) {
  world_.env["GRADTAP_MODE"] = "offline";
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(StartsWith("note environment: GRADTAP_MODE"),
                                HasSubstr("gradtap drain"))));
  EXPECT_THAT(world_.dialled, IsEmpty());
  EXPECT_THAT(world_.asked, IsEmpty());
}

TEST_F(DoctorEnvironmentTest, OfflineWithoutASpoolRecordsNothing) {
  world_.env["GRADTAP_MODE"] = "offline";
  world_.env["GRADTAP_SPOOL"] = "off";
  EXPECT_THAT(Complaints(), Contains(HasSubstr("agents record nothing: ")));
}

TEST_F(DoctorEnvironmentTest, ATokenIsNeverShown) {
  world_.env["GRADTAP_TOKEN"] = "s3cret";
  world_.env["GRADTAP_TOKEN_FILE"] = "/no/such/file";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("both set")));
  EXPECT_THAT(Everything(), AllOf(HasSubstr("GRADTAP_TOKEN (hidden)"),
                                  Not(HasSubstr("s3cret"))));
  ASSERT_EQ(world_.asked.size(), 1u);
  EXPECT_EQ(world_.asked[0].token, "s3cret");
}

TEST_F(DoctorEnvironmentTest, ATokenThatIsNoneIsAProblemAndNotShown) {
  world_.env["GRADTAP_TOKEN"] = "s3cret with blanks";
  EXPECT_THAT(
      Complaints(),
      Contains(StartsWith("problem environment: agents record nothing")));
  EXPECT_THAT(Everything(), Not(HasSubstr("s3cret")));
}

TEST_F(DoctorEnvironmentTest, ATokenInTheClearToAnotherHostIsAProblem) {
  world_.env["GRADTAP_TOKEN"] = "s3cret";
  world_.env["GRADTAP_COLLECTOR"] = "gpu7";
  EXPECT_THAT(Complaints(), Contains(HasSubstr("without TLS")));
  ASSERT_EQ(world_.asked.size(), 1u);
  EXPECT_EQ(world_.asked[0].token, "") << "it was sent";
}

TEST_F(DoctorEnvironmentTest, AFileOfTheTokenThatIsMissingIsAProblem) {
  world_.env["GRADTAP_TOKEN_FILE"] = "/no/such/file";
  EXPECT_THAT(Complaints(), Contains(HasSubstr("/no/such/file")));
}

TEST_F(DoctorEnvironmentTest, FilesForTlsWithoutTlsAreAProblem) {
  world_.env["GRADTAP_TLS_CA"] = "/ca.pem";
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(HasSubstr("TLS is off"),
                                              HasSubstr("GRADTAP_TLS=1"))));
}

TEST_F(DoctorEnvironmentTest, AFileForTlsThatIsNoneIsAProblem) {
  Tls();
  world_.env["GRADTAP_TLS_CA"] = "/ca.pem";
  world_.bad_pem["/ca.pem"] = absl::InvalidArgumentError("is not PEM");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("'/ca.pem' is not PEM")));
}

TEST_F(DoctorEnvironmentTest, ACertificateWithoutItsKeyIsAProblem) {
  Tls();
  world_.env["GRADTAP_TLS_CERT"] = "/c.pem";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("one is set without")));
}

TEST_F(DoctorEnvironmentTest, TheCommandLineStandsInForVariables) {
  world_.env["GRADTAP_COLLECTOR"] = "elsewhere";
  world_.env["GRADTAP_TOKEN_FILE"] = "/no/such/file";
  options_.given["GRADTAP_COLLECTOR"] = "127.0.0.1:7400";
  options_.given["GRADTAP_TOKEN"] = "given";
  EXPECT_THAT(Complaints(), IsEmpty());
  ASSERT_EQ(world_.asked.size(), 1u);
  EXPECT_EQ(world_.asked[0].collector, "127.0.0.1:7400");
  EXPECT_EQ(world_.asked[0].token, "given");
}

TEST_F(DoctorEnvironmentTest, HostileValuesAreHarmlessAndShort) {
  world_.env["GRADTAP_RUN"] = std::string(100'000, 'x') + "\x1b[31m";
  world_.env["GRADTAP_\x1b[2J"] = "1";
  world_.env["GRADTAP_SPOOL"] = "/a\nb\x1b[31m\xff";
  Complaints();
  EXPECT_THAT(Everything(), Not(HasSubstr("\x1b")));
  EXPECT_THAT(Everything(), Not(HasSubstr("\xff")));
  EXPECT_LT(Everything().size(), 10'000u);
}

TEST_F(DoctorEnvironmentTest, AProxyThatIsNotUsedIsSaidWithoutItsPassword) {
  world_.env["https_proxy"] = "http://ann:pass@proxy:3128";
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), AllOf(HasSubstr("https_proxy='...@proxy:3128' is "
                                            "not used"),
                                  Not(HasSubstr("pass@"))));
}

TEST_F(DoctorEnvironmentTest, AProxyThatIsUsedIsAskedInsteadOfTheCollector) {
  world_.env["http_proxy"] = "http://proxy:3128";
  world_.env["GRADTAP_PROXY"] = "1";
  world_.env["GRADTAP_COLLECTOR"] = "gpu7:7317";
  EXPECT_THAT(Complaints(), Contains(HasSubstr("agents dial through")));
  EXPECT_THAT(world_.dialled, IsEmpty());
  ASSERT_EQ(world_.asked.size(), 1u);
  EXPECT_TRUE(world_.asked[0].use_proxy);
}

TEST_F(DoctorEnvironmentTest, ACollectorOnThisMachineIsAskedWithoutAProxy) {
  world_.env["http_proxy"] = "http://proxy:3128";
  world_.env["GRADTAP_PROXY"] = "1";
  world_.env["GRADTAP_COLLECTOR"] = "localhost:7317";
  EXPECT_THAT(Complaints(), Contains(HasSubstr("is on this machine")));
  EXPECT_THAT(Everything(), Not(HasSubstr("is asked through the proxy")));
  EXPECT_THAT(world_.dialled, Not(IsEmpty()));
}

TEST_F(DoctorEnvironmentTest, AProxyThatIsAskedForAndNotSetIsANote) {
  world_.env["GRADTAP_PROXY"] = "1";
  EXPECT_THAT(Complaints(), ElementsAre(StartsWith("note proxy: ")));
  EXPECT_THAT(world_.dialled, Not(IsEmpty()));
}

TEST_F(DoctorHostTest, WhereTheRingsFolderIsToBeMadeItsParentCounts) {
  world_.folders.erase("/dev/shm/ann");
  EXPECT_THAT(Complaints(), IsEmpty());
  world_.folders["/dev/shm"].writable = false;
  EXPECT_THAT(Complaints(),
              ElementsAre(AllOf(StartsWith("note shared memory: '/dev/shm'"),
                                HasSubstr("cannot be written"))));
  world_.folders.erase("/dev/shm");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("does not exist")));
}

TEST_F(DoctorHostTest, AFolderOfRingsThatOthersReachIsAProblem) {
  world_.folders["/dev/shm/ann"].mode = 0755;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("problem shared"),
                                              HasSubstr("mode 0755"),
                                              HasSubstr("chmod 0700"))));
  world_.folders["/dev/shm/ann"].ours = false;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("is of another user")));
  world_.folders["/dev/shm/ann"].kind = FolderFacts::Kind::kLink;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("is no folder")));
}

TEST_F(DoctorHostTest, TooLittleSharedMemoryIsANote) {
  world_.folders["/dev/shm/ann"].free_bytes = std::uint64_t{64} << 20;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note shared memory"),
                                              HasSubstr("--shm-size"))));
  world_.env["GRADTAP_RING_BYTES"] = "16777216";
  EXPECT_THAT(Complaints(), IsEmpty());
}

TEST_F(DoctorHostTest, RingsOnADiskOrNowhereAreANote) {
  world_.folders["/dev/shm/ann"].file_system = kExt4Type;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("not in memory")));
  world_.env["GRADTAP_RING_FOLDER"] = "off";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("GRADTAP_RING_FOLDER=off")));
  world_.env["GRADTAP_RING_FOLDER"] = "here";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("no absolute path")));
}

TEST_F(DoctorHostTest, ASpoolThatIsNotThereYetIsJudgedByWhereItWillBe) {
  world_.folders.erase("/home/ann/.local/state/gradtap/spool");
  EXPECT_THAT(Complaints(), IsEmpty());
  EXPECT_THAT(Everything(), HasSubstr("will be made, and '/home/ann' can be"));
  world_.folders["/home/ann"].writable = false;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("problem spool: "),
                                              HasSubstr("cannot be written"))));
}

TEST_F(DoctorHostTest, LinksAboveTheFoldersAreFine) {
  world_.folders.erase("/home/ann/.local/state/gradtap/spool");
  world_.folders["/home/ann"].kind = FolderFacts::Kind::kLink;
  world_.folders.erase("/dev/shm/ann");
  world_.folders["/dev/shm"].kind = FolderFacts::Kind::kLink;
  EXPECT_THAT(Complaints(), IsEmpty());
}

TEST_F(DoctorHostTest, ASpoolThatNoAgentWouldUseIsAProblem) {
  FolderFacts& spool = world_.folders["/home/ann/.local/state/gradtap/spool"];
  spool.file_system = 0x6969;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("problem spool: "),
                                              HasSubstr("NFS"))));
  spool.kind = FolderFacts::Kind::kLink;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("symbolic link")));
  spool.kind = FolderFacts::Kind::kOther;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("is no folder")));
  spool.kind = FolderFacts::Kind::kUnknown;
  spool.error = "Permission denied";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("Permission denied")));
  world_.env.erase("HOME");
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("nor HOME is set")));
}

TEST_F(DoctorHostTest, ASpoolWithLessRoomOrOpenToOthersIsANote) {
  FolderFacts& spool = world_.folders["/home/ann/.local/state/gradtap/spool"];
  spool.mode = 0777;
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("mode 0777")));
  spool.free_bytes = 1 << 20;
  EXPECT_THAT(Complaints(), ElementsAre(AllOf(StartsWith("note spool: "),
                                              HasSubstr("1 MiB free"))));
  world_.env["GRADTAP_SPOOL"] = "off";
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("GRADTAP_SPOOL=off")));
}

TEST_F(DoctorHostTest, WhatIsLeftIsCountedByCollectorWithTheCommand) {
  using State = LeftoverFacts::State;
  world_.left = {{State::kWaiting, "/a", "gpu7:7317", 10, ""},
                 {State::kWaiting, "/b", "gpu7:7317", 5, ""},
                 {State::kWaiting, "/c", "", std::nullopt, ""},
                 {State::kRunning, "/d", "", std::nullopt, ""}};
  EXPECT_THAT(
      Complaints(),
      ElementsAre(AllOf(HasSubstr("1 ended process has left steps, more than"),
                        HasSubstr("`gradtap drain`")),
                  AllOf(HasSubstr("2 ended processes have left 15 steps for "
                                  "'gpu7:7317'"),
                        HasSubstr("`gradtap --collector gpu7:7317 drain`"))));
}

TEST_F(DoctorHostTest, WhatCannotBeReadIsNamed) {
  using State = LeftoverFacts::State;
  world_.left = {{State::kUnreadable, "/a", "", std::nullopt, "is of user 0"},
                 {State::kSetAside, "/b", "", std::nullopt, ""}};
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("'/a': is of user 0"),
                                        HasSubstr("'/b': delivered, but")));
}

TEST_F(DoctorHostTest, AnAgentOfAnotherReleaseBesideUsIsANote) {
  world_.libraries = {std::string("/usr/lib/libgradtap_agent.so.") +
                      GRADTAP_VERSION};
  EXPECT_THAT(Complaints(), IsEmpty());
  world_.libraries = {"/usr/lib/libgradtap_agent.so.99.1.0"};
  EXPECT_THAT(Complaints(), ElementsAre(HasSubstr("is version '99.1.0'")));
}

TEST_F(DoctorEnvironmentTest, ATokenFromAFileGoesAlong) {
  const gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/token";
  std::ofstream(path) << "from-a-file\n";
  world_.env["GRADTAP_TOKEN_FILE"] = path;
  EXPECT_THAT(Complaints(), IsEmpty());
  ASSERT_EQ(world_.asked.size(), 1u);
  EXPECT_EQ(world_.asked[0].token, "from-a-file");
}

}  // namespace
}  // namespace gradtap::client::testing
