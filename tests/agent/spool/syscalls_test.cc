#include "agent/spool/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/forked_child.h"

namespace {

// What is allocated at once before a signal comes, which undoes it. 0: none
// comes.
off_t between_signals = 0;
int calls = 0;

}  // namespace

// In place of the C library's, in this binary.
extern "C" int posix_fallocate(int fd, off_t offset, off_t bytes) {
  if (++calls > 10'000) return EIO;  // Who begins anew for ever.
  if (between_signals > 0 && bytes > between_signals) return EINTR;
  return ::fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}

namespace gradtap::agent {
namespace {

constexpr off_t kMiB = off_t{1} << 20;

class AllocateTest : public ::testing::Test {
 protected:
  AllocateTest() {
    between_signals = 0;
    calls = 0;
  }
  ~AllocateTest() override { ::close(fd_); }

  off_t Size() const {
    struct stat about {};
    EXPECT_EQ(::fstat(fd_, &about), 0);
    EXPECT_GE(about.st_blocks * 512, about.st_size) << "there are holes";
    return about.st_size;
  }

  const int fd_ = ::memfd_create("gradtap-test", MFD_CLOEXEC);
  Syscalls* const real_ = RealSyscalls();
};

TEST_F(AllocateTest, AllOfItIsThere) {
  EXPECT_EQ(real_->Allocate(fd_, 3 * kMiB + 4096), 0);
  EXPECT_EQ(Size(), 3 * kMiB + 4096);
}

TEST_F(AllocateTest, SignalsThatUndoWhatIsNotFinishedOnlyDelayIt) {
  between_signals = 2 * kMiB;
  EXPECT_EQ(real_->Allocate(fd_, 8 * kMiB), 0);
  EXPECT_EQ(Size(), 8 * kMiB);
  between_signals = 4096;  // A page is the least that there is.
  EXPECT_EQ(real_->Allocate(fd_, 9 * kMiB), 0);
  EXPECT_EQ(Size(), 9 * kMiB);
}

TEST_F(AllocateTest, WhatTheKernelRefusesIsSaid) {
  EXPECT_EQ(real_->Allocate(-1, kMiB), -EBADF);
}

TEST_F(AllocateTest, BeyondTheLimitOnFilesItIsRefusedAndTheProcessLives) {
  EXPECT_EQ(testing::InChild([&] {
              ::signal(SIGXFSZ, SIG_DFL);
              const rlimit limit{kMiB, kMiB};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              if (real_->Allocate(fd_, kMiB + 1) != -EFBIG) return 1;
              return real_->Allocate(fd_, kMiB) == 0 ? 0 : 2;
            }),
            0);
  EXPECT_EQ(Size(), kMiB);
}

}  // namespace
}  // namespace gradtap::agent
