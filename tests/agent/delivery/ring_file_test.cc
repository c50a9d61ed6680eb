#include "agent/delivery/ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "agent/delivery/ring_file_fixtures.h"
#include "agent/delivery/ring_maker.h"
#include "support/forked_child.h"

namespace gradtap::agent {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::ExpectNumbered;
using testing::ForkedChild;
using testing::FreeNumbered;
using ::testing::HasSubstr;
using testing::InChild;
using ::testing::IsEmpty;
using testing::NamesIn;
using testing::OrphanOf;
using testing::PutNumbered;
using testing::ReadAll;
using testing::RingFileTest;
using testing::StatusIs;
using testing::WriteAll;

// Memory that is short.
class ShortMemory : public Syscalls {
 public:
  int allocate_error = 0;
  std::int64_t free_bytes = std::int64_t{1} << 40;
  int rename_error = 0;

  int Allocate(int fd, off_t bytes) override {
    return allocate_error != 0 ? -allocate_error
                               : Syscalls::Allocate(fd, bytes);
  }
  std::int64_t FreeBytes(int) override { return free_bytes; }
  int RenameAt(int folder, const char* from, const char* to) override {
    return rename_error != 0 ? -rename_error
                             : Syscalls::RenameAt(folder, from, to);
  }
};

// Somebody who starts at the same moment, and clears away what he takes for a
// dead process's: before it is locked, or before it has its name.
class OtherStarter : public Syscalls {
 public:
  OtherStarter(int before_lock, int before_name)
      : before_lock_(before_lock), before_name_(before_name) {}

  int OpenAt(int folder, const char* name, int flags, mode_t mode) override {
    const int fd = Syscalls::OpenAt(folder, name, flags, mode);
    if (fd >= 0 && (flags & O_EXCL) != 0 && before_lock_-- > 0) {
      EXPECT_EQ(Syscalls::UnlinkAt(folder, name), 0);
    }
    return fd;
  }
  int RenameAt(int folder, const char* from, const char* to) override {
    if (before_name_-- > 0) {
      EXPECT_EQ(Syscalls::UnlinkAt(folder, from), 0);
    }
    return Syscalls::RenameAt(folder, from, to);
  }

 private:
  int before_lock_;
  int before_name_;
};

struct stat StatOf(const std::string& path) {
  struct stat about {};
  EXPECT_EQ(::lstat(path.c_str(), &about), 0) << path;
  return about;
}

TEST_F(RingFileTest, IsPrivateAndWholeUnderItsNoncesName) {
  const auto file = Create();
  EXPECT_EQ(file->path(), path());
  EXPECT_EQ(StatOf(folder()).st_mode & 07777, 0700u);
  const struct stat about = StatOf(path());
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_GE(about.st_size, 64 * 1024);
  EXPECT_GE(about.st_blocks * 512, about.st_size) << "not all is allocated";
  auto found = FindRingFiles(folder());
  GRADTAP_ASSERT_OK(found);
  EXPECT_THAT(*found, ElementsAre(path()));
  EXPECT_EQ(NamesIn(folder()).size(), 1u);
}

TEST_F(RingFileTest, WhatAnEndedProcessLeftIsReadWithWhoItWas) {
  Leave(3, 20);
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  EXPECT_EQ((*left)->identity(), testing::MakeIdentity());
  EXPECT_EQ((*left)->spool_root(), "/home/user/spool");
  EXPECT_THAT((*left)->problems(), IsEmpty());
  const auto ring = (*left)->TakeRing();
  EXPECT_EQ(ring->first_seq(), 3u);
  EXPECT_EQ(ring->last_seq(), 20u);
  ExpectNumbered(*ring);
}

TEST_F(RingFileTest, RecordsThatWrapAroundTheEndAreReadWhole) {
  Leave(990, 1000);
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  const auto ring = (*left)->TakeRing();
  EXPECT_EQ(ring->first_seq(), 990u);
  EXPECT_EQ(ring->last_seq(), 1000u);
  ExpectNumbered(*ring);
}

TEST_F(RingFileTest, WhatIsLeftHasNoProducer) {
  Leave(1, 2);
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  const auto ring = (*left)->TakeRing();
  EXPECT_EQ(ring->Reserve({}, 8, Ring::Room::kAll), nullptr);
  EXPECT_EQ(ring->FreeBytes(Ring::Room::kAll), 0u);
}

TEST_F(RingFileTest, WhatIsFreedAndMarkedIsNotedForWhoComesNext) {
  Leave(1, 10);
  {
    auto left = OpenRingFile(path());
    GRADTAP_ASSERT_OK(left);
    const auto ring = (*left)->TakeRing();
    FreeNumbered(ring.get(), 6);
    EntryView entry;
    auto cursor = ring->CursorAt(8);
    ASSERT_TRUE(ring->Next(&cursor, &entry));
    ring->MarkRejected(entry);
  }
  auto again = OpenRingFile(path());
  GRADTAP_ASSERT_OK(again);
  EXPECT_THAT((*again)->problems(), IsEmpty());
  const auto ring = (*again)->TakeRing();
  EXPECT_EQ(ring->first_seq(), 6u);
  ExpectNumbered(*ring);
  auto cursor = ring->CursorAt(6);
  EntryView entry;
  while (ring->Next(&cursor, &entry)) {
    EXPECT_EQ(entry.rejected, entry.seq == 8) << entry.seq;
  }
}

TEST_F(RingFileTest, OnlyPagesWithRecordsStay) {
  constexpr std::int64_t kCapacity = 8 << 20;
  {
    const auto file = Create(kCapacity);
    const auto ring = file->TakeRing();
    for (std::uint64_t seq = 1; seq <= 6000; ++seq) {
      ASSERT_TRUE(PutNumbered(ring.get(), seq));
      FreeNumbered(ring.get(), seq < 10 ? 1 : seq - 9);
    }
    EXPECT_GE(StatOf(path()).st_blocks * 512, kCapacity);
  }
  EXPECT_LT(StatOf(path()).st_blocks * 512, 64 * 1024);
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  EXPECT_THAT((*left)->problems(), IsEmpty());
  const auto ring = (*left)->TakeRing();
  EXPECT_EQ(ring->first_seq(), 5991u);
  EXPECT_EQ(ring->last_seq(), 6000u);
  ExpectNumbered(*ring);
  EXPECT_LT(StatOf(path()).st_blocks * 512, 64 * 1024) << "reading takes pages";
}

TEST_F(RingFileTest, ARemovedFileIsGoneAndItsRingStillWorks) {
  auto file = Create();
  const auto ring = file->TakeRing();
  GRADTAP_EXPECT_OK(file->Remove());
  EXPECT_THAT(NamesIn(folder()), IsEmpty());
  EXPECT_TRUE(PutNumbered(ring.get(), 1));
  ExpectNumbered(*ring);
  GRADTAP_EXPECT_OK(file->Remove());
  EXPECT_THAT(OpenRingFile(path()), StatusIs(absl::StatusCode::kNotFound,
                                             HasSubstr(testing::kRingName)));
}

TEST_F(RingFileTest, ALargerOneTakesThePlaceOfTheFirst) {
  auto small = Create();
  auto large = Create(256 * 1024);
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(NamesIn(folder()).size(), 1u);
  // Neither end of the first one touches the second.
  GRADTAP_EXPECT_OK(small->Remove());
  small.reset();
  ASSERT_TRUE(PutNumbered(large->TakeRing().get(), 1));
  EXPECT_THAT(OpenRingFile(path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("by this process itself")));
  large.reset();
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  EXPECT_EQ((*left)->TakeRing()->last_seq(), 1u);
}

// ---- Owners.

TEST_F(RingFileTest, ASecondOwnerIsRefusedUntilTheFirstIsDead) {
  ForkedChild owner([this] {
    auto* const file = Create().release();
    PutNumbered(file->TakeRing().release(), 1);
  });
  for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
    EXPECT_THAT(RingFile::Open(path(), use),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("in use by process " +
                                   std::to_string(owner.pid()))));
  }
  owner.Kill();
  auto left = OpenRingFile(path());
  GRADTAP_ASSERT_OK(left);
  EXPECT_EQ((*left)->TakeRing()->last_seq(), 1u);
}

TEST_F(RingFileTest, OneProcessDoesNotOwnAFileTwiceNorLosesItByTrying) {
  auto file = Create();
  EXPECT_THAT(OpenRingFile(path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("by this process itself")));
  const auto refused = [this] {
    const std::string owner = "by process " + std::to_string(::getppid());
    const auto left = OpenRingFile(path());
    return !left.ok() && left.status().message().find(owner.c_str()) !=
                             absl::string_view::npos
               ? 0
               : 1;
  };
  EXPECT_EQ(InChild(refused), 0) << "the lock is gone";
  file.reset();
  EXPECT_EQ(InChild([this] { return OpenRingFile(path()).ok() ? 0 : 1; }), 0);
}

TEST_F(RingFileTest, AForkedChildHasNotTheRingAndEndsNothing) {
  auto file = Create();
  const auto ring = file->TakeRing();
  ASSERT_TRUE(PutNumbered(ring.get(), 1));
  const auto mapped = [this] {
    std::ifstream maps("/proc/self/maps");
    const std::string all(std::istreambuf_iterator<char>(maps), {});
    // The name that it was made under, or its own.
    return all.find(folder()) != std::string::npos;
  };
  EXPECT_TRUE(mapped());
  EXPECT_EQ(InChild([&] {
              if (mapped()) return 1;
              if (file->Remove().ok()) return 2;
              file.reset();
              return 0;
            }),
            0);
  ASSERT_TRUE(std::filesystem::exists(path()));
  EXPECT_EQ(InChild([this] { return OpenRingFile(path()).ok() ? 1 : 0; }), 0)
      << "the lock is gone";
  ExpectNumbered(*ring);
}

TEST_F(RingFileTest, AForkedChildThatOutlivesTheOwnerDoesNotOwn) {
  const pid_t orphan = OrphanOf([this] { (void)Create().release(); });
  GRADTAP_EXPECT_OK(OpenRingFile(path()));
  ::kill(orphan, SIGKILL);
}

TEST_F(RingFileTest, WhatNobodyLivedToNameIsClearedAwayUnlessItIsBeingMade) {
  ForkedChild owner([this] { (void)Create().release(); });
  const std::string other = std::string(32, 'a');
  std::filesystem::rename(path(), folder() + "/." + other + ".new");
  WriteAll(folder() + "/." + std::string(32, 'b') + ".new", "left");
  WriteAll(folder() + "/.theirs.new", "not ours");
  const auto file = Create();
  EXPECT_THAT(
      NamesIn(folder()),
      ElementsAre("." + other + ".new", ".theirs.new", testing::kRingName));
}

// ---- Refused.

TEST_F(RingFileTest, ASymbolicLinkIsRefused) {
  std::filesystem::create_directory(dir_.path() + "/real");
  std::filesystem::create_symlink(dir_.path() + "/real", folder());
  EXPECT_THAT(RingFile::Create(Options()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("symbolic link")));
  std::filesystem::remove(folder());
  Leave(1, 1);
  std::filesystem::rename(path(), dir_.path() + "/moved");
  std::filesystem::create_symlink(dir_.path() + "/moved", path());
  EXPECT_THAT(OpenRingFile(path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("symbolic link")));
  // One that waits where the file is made is not written through.
  WriteAll(dir_.path() + "/victim", "safe");
  std::filesystem::create_symlink(
      dir_.path() + "/victim",
      folder() + "/." + std::string(testing::kRingName, 32) + ".new");
  EXPECT_FALSE(RingFile::Create(Options()).ok());
  EXPECT_EQ(ReadAll(dir_.path() + "/victim"), "safe");
}

TEST_F(RingFileTest, WhatOthersMayReachIsRefusedButCopiesAreNot) {
  Leave(1, 5);
  ::chmod(path().c_str(), 0644);
  EXPECT_THAT(OpenRingFile(path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("has mode 0644")));
  GRADTAP_EXPECT_OK(RingFile::Open(path(), SpoolUse::kCopy));
  ::chmod(folder().c_str(), 0750);
  EXPECT_THAT(RingFile::Create(Options()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("has mode 0750")));
}

TEST_F(RingFileTest, AFolderOfAnotherUserIsRefused) {
  RingFileOptions options = Options();
  if (::geteuid() == 0) {
    std::filesystem::create_directory(folder());
    ASSERT_EQ(::chown(folder().c_str(), 4321, 4321), 0);
  } else {
    options.folder = "/usr";
  }
  EXPECT_THAT(
      RingFile::Create(options),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is of user")));
}

TEST_F(RingFileTest, WhereNoFolderCanBeMadeIsNamed) {
  RingFileOptions options = Options();
  options.folder = dir_.path() + "/missing/rings";
  EXPECT_THAT(RingFile::Create(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("missing")));
  EXPECT_THAT(NamesIn(dir_.path()), IsEmpty()) << "only its own folder";
  options.folder = "rings";
  EXPECT_THAT(RingFile::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'rings', is no absolute path")));
  EXPECT_THAT(FindRingFiles(folder()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(folder())));
}

TEST_F(RingFileTest, NoRoomIsAnErrorAndLeavesNothing) {
  ShortMemory memory;
  memory.free_bytes = 128 * 1024;
  EXPECT_THAT(RingFile::Create(Options(), &memory),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("half of the 131072 that are free"),
                             HasSubstr("GRADTAP_RING_BYTES"),
                             HasSubstr("--shm-size"))));
  memory.free_bytes = 1 << 20;
  memory.allocate_error = ENOSPC;
  EXPECT_THAT(RingFile::Create(Options(), &memory),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no room for a ring of 65536 bytes")));
  memory.allocate_error = 0;
  memory.rename_error = EROFS;
  EXPECT_THAT(RingFile::Create(Options(), &memory),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(path())));
  EXPECT_THAT(NamesIn(folder()), IsEmpty());
  memory.rename_error = 0;
  GRADTAP_EXPECT_OK(RingFile::Create(Options(), &memory));
}

TEST_F(RingFileTest, ALimitOnFilesIsSaidAndTheProcessLives) {
  EXPECT_EQ(InChild([&] {
              ::signal(SIGXFSZ, SIG_DFL);
              const rlimit limit{32 * 1024, 32 * 1024};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const auto made = MakeRing(Options(), 64 * 1024);
              return made.status().message().find("(ulimit -f)") !=
                             absl::string_view::npos
                         ? 0
                         : 1;
            }),
            0);
  EXPECT_THAT(NamesIn(folder()), IsEmpty());
}

TEST_F(RingFileTest, OneThatAnotherStarterClearsAwayIsMadeAgain) {
  OtherStarter other(3, 2);
  auto file = RingFile::Create(Options(), &other);
  GRADTAP_ASSERT_OK(file);
  const auto ring = (*file)->TakeRing();
  EXPECT_TRUE(PutNumbered(ring.get(), 1));
  EXPECT_EQ(NamesIn(folder()).size(), 1u);
  EXPECT_EQ(StatOf(path()).st_nlink, 1u);
}

TEST_F(RingFileTest, OneThatIsAlwaysClearedAwayIsAnErrorAndLeavesNothing) {
  for (const bool named : {false, true}) {
    OtherStarter other(named ? 0 : 1'000'000, named ? 1'000'000 : 0);
    EXPECT_THAT(
        RingFile::Create(Options(), &other),
        StatusIs(absl::StatusCode::kUnavailable, HasSubstr("another process")));
    EXPECT_THAT(NamesIn(folder()), IsEmpty());
  }
}

// ---- Copies.

TEST_F(RingFileTest, ACopyIsReadAndNotChanged) {
  Leave(990, 1000);
  ::chmod(path().c_str(), 0440);
  const std::string before = ReadAll(path());
  {
    auto copy = RingFile::Open(path(), SpoolUse::kCopy);
    GRADTAP_ASSERT_OK(copy);
    EXPECT_THAT((*copy)->problems(), IsEmpty());
    const auto ring = (*copy)->TakeRing();
    EXPECT_EQ(ring->first_seq(), 990u);
    ExpectNumbered(*ring);
    EntryView entry;
    auto cursor = ring->CursorAt(990);
    ASSERT_TRUE(ring->Next(&cursor, &entry));
    ring->MarkRejected(entry);
    FreeNumbered(ring.get(), 1001);
    EXPECT_THAT((*copy)->Remove(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
  }
  EXPECT_TRUE(ReadAll(path()) == before);
}

}  // namespace
}  // namespace gradtap::agent
