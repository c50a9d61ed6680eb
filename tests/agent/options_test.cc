#include "agent/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "agent/launch.h"
#include "support/forked_child.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class OptionsTest : public ::testing::Test {
 protected:
  Settings Resolve(AgentOptions options = {}) {
    return ResolveSettings(std::move(options), Env(), process_);
  }
  Environment Env() {
    return [this](const char* name) -> const char* {
      const auto it = env_.find(name);
      return it == env_.end() ? nullptr : it->second.c_str();
    };
  }

  std::map<std::string, std::string> env_;
  ProcessFacts process_{"train", "node7", 1'700'000'000};
};

TEST_F(OptionsTest, DefaultsAreCompleteAndWithoutProblems) {
  const Settings s = Resolve();
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.problems, IsEmpty());
  EXPECT_EQ(s.options.collector, "127.0.0.1:7317");
  EXPECT_EQ(s.options.run, "train-20231114T221320Z-node7");
  EXPECT_EQ(s.options.rank, 0);
  EXPECT_EQ(s.options.world_size, 1);
  EXPECT_EQ(s.launch, "");
  EXPECT_FALSE(s.disabled);
}

TEST_F(OptionsTest, EveryVariableOverrulesItsField) {
  env_ = {{"GRADTAP_COLLECTOR", "collector.lan:99"},
          {"GRADTAP_RUN", "night-1"},
          {"GRADTAP_RANK", "3"},
          {"GRADTAP_WORLD_SIZE", "8"},
          {"GRADTAP_LAUNCH", "L1"},
          {"GRADTAP_TAGS", "team=vision,b=2=3"},
          {"GRADTAP_INCLUDE", "weight$"},
          {"GRADTAP_EXCLUDE", "bias|norm"},
          {"GRADTAP_SHARDED", "experts"},
          {"GRADTAP_ROLES", "grad,weight"},
          {"GRADTAP_INTERVAL", "10"},
          {"GRADTAP_HISTOGRAM_INTERVAL", "20"},
          {"GRADTAP_BUDGET", "0.25"},
          {"GRADTAP_AUDIT", "50"},
          {"GRADTAP_FORCE_DEVICE_PATH", "1"},
          {"GRADTAP_RING_BYTES", "2097152"},
          {"GRADTAP_RING_FOLDER", "/rings"},
          {"GRADTAP_SPOOL", "/scratch/spool"},
          {"GRADTAP_SPOOL_BYTES", "4194304"},
          {"GRADTAP_MODE", "offline"},
          {"GRADTAP_SHUTDOWN_MS", "250"},
          {"GRADTAP_SIGTERM", "1"},
          {"GRADTAP_TLS", "1"},
          {"GRADTAP_TLS_CA", "/ca"},
          {"GRADTAP_TLS_CERT", "/cert"},
          {"GRADTAP_TLS_KEY", "/key"},
          {"GRADTAP_TOKEN", "secret"},
          {"GRADTAP_PROXY", "1"},
          {"GRADTAP_LOG", "off"}};
  AgentOptions given;
  given.run = "day";
  given.include = {"a", "b"};
  given.tags = {{"a", "1"}};
  const Settings s = Resolve(given);
  const AgentOptions& o = s.options;
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.problems, IsEmpty());
  EXPECT_EQ(o.collector, "collector.lan:99");
  EXPECT_EQ(o.run, "night-1");
  EXPECT_EQ(o.rank, 3);
  EXPECT_EQ(o.world_size, 8);
  EXPECT_EQ(s.launch, "L1");
  EXPECT_EQ(o.tags, (std::map<std::string, std::string>{
                        {"a", "1"}, {"team", "vision"}, {"b", "2=3"}}));
  EXPECT_THAT(o.include, ElementsAre("weight$"));
  EXPECT_THAT(o.exclude, ElementsAre("bias|norm"));
  EXPECT_THAT(o.sharded, ElementsAre("experts"));
  EXPECT_TRUE(o.roles.grad && o.roles.weight);
  EXPECT_FALSE(o.roles.update || o.roles.buffer);
  EXPECT_EQ(o.interval_steps, 10);
  EXPECT_EQ(o.histogram_interval_steps, 20);
  EXPECT_EQ(o.overhead_budget, 0.25);
  EXPECT_EQ(o.audit_steps, 50);
  EXPECT_TRUE(s.force_device_path);
  EXPECT_EQ(o.ring_bytes, 2097152u);
  EXPECT_EQ(s.ring_folder, "/rings");
  EXPECT_EQ(o.spool, "/scratch/spool");
  EXPECT_EQ(o.spool_bytes, 4194304u);
  EXPECT_TRUE(o.offline);
  EXPECT_EQ(o.shutdown_deadline, std::chrono::milliseconds(250));
  EXPECT_TRUE(o.stop_on_sigterm);
  EXPECT_TRUE(o.tls);
  EXPECT_EQ(o.tls_ca_file, "/ca");
  EXPECT_EQ(o.tls_cert_file, "/cert");
  EXPECT_EQ(o.tls_key_file, "/key");
  EXPECT_EQ(o.token, "secret");
  EXPECT_TRUE(o.use_proxy);
  EXPECT_TRUE(s.log_off);
}

TEST_F(OptionsTest, EveryVariableThatDoesNotParseIsReportedAndLeavesItsField) {
  env_ = {{"GRADTAP_COLLECTOR", "http://x:1"},
          {"GRADTAP_RUN", "../up"},
          {"GRADTAP_RANK", "-1"},
          {"GRADTAP_WORLD_SIZE", "0"},
          {"GRADTAP_TAGS", "novalue"},
          {"GRADTAP_INCLUDE", "("},
          {"GRADTAP_EXCLUDE", "["},
          {"GRADTAP_SHARDED", "*"},
          {"GRADTAP_ROLES", "weight,wieght"},
          {"GRADTAP_INTERVAL", "ten"},
          {"GRADTAP_HISTOGRAM_INTERVAL", "-1"},
          {"GRADTAP_BUDGET", "5"},
          {"GRADTAP_AUDIT", "1048577"},
          {"GRADTAP_FORCE_DEVICE_PATH", "2"},
          {"GRADTAP_RING_BYTES", "12"},
          {"GRADTAP_SPOOL_BYTES", "1"},
          {"GRADTAP_MODE", "airplane"},
          {"GRADTAP_SHUTDOWN_MS", "5s"},
          {"GRADTAP_SIGTERM", "TERM"},
          {"GRADTAP_TLS", "maybe"},
          {"GRADTAP_PROXY", "2"}};
  AgentOptions given;
  given.run = "day";
  given.interval_steps = 7;
  given.include = {"keep"};
  const Settings s = Resolve(given);
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.problems, SizeIs(env_.size()));
  for (const auto& [name, value] : env_) {
    EXPECT_THAT(s.problems, ::testing::Contains(HasSubstr(name))) << name;
  }
  EXPECT_EQ(s.options.run, "day");
  EXPECT_EQ(s.options.interval_steps, 7);
  EXPECT_EQ(s.options.rank, 0);
  EXPECT_EQ(s.options.world_size, 1);
  EXPECT_THAT(s.options.include, ElementsAre("keep"));
  EXPECT_TRUE(s.options.roles.update);
  EXPECT_THAT(s.problems, ::testing::Contains(HasSubstr("'wieght'")));
}

TEST_F(OptionsTest, AnEmptyVariableCountsAsNotSet) {
  env_ = {{"GRADTAP_RUN", ""}, {"GRADTAP_INTERVAL", ""}, {"RANK", ""}};
  AgentOptions given;
  given.run = "day";
  const Settings s = Resolve(given);
  EXPECT_EQ(s.options.run, "day");
  EXPECT_THAT(s.problems, IsEmpty());
}

TEST_F(OptionsTest, BadOptionsOfTheProgramAreErrorsThatNameTheValue) {
  AgentOptions given;
  given.collector = "a b:1";
  given.run = "has space";
  given.interval_steps = 0;
  given.histogram_interval_steps = -2;
  given.overhead_budget = 1.5;
  given.audit_steps = -3;
  given.ring_bytes = 5;
  given.spool_bytes = 6;
  given.shutdown_deadline = std::chrono::milliseconds(-1);
  given.rank = 4;
  given.world_size = 4;
  given.token = "hunter2";
  given.include = {"ok", "(bad"};
  const Settings s = Resolve(given);
  ASSERT_THAT(s.errors, SizeIs(12));
  const std::string all = ::testing::PrintToString(s.errors);
  for (const char* part :
       {"a b:1", "has space", "interval_steps 0", "histogram_interval_steps -2",
        "overhead_budget 1.5", "audit_steps -3", "ring_bytes 5",
        "spool_bytes 6", "-1 ms", "rank 4", "(bad", "TLS"}) {
    EXPECT_THAT(all, HasSubstr(part));
  }
  EXPECT_THAT(all, Not(HasSubstr("hunter2")));
}

TEST_F(OptionsTest, TheSpoolIsBelowTheStateFolderUnlessTheUserSaysOtherwise) {
  EXPECT_EQ(Resolve({}).options.spool, "");  // Nobody's home.
  env_ = {{"HOME", "/home/ann"}};
  EXPECT_EQ(Resolve({}).options.spool, "/home/ann/.local/state/gradtap/spool");
  env_["XDG_STATE_HOME"] = "relative/is/ignored";
  EXPECT_EQ(Resolve({}).options.spool, "/home/ann/.local/state/gradtap/spool");
  env_["XDG_STATE_HOME"] = "/state";
  EXPECT_EQ(Resolve({}).options.spool, "/state/gradtap/spool");
  env_["GRADTAP_SPOOL"] = "here";
  EXPECT_EQ(Resolve({}).options.spool,
            (std::filesystem::current_path() / "here").string());
  env_["GRADTAP_SPOOL"] = "off";
  EXPECT_EQ(Resolve({}).options.spool, "off");
}

TEST_F(OptionsTest, TheRingIsInSharedMemoryUnlessTheUserSaysOtherwise) {
  EXPECT_EQ(Resolve({}).ring_folder,
            "/dev/shm/gradtap-" + std::to_string(::geteuid()));
  env_["GRADTAP_RING_FOLDER"] = "off";
  EXPECT_EQ(Resolve({}).ring_folder, "");
}

TEST_F(OptionsTest, OfflineWithoutASpoolIsAnErrorThatSaysWhatToSet) {
  AgentOptions given;
  given.offline = true;
  EXPECT_THAT(Resolve(given).errors, ElementsAre(HasSubstr("GRADTAP_SPOOL")));
  given.spool = "off";
  EXPECT_THAT(Resolve(given).errors, ElementsAre(HasSubstr("GRADTAP_SPOOL")));
  given.spool = "/scratch";
  EXPECT_THAT(Resolve(given).errors, IsEmpty());
  env_ = {{"GRADTAP_MODE", "online"}};
  EXPECT_FALSE(Resolve(given).options.offline);
}

TEST_F(OptionsTest, OfflineStepsAreForTheCollectorThatWasNamedElseForAny) {
  EXPECT_EQ(MeantFor(Resolve({}).options), "127.0.0.1:7317");
  env_["GRADTAP_MODE"] = "offline";
  EXPECT_EQ(MeantFor(Resolve({}).options), "");
  env_["GRADTAP_COLLECTOR"] = "gpu7";
  EXPECT_EQ(MeantFor(Resolve({}).options), "gpu7:7317");
}

TEST_F(OptionsTest, ABudgetIsAShareAndNothingElse) {
  AgentOptions given;
  given.overhead_budget = std::nan("");
  EXPECT_THAT(Resolve(given).errors, ElementsAre(HasSubstr("nan")));
  given.overhead_budget = 0.5;
  for (const char* bad : {"nan", "inf", "-0.1", "1.01", "5%", " 0.1", "0x1"}) {
    env_ = {{"GRADTAP_BUDGET", bad}};
    const Settings s = Resolve(given);
    EXPECT_THAT(s.problems, ElementsAre(HasSubstr(bad))) << bad;
    EXPECT_EQ(s.options.overhead_budget, 0.5);
  }
  for (const char* good : {"0", "1", "0.05", "5e-2", ".5"}) {
    env_ = {{"GRADTAP_BUDGET", good}};
    EXPECT_THAT(Resolve(given).problems, IsEmpty()) << good;
  }
}

TEST_F(OptionsTest, DisabledLooksAtNothingElse) {
  env_ = {{"GRADTAP_DISABLED", "1"},
          {"GRADTAP_RUN", "../up"},
          {"GRADTAP_TOKEN_FILE", "/nonexistent"}};
  const Settings s = Resolve();
  EXPECT_TRUE(s.disabled);
  EXPECT_THAT(s.problems, IsEmpty());
  EXPECT_THAT(s.errors, IsEmpty());
}

TEST_F(OptionsTest, TheTokenFileIsReadWithoutItsLineEnd) {
  const gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/token";
  std::ofstream(path) << "s3cret\n";
  env_ = {{"GRADTAP_TOKEN_FILE", path}, {"GRADTAP_TLS", "1"}};
  const Settings s = Resolve();
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_EQ(s.options.token, "s3cret");
}

TEST_F(OptionsTest, TlsFilesAreWhereTheyAreNow) {
  env_ = {{"GRADTAP_TLS", "1"}, {"GRADTAP_TLS_CA", "ca.pem"}};
  const AgentOptions o = Resolve().options;
  EXPECT_EQ(o.tls_ca_file,
            (std::filesystem::current_path() / "ca.pem").string());
  EXPECT_EQ(o.tls_cert_file, "");
}

// In a child, which a signal ends where it waits for a writer.
TEST_F(OptionsTest, FilesThatWouldBeWaitedForAreRefused) {
  const gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  for (const char* name : {"GRADTAP_TOKEN_FILE", "GRADTAP_TLS_CA",
                           "GRADTAP_TLS_CERT", "GRADTAP_TLS_KEY"}) {
    env_ = {{name, path}, {"GRADTAP_TLS", "1"}};
    EXPECT_EQ(
        testing::InChild([&] {
          ::alarm(60);
          const Settings s = Resolve();
          return s.errors.size() == 1 &&
                         s.errors[0].find(path + "' is no regular file") !=
                             std::string::npos &&
                         s.errors[0].find(name) != std::string::npos
                     ? 0
                     : 1;
        }),
        0)
        << name;
  }
}

TEST_F(OptionsTest, ATokenOfAVariableWinsOverTheProgramsFileAndBack) {
  const gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/token";
  std::ofstream(path) << "filed\n";
  AgentOptions given;
  given.token_file = path;
  Settings s = Resolve(given);
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_EQ(s.options.token, "filed");
  EXPECT_EQ(s.options.token_file, path);
  env_ = {{"GRADTAP_TOKEN", "plain"}};
  s = Resolve(given);
  EXPECT_EQ(s.options.token, "plain");
  EXPECT_EQ(s.options.token_file, "");
  given = AgentOptions();
  given.token = "given";
  env_ = {{"GRADTAP_TOKEN_FILE", path}};
  s = Resolve(given);
  EXPECT_EQ(s.options.token, "filed");
  EXPECT_EQ(s.options.token_file, path);
}

TEST_F(OptionsTest, WithoutTlsATokenStaysOnThisMachine) {
  AgentOptions given;
  given.token = "s3cret";
  for (const char* here : {"127.0.0.1", "localhost:1", "[::1]", ":7317",
                           "unix:/run/gradtap/grpc"}) {
    given.collector = here;
    EXPECT_THAT(Resolve(given).errors, IsEmpty()) << here;
  }
  for (const char* away : {"10.0.0.1", "gradtap.example:7317", "[::2]:1"}) {
    given.collector = away;
    EXPECT_THAT(Resolve(given).errors, ElementsAre(HasSubstr("TLS"))) << away;
    given.tls = true;
    EXPECT_THAT(Resolve(given).errors, IsEmpty()) << away;
    given.tls = false;
  }
}

TEST_F(OptionsTest, AnUnreadableTokenFileIsAnErrorThatNamesIt) {
  env_ = {{"GRADTAP_TOKEN_FILE", "/nonexistent/token"}, {"GRADTAP_TLS", "1"}};
  EXPECT_THAT(Resolve().errors, ElementsAre(HasSubstr("/nonexistent/token")));
}

TEST_F(OptionsTest, BadTagsAreLeftOutAndReported) {
  AgentOptions given;
  given.tags = {{"ok", "v"},
                {"a b", "x"},
                {"", "y"},
                {std::string(65, 'k'), "z"},
                {"bytes", "\xff"}};
  const Settings s = Resolve(given);
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.problems, SizeIs(3));
  EXPECT_EQ(s.options.tags, (std::map<std::string, std::string>{
                                {"ok", "v"}, {"bytes", "\\xff"}}));
}

TEST_F(OptionsTest, HostileValuesAreEscapedAndCutInMessages) {
  env_ = {{"GRADTAP_RUN", "\x1b[31mred" + std::string(100'000, 'x')}};
  const Settings s = Resolve();
  ASSERT_THAT(s.problems, SizeIs(1));
  EXPECT_LT(s.problems[0].size(), 500u);
  EXPECT_EQ(s.problems[0].find('\x1b'), std::string::npos);
}

TEST_F(OptionsTest, AddressesAreCompleted) {
  const std::map<std::string, std::string> cases = {
      {"host", "host:7317"},
      {"host:1", "host:1"},
      {":9", "127.0.0.1:9"},
      {"10.0.0.1", "10.0.0.1:7317"},
      {"[::1]", "[::1]:7317"},
      {"[::1]:5", "[::1]:5"},
      {"fe80::1", "[fe80::1]:7317"},
      {"", ""},
      {":", ""},
      {"host:", ""},
      {"host:0", ""},
      {"host:65536", ""},
      {"host:1x", ""},
      {"http://host:1", ""},
      {"ho st", ""},
      {"[::1", ""},
      {"[zz]:1", ""},
      {"[::1]x", ""},
      {"a:b:c", ""},
      {std::string(300, 'h'), ""}};
  for (const auto& [given, expected] : cases) {
    EXPECT_EQ(CompleteAddress(given), expected) << given;
  }
}

TEST_F(OptionsTest, TheFirstLauncherThatTellsARankGivesThePlace) {
  env_ = {{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"},
          {"SLURM_PROCID", "0"},         {"SLURM_NTASKS", "64"},
          {"GRADTAP_LAUNCH", "x"},       {"GRADTAP_RUN", "r"}};
  Settings s = Resolve();
  EXPECT_EQ(s.options.rank, 2);
  EXPECT_EQ(s.options.world_size, 4);
  env_["RANK"] = "1";
  env_["WORLD_SIZE"] = "3";
  s = Resolve();
  EXPECT_EQ(s.options.rank, 1);
  EXPECT_EQ(s.options.world_size, 3);
  AgentOptions given;
  given.rank = 0;
  given.world_size = 1;
  s = Resolve(given);
  EXPECT_EQ(s.options.rank, 0);
  EXPECT_EQ(s.options.world_size, 1);
}

TEST_F(OptionsTest, ARankThatDoesNotParseIsPassedOver) {
  env_ = {{"RANK", "first"},
          {"PMI_RANK", "1"},
          {"PMI_SIZE", "2"},
          {"GRADTAP_LAUNCH", "x"}};
  const Settings s = Resolve();
  EXPECT_EQ(s.options.rank, 1);
  EXPECT_THAT(s.problems, ElementsAre(HasSubstr("RANK='first'")));
}

TEST_F(OptionsTest, SeveralRanksWithNothingInCommonAreToldSo) {
  env_ = {{"RANK", "1"}, {"WORLD_SIZE", "2"}};
  const Settings s = Resolve();
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.problems, ElementsAre(HasSubstr("GRADTAP_LAUNCH")));
}

TEST_F(OptionsTest, TheLaunchKeyComesFromTheLauncher) {
  EXPECT_EQ(LaunchKey(Env()), "");
  env_["LSB_JOBID"] = "55";
  EXPECT_EQ(LaunchKey(Env()), "LSB_JOBID:55");
  env_["SLURM_JOB_ID"] = "42";
  EXPECT_EQ(LaunchKey(Env()), "slurm:42:0");
  env_["SLURM_STEP_ID"] = "1";
  env_["SLURM_RESTART_COUNT"] = "3";
  EXPECT_EQ(LaunchKey(Env()), "slurm:42.1:3");
  env_["TORCHELASTIC_RUN_ID"] = "none";  // What torchrun says without an id.
  EXPECT_EQ(LaunchKey(Env()), "slurm:42.1:3");
  env_["TORCHELASTIC_RUN_ID"] = "abc";
  env_["TORCHELASTIC_RESTART_COUNT"] = "2";
  EXPECT_EQ(LaunchKey(Env()), "torchelastic:abc:2");
  env_["GRADTAP_LAUNCH"] = "mine";
  EXPECT_EQ(LaunchKey(Env()), "mine");
}

TEST_F(OptionsTest, LongLaunchKeysStayDifferentWithin128Bytes) {
  env_["GRADTAP_LAUNCH"] = std::string(300, 'a') + "1";
  const std::string one = LaunchKey(Env());
  env_["GRADTAP_LAUNCH"] = std::string(300, 'a') + "2";
  const std::string two = LaunchKey(Env());
  EXPECT_LE(one.size(), 128u);
  EXPECT_LE(two.size(), 128u);
  EXPECT_NE(one, two);
}

TEST_F(OptionsTest, TheRunDefaultsToTheLaunchersJob) {
  env_["PBS_JOBID"] = "123[4].server";
  EXPECT_EQ(Resolve().options.run, "123_4_.server");
  env_["TORCHELASTIC_RUN_ID"] = "exp/7";
  EXPECT_EQ(Resolve().options.run, "exp_7");
  AgentOptions given;
  given.run = "own";
  EXPECT_EQ(Resolve(given).options.run, "own");
}

TEST_F(OptionsTest, ADefaultRunNameIsValidForAnyProgramAndHost) {
  process_ = {std::string(500, 'p') + "/", "h\xff h", 0};
  const Settings s = Resolve();
  EXPECT_THAT(s.errors, IsEmpty());
  EXPECT_THAT(s.options.run, HasSubstr("-19700101T000000Z-h"));
}

}  // namespace
}  // namespace gradtap::agent
