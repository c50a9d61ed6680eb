#include "server/auth/gate.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "server/auth/auth_testing.h"
#include "support/certificates.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kListRuns[] = "/gradtap.v1.Query/ListRuns";
constexpr char kSession[] = "/gradtap.v1.Telemetry/Session";
constexpr char kDelete[] = "/gradtap.v1.Query/DeleteRun";
constexpr char kBackup[] = "/gradtap.v1.Upkeep/Backup";
constexpr std::chrono::seconds kLook{1};
constexpr char kHealth[] = "/grpc.health.v1.Health/Check";

class GateTest : public ::testing::Test {
 protected:
  void Open() {
    auto gate =
        Gate::Create(tokens_.path(), &clock_,
                     [this](const std::string& line) { said_ += line + "\n"; });
    GRADTAP_ASSERT_OK(gate);
    gate_ = *std::move(gate);
  }
  absl::Status Call(const std::string& token, const char* method) {
    return gate_->AdmitMethod(Bearer(token), method).status();
  }
  gradtap::testing::TempDir dir_;
  TokenMaker tokens_{dir_.path() + "/tokens"};
  ManualClock clock_;
  std::string said_;
  std::unique_ptr<Gate> gate_;
};

TEST_F(GateTest, EachRoleMayWhatTheTableSays) {
  const std::string write = tokens_.Add("write");
  const std::string read = tokens_.Add("read");
  const std::string admin = tokens_.Add("admin");
  Open();
  const auto refused = StatusIs(absl::StatusCode::kPermissionDenied, _);
  GRADTAP_EXPECT_OK(Call(write, kSession));
  EXPECT_THAT(Call(write, kListRuns), refused);
  EXPECT_THAT(Call(write, kDelete), refused);
  EXPECT_THAT(Call(read, kSession),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("role write"), HasSubstr("has read"),
                             HasSubstr(read.substr(8, 8)),
                             Not(HasSubstr(read.substr(17))))));
  GRADTAP_EXPECT_OK(Call(read, kListRuns));
  EXPECT_THAT(Call(read, kBackup), refused);
  for (const char* all : {kSession, kListRuns, kDelete, kBackup, kHealth}) {
    GRADTAP_EXPECT_OK(Call(admin, all));
  }
  EXPECT_EQ(gate_->refused(Refusal::kRole), 4u);
}

TEST_F(GateTest, WhoHasNoTokenIsToldWhatToDo) {
  tokens_.Add("admin");
  Open();
  for (const std::optional<std::string_view>& nothing :
       {std::optional<std::string_view>(), std::optional<std::string_view>(""),
        std::optional<std::string_view>("Basic YTpi")}) {
    EXPECT_THAT(gate_->AdmitMethod(nothing, kListRuns),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         HasSubstr("GRADTAP_TOKEN_FILE")));
  }
  GRADTAP_EXPECT_OK(gate_->AdmitMethod(std::nullopt, kHealth));
  EXPECT_EQ(gate_->refused(Refusal::kNoToken), 3u);
}

TEST_F(GateTest, ATokenThatIsNotItsOwnersIsNotShown) {
  std::string token = tokens_.Add("admin");
  Open();
  token.back() = token.back() == 'A' ? 'E' : 'A';
  for (const std::string& wrong :
       {token, std::string("x"), std::string(100'000, 'x'),
        std::string("\x1b[31m\0", 6), *MakeToken()}) {
    EXPECT_THAT(Call(wrong, kListRuns),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         AllOf(HasSubstr("does not know the token"),
                               Not(HasSubstr("\x1b")),
                               Not(HasSubstr(token.substr(17))))));
  }
  EXPECT_EQ(gate_->refused(Refusal::kUnknown), 5u);
}

TEST_F(GateTest, ATokenIsOneUntilItExpires) {
  const std::string token =
      tokens_.Add("read", "", clock_.UnixNanos() / 1'000'000'000 + 10);
  Open();
  const auto caller = gate_->AdmitMethod(Bearer(token), kListRuns);
  GRADTAP_ASSERT_OK(caller);
  clock_.Advance(std::chrono::seconds(9));
  GRADTAP_EXPECT_OK(Call(token, kListRuns));
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_THAT(
      Call(token, kListRuns),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("expired")));
  EXPECT_THAT(gate_->Recheck(*caller),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  EXPECT_EQ(gate_->refused(Refusal::kExpired), 2u);
}

TEST_F(GateTest, ALimitedTokenHasItsOwnRunsAlone) {
  const std::string token = tokens_.Add("admin", "vision-");
  Open();
  const auto caller = gate_->AdmitMethod(Bearer(token), kDelete);
  GRADTAP_ASSERT_OK(caller);
  GRADTAP_EXPECT_OK(gate_->CheckRun(*caller, "vision-"));
  GRADTAP_EXPECT_OK(gate_->CheckRun(*caller, "vision-7"));
  for (const char* run : {"", "vision", "Vision-7", "x-vision-", "\x1b[31m"}) {
    EXPECT_THAT(gate_->CheckRun(*caller, run),
                StatusIs(absl::StatusCode::kPermissionDenied,
                         AllOf(HasSubstr("'vision-'"), Not(HasSubstr("\x1b")))))
        << run;
  }
  EXPECT_THAT(
      Call(token, kBackup),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("all runs")));
  EXPECT_EQ(gate_->refused(Refusal::kRuns), 6u);
}

TEST_F(GateTest, AMethodThatIsNotInTheTableIsNobodys) {
  const std::string token = tokens_.Add("admin");
  Open();
  EXPECT_THAT(Call(token, "/gradtap.v1.Query/New"),
              StatusIs(absl::StatusCode::kPermissionDenied, _));
  EXPECT_THAT(gate_->AdmitMethod(std::nullopt, "/gradtap.v1.Query/New"),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  EXPECT_EQ(gate_->refused(Refusal::kMethod), 1u);
}

TEST_F(GateTest, AFileThatChangesIsReadAgain) {
  const std::string old = tokens_.Add("read");
  Open();
  const auto caller = gate_->AdmitMethod(Bearer(old), kListRuns);
  GRADTAP_ASSERT_OK(caller);
  const std::string fresh = tokens_.Add("read");
  EXPECT_THAT(Call(fresh, kListRuns),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  clock_.Advance(kLook);
  GRADTAP_EXPECT_OK(Call(fresh, kListRuns));
  GRADTAP_EXPECT_OK(Call(old, kListRuns));
  GRADTAP_EXPECT_OK(gate_->Recheck(*caller));
  tokens_.Revoke(old);
  clock_.Advance(kLook);
  EXPECT_THAT(Call(old, kListRuns),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  EXPECT_THAT(gate_->Recheck(*caller),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  GRADTAP_EXPECT_OK(Call(fresh, kListRuns));
}

TEST_F(GateTest, AFileThatCannotBeReadChangesNothing) {
  const std::string token = tokens_.Add("read");
  Open();
  std::ofstream(tokens_.path()) << "junk\n";
  clock_.Advance(kLook);
  GRADTAP_EXPECT_OK(Call(token, kListRuns));
  EXPECT_THAT(said_, HasSubstr("line 1"));
  ASSERT_EQ(::unlink(tokens_.path().c_str()), 0);
  clock_.Advance(kLook);
  GRADTAP_EXPECT_OK(Call(token, kListRuns));
  EXPECT_THAT(said_, HasSubstr("cannot read"));
  const std::string fresh = tokens_.Add("read");
  clock_.Advance(kLook);
  GRADTAP_EXPECT_OK(Call(fresh, kListRuns));
}

// A pause of an editor, or of a disk that is full.
TEST_F(GateTest, AFileThatIsBeingWrittenChangesNothing) {
  const std::string token = tokens_.Add("read");
  Open();
  const auto caller = gate_->AdmitMethod(Bearer(token), kListRuns);
  GRADTAP_ASSERT_OK(caller);
  const std::string whole = gradtap::testing::ReadWhole(tokens_.path());
  const std::size_t head = whole.find('\n') + 1;
  for (const std::string& part :
       {std::string(), whole.substr(0, 3), whole.substr(0, head - 1),
        whole.substr(0, whole.size() - 1), whole.substr(0, whole.size() - 3),
        std::string("# mine\n\n")}) {
    std::ofstream(tokens_.path(), std::ios::trunc) << part;
    clock_.Advance(kLook);
    GRADTAP_EXPECT_OK(Call(token, kListRuns));
    GRADTAP_EXPECT_OK(gate_->Recheck(*caller));
  }
  EXPECT_THAT(said_, AllOf(HasSubstr("cut off"), HasSubstr("has no token"),
                           Not(HasSubstr(" of them"))));
  std::ofstream(tokens_.path(), std::ios::trunc) << whole;
  const std::string fresh = tokens_.Add("read");
  clock_.Advance(kLook);
  GRADTAP_EXPECT_OK(Call(fresh, kListRuns));
  // None is left: that is a list, too.
  tokens_.Revoke(token);
  tokens_.Revoke(fresh);
  clock_.Advance(kLook);
  EXPECT_THAT(Call(token, kListRuns),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  EXPECT_THAT(said_, HasSubstr("tokens: 0 of them"));
}

TEST_F(GateTest, AFileThatCannotBeUsedIsTriedAgainAndSaidOnce) {
  const std::string old = tokens_.Add("read");
  const std::string token = tokens_.Add("read");
  Open();
  tokens_.Revoke(old);
  // Others may write it: nothing else changes when that is put right.
  ASSERT_EQ(::chmod(tokens_.path().c_str(), 0666), 0);
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(kLook);
    GRADTAP_EXPECT_OK(Call(old, kListRuns));
  }
  EXPECT_EQ(said_.find("tokens: "), said_.rfind("tokens: ")) << said_;
  ASSERT_EQ(::chmod(tokens_.path().c_str(), 0600), 0);
  clock_.Advance(kLook);
  EXPECT_THAT(Call(old, kListRuns),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
  GRADTAP_EXPECT_OK(Call(token, kListRuns));
}

TEST(FileStampTest, IsAnotherOneWhenOthersMayReadIt) {
  gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/file";
  std::ofstream(path) << "text";
  const FileStamp before = StampOf(path);
  ASSERT_EQ(::chown(path.c_str(), ::geteuid(), ::getegid()), 0);
  EXPECT_NE(StampOf(path), before);
}

TEST_F(GateTest, ThreadsAskWhileTheFileChanges) {
  const std::string token = tokens_.Add("read");
  Open();
  const auto caller = gate_->AdmitMethod(Bearer(token), kListRuns);
  GRADTAP_ASSERT_OK(caller);
  std::atomic<bool> stop{false};
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        if (!Call(token, kListRuns).ok()) ++refused;
        if (!gate_->Recheck(*caller).ok()) ++refused;
      }
    });
  }
  std::string newest;
  for (int i = 0; i < 50; ++i) {
    newest = tokens_.Add("read");
    clock_.Advance(kLook);
    // Whoever of the threads looks.
    while (!Call(newest, kListRuns).ok()) {
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 0);
}

TEST_F(GateTest, AFileThatHasNoTokenLetsNobodyIn) {
  Open();
  EXPECT_THAT(Call(*MakeToken(), kListRuns),
              StatusIs(absl::StatusCode::kUnauthenticated, _));
}

TEST(OpenGateTest, LetsEverybodyDoEverything) {
  Gate* const gate = Gate::Open();
  EXPECT_FALSE(gate->asks());
  const auto caller = gate->AdmitMethod(std::nullopt, kBackup);
  GRADTAP_ASSERT_OK(caller);
  GRADTAP_EXPECT_OK(gate->CheckRun(*caller, "anything"));
  GRADTAP_EXPECT_OK(gate->CheckAllRuns(*caller, "/metrics"));
  GRADTAP_EXPECT_OK(gate->Recheck(*caller));
}

}  // namespace
}  // namespace gradtap::server::testing
