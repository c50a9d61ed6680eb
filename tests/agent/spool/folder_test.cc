#include "agent/spool/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

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
constexpr char kOtherNonce[] = "fedcba9876543210";

// A disk on which something happens each time a folder is at a certain point of
// being made.
class HookedDisk : public FaultyDisk {
 public:
  std::function<void()> folder_made, owner_made, before_name;
  int rename_error = 0;
  int folder_sync_error = 0;

  int MakeFolderAt(int folder, const char* name, mode_t mode) override {
    const int made = FaultyDisk::MakeFolderAt(folder, name, mode);
    if (IsUnownedName(name) && folder_made) folder_made();
    return made;
  }
  int OpenAt(int folder, const char* name, int flags, mode_t mode) override {
    const int fd = FaultyDisk::OpenAt(folder, name, flags, mode);
    if (std::string(name) == "owner" && (flags & O_CREAT) && owner_made) {
      owner_made();
    }
    return fd;
  }
  int RenameAt(int folder, const char* from, const char* to) override {
    if (before_name) before_name();
    return rename_error != 0 ? -rename_error
                             : FaultyDisk::RenameAt(folder, from, to);
  }
  int SyncFolder(int fd) override {
    return folder_sync_error != 0 ? -folder_sync_error
                                  : FaultyDisk::SyncFolder(fd);
  }
};

class SpoolFolderTest : public ::testing::Test {
 protected:
  std::string root() const { return dir_.path() + "/spool"; }
  std::string folder() const { return root() + "/" + kNonceName; }
  auto Create() { return SpoolFolder::Create(root(), kNonce, &disk_); }
  auto Open(SpoolUse use = SpoolUse::kTakeOver) {
    return SpoolFolder::Open(folder(), use, &disk_);
  }

  // As it is called until it is owned.
  std::string unowned() const { return root() + "/" + UnownedName(kNonceName); }

  testing::TempDir dir_;
  HookedDisk disk_;
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

// ---- Folders that their makers did not live to own.

TEST_F(SpoolFolderTest, WhatADeadProcessDidNotFinishGoesWithTheNextCreate) {
  for (auto at : {&HookedDisk::folder_made, &HookedDisk::owner_made,
                  &HookedDisk::before_name}) {
    EXPECT_EQ(testing::InChild([&] {
                disk_.*at = [] { ::raise(SIGKILL); };
                (void)Create();
                return 0;
              }),
              128 + SIGKILL);
    ASSERT_TRUE(std::filesystem::exists(unowned()));
    const auto next = SpoolFolder::Create(root(), kOtherNonce, &disk_);
    GRADTAP_ASSERT_OK(next);
    EXPECT_THAT(testing::NamesIn(root()),
                ElementsAre(std::filesystem::path((*next)->path()).filename()));
    (*next)->RemoveIfEmpty();
  }
}

TEST_F(SpoolFolderTest, WhatALivingProcessIsMakingStays) {
  const auto sweep = [this] {
    EXPECT_EQ(testing::InChild([this] {
                RemoveUnownedSpools(root());
                return 0;
              }),
              0);
  };
  disk_.before_name = sweep;  // Locked by then.
  GRADTAP_EXPECT_OK(Create());
  EXPECT_TRUE(std::filesystem::exists(folder()));
}

TEST_F(SpoolFolderTest, AFolderThatVanishesWhileItIsMadeIsMadeAgain) {
  for (auto at : {&HookedDisk::folder_made, &HookedDisk::owner_made}) {
    int times = 0;
    disk_.*at = [&] {
      if (++times < 4) std::filesystem::remove_all(unowned());
    };
    auto made = Create();
    disk_.*at = nullptr;
    GRADTAP_ASSERT_OK(made);
    EXPECT_EQ(times, 4);
    EXPECT_EQ(testing::NamesIn(folder()), std::vector<std::string>{"owner"});
    (*made)->RemoveIfEmpty();
  }
}

TEST_F(SpoolFolderTest, AFolderThatVanishesEachTimeIsAnErrorAndNotForEver) {
  disk_.folder_made = [this] { std::filesystem::remove_all(unowned()); };
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable,
                                 HasSubstr("another process")));
  disk_.folder_made = nullptr;
  GRADTAP_EXPECT_OK(Create());
}

// As a sweeper has it for a moment.
TEST_F(SpoolFolderTest, AFolderThatAnotherProcessHasLockedIsTriedAgainLater) {
  std::unique_ptr<ForkedChild> sweeper;
  disk_.owner_made = [&] {
    if (sweeper != nullptr) return;
    sweeper = std::make_unique<ForkedChild>([this] {
      const int fd = ::open((unowned() + "/owner").c_str(), O_RDWR);
      struct flock lock {};
      lock.l_type = F_WRLCK;
      if (::fcntl(fd, F_SETLK, &lock) != 0) ::_exit(1);
    });
  };
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable,
                                 HasSubstr("another process")));
  sweeper->Kill();
  GRADTAP_EXPECT_OK(Create());
  EXPECT_THAT(testing::NamesIn(root()), ElementsAre(kNonceName));
}

TEST_F(SpoolFolderTest, AFailureOnTheWayIsNotInTheWayOfTheNextTry) {
  disk_.folder_made = [this] { ::chmod(unowned().c_str(), 0755); };
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("0755")));
  disk_.folder_made = nullptr;
  std::filesystem::remove_all(unowned());  // Not private: left alone.
  disk_.folder_sync_error = EIO;
  EXPECT_THAT(Create(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("fsync")));
  EXPECT_TRUE(std::filesystem::is_empty(root()));
  disk_.folder_sync_error = 0;
  disk_.rename_error = EIO;
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable,
                                 HasSubstr("cannot be made")));
  EXPECT_TRUE(std::filesystem::is_empty(root()));
  disk_.rename_error = 0;
  GRADTAP_EXPECT_OK(Create());
}

TEST_F(SpoolFolderTest, WhatIsNoUnfinishedFolderOfOursStays) {
  namespace fs = std::filesystem;
  const auto name = [this](char digit) {
    return root() + "/" + UnownedName(std::string(32, digit));
  };
  fs::create_directories(root());
  testing::WriteAll(name('0'), "a file");
  const auto make = [](const std::string& path, mode_t mode) {
    ASSERT_EQ(::mkdir(path.c_str(), mode), 0);
    testing::WriteAll(path + "/owner", "");
  };
  make(dir_.path() + "/elsewhere", 0700);
  fs::create_symlink(dir_.path() + "/elsewhere", name('1'));
  make(name('2'), 0755);  // Others may read it.
  make(name('3'), 0700);
  testing::WriteAll(name('3') + "/thesis.tex", "");
  make(name('4'), 0700);
  fs::remove(name('4') + "/owner");
  fs::create_symlink(dir_.path() + "/elsewhere/owner", name('4') + "/owner");
  make(root() + "/.0123.new", 0700);
  make(name('5'), 0700);  // The one that is.
  auto before = testing::NamesIn(root());
  RemoveUnownedSpools(root());
  std::erase(before, fs::path(name('5')).filename().string());
  EXPECT_EQ(testing::NamesIn(root()), before);
  for (const char digit : {'1', '2', '3', '4'}) {
    EXPECT_TRUE(fs::exists(name(digit) + "/owner")) << digit;
  }
}

}  // namespace
}  // namespace gradtap::agent
