#include "core/socket_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

class SocketFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Root may give a folder away; others are its owner as they are.
    if (owner_ == 0) {
      owner_ = 4321;
      ASSERT_EQ(::chown(dir_.path().c_str(), owner_, 4321), 0);
    }
    Mode(0700);
  }
  void Mode(mode_t mode) { ASSERT_EQ(::chmod(dir_.path().c_str(), mode), 0); }
  std::string Socket() const { return "unix:" + dir_.path() + "/grpc"; }

  TempDir dir_;
  uid_t owner_ = ::geteuid();
};

TEST_F(SocketFolderTest, OnesOwnFolderWillDoAndSoDoesRoots) {
  GRADTAP_EXPECT_OK(CheckSocketFolder(Socket(), owner_));
  Mode(0755);
  GRADTAP_EXPECT_OK(CheckSocketFolder(Socket(), owner_));
  GRADTAP_EXPECT_OK(CheckSocketFolder("unix:/grpc", owner_));
}

TEST_F(SocketFolderTest, WhereOthersMayWriteAnybodysSocketCouldBe) {
  for (const mode_t mode : {0777, 01777, 0770, 0702}) {
    Mode(mode);
    EXPECT_THAT(CheckSocketFolder(Socket(), owner_),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr(dir_.path()), HasSubstr("0700"))));
  }
}

TEST_F(SocketFolderTest, AFolderThatSomebodyElseHasMadeIsRefused) {
  EXPECT_THAT(CheckSocketFolder(Socket(), owner_ + 1),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("of user " + std::to_string(owner_))));
  // A link there is anybody's, too.
  const std::string link = dir_.path() + "/link";
  ASSERT_EQ(::symlink(dir_.path().c_str(), link.c_str()), 0);
  EXPECT_THAT(CheckSocketFolder("unix:" + link + "/grpc", owner_ + 1),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
}

TEST_F(SocketFolderTest, AFolderThatRootHasGivenToSomebodyWillDo) {
  // The kernel makes it in root's name.
  const std::string given =
      "unix:/proc/" + std::to_string(::getpid()) + "/grpc";
  GRADTAP_EXPECT_OK(CheckSocketFolder(given, ::geteuid() + 1));
}

TEST_F(SocketFolderTest, AFolderThatIsNotThereIsUnavailable) {
  EXPECT_THAT(
      CheckSocketFolder("unix:" + dir_.path() + "/none/grpc", owner_),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("No such file")));
}

TEST_F(SocketFolderTest, OtherAddressesAreNotLookedAt) {
  GRADTAP_EXPECT_OK(CheckSocketFolder("127.0.0.1:7317", owner_));
  GRADTAP_EXPECT_OK(CheckSocketFolder("unix:relative", owner_));
}

}  // namespace
}  // namespace gradtap
