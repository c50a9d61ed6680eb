#include "agent/spool/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

#include "agent/spool/spool_fixtures.h"
#include "support/forked_child.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using testing::FaultyDisk;
using testing::ForkedChild;
using ::testing::HasSubstr;
using testing::OrphanOf;
using testing::StatusIs;

constexpr char kNonce[] = "0123456789abcdef";
constexpr char kNonceName[] = "30313233343536373839616263646566";

class SpoolFolderTest : public ::testing::Test {
 protected:
  std::string root() const { return dir_.path() + "/spool"; }
  std::string folder() const { return root() + "/" + kNonceName; }
  auto Create() { return SpoolFolder::Create(root(), kNonce, &disk_); }
  auto Open(SpoolUse use = SpoolUse::kTakeOver) {
    return SpoolFolder::Open(folder(), use, &disk_);
  }

  testing::TempDir dir_;
  FaultyDisk disk_;
};

TEST_F(SpoolFolderTest, ASecondOwnerIsRefusedUntilTheFirstIsDead) {
  ForkedChild owner([this] { (void)Create()->release(); });
  for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
    EXPECT_THAT(Open(use), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("in use by process " +
                                              std::to_string(owner.pid()))));
  }
  owner.Kill();
  GRADTAP_EXPECT_OK(Open());
}

TEST_F(SpoolFolderTest, AForkedChildThatOutlivesTheOwnerDoesNotOwn) {
  const pid_t orphan = OrphanOf([this] { (void)Create()->release(); });
  GRADTAP_EXPECT_OK(Open());
  ::kill(orphan, SIGKILL);
}

TEST_F(SpoolFolderTest, OneProcessDoesNotOwnAFolderTwice) {
  auto first = Create();
  GRADTAP_ASSERT_OK(first);
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("by this process itself")));
  // And the attempt has not cost the first one its lock.
  EXPECT_EQ(testing::InChild([&] {
              return Open().status().message().find(
                         "by process " + std::to_string(::getppid())) !=
                             std::string::npos
                         ? 0
                         : 1;
            }),
            0)
      << "the lock is gone";
  first->reset();
  GRADTAP_EXPECT_OK(Open(SpoolUse::kCopy));
}

TEST_F(SpoolFolderTest, ASymbolicLinkInPlaceOfAFolderIsRefused) {
  std::filesystem::create_directory(dir_.path() + "/real");
  std::filesystem::create_symlink(dir_.path() + "/real", root());
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("symbolic link")));
  std::filesystem::remove(root());
  GRADTAP_ASSERT_OK(Create());
  std::filesystem::rename(folder(), dir_.path() + "/moved");
  std::filesystem::create_symlink(dir_.path() + "/moved", folder());
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("symbolic link")));
}

TEST_F(SpoolFolderTest, AFolderThatOthersMayReachIsRefusedButCopiesAreNot) {
  std::filesystem::create_directories(folder());
  ::chmod(folder().c_str(), 0750);
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("has mode 0750")));
  GRADTAP_EXPECT_OK(Open(SpoolUse::kCopy));
}

TEST_F(SpoolFolderTest, NetworkFileSystemsAreRefusedByName) {
  for (const auto& [type, name] :
       std::map<std::int64_t, std::string>{{0x6969, "NFS"},
                                           {0xff534d42, "CIFS"},
                                           {0x65735546, "FUSE"},
                                           {0x01021997, "9P"},
                                           {0x0bd00bd0, "Lustre"}}) {
    disk_.type = type;
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr(name)));
    EXPECT_TRUE(std::filesystem::is_empty(root()));
  }
  disk_.type = 0x01021994;  // tmpfs.
  GRADTAP_EXPECT_OK(Create());
}

TEST_F(SpoolFolderTest, ARelativePathIsRefused) {
  EXPECT_THAT(SpoolFolder::Create("spool", kNonce, &disk_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'spool' is no absolute path")));
}

TEST_F(SpoolFolderTest, SpoolsOfARootAreFoundAndOfAFolderItself) {
  GRADTAP_ASSERT_OK(Create());
  std::filesystem::create_directory(root() + "/.hidden.new");
  std::filesystem::create_directory(root() + "/other");
  EXPECT_THAT(*FindSpools(root()), ElementsAre(folder()));
  EXPECT_THAT(*FindSpools(folder()), ElementsAre());
  testing::WriteAll(folder() + "/00000000000000000001.seg", "");
  EXPECT_THAT(*FindSpools(folder()), ElementsAre(folder()));
  EXPECT_THAT(FindSpools(dir_.path() + "/none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

}  // namespace
}  // namespace gradtap::agent
