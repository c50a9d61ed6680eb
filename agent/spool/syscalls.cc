#include "agent/spool/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace gradtap::agent {
namespace {

template <typename Call>
auto Retried(Call call) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(result)>(-errno);
  }
}

constexpr off_t kAllocatedAtOnce = off_t{1} << 20;
constexpr off_t kPage = 4096;

// Beyond it the kernel not only refuses: it sends SIGXFSZ, which ends a
// process.
bool ExceedsFileLimit(off_t bytes) {
  struct rlimit limit {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
         limit.rlim_cur != RLIM_INFINITY &&
         static_cast<std::uint64_t>(bytes) > limit.rlim_cur;
}

}  // namespace

int Syscalls::OpenAt(int folder, const char* name, int flags, mode_t mode) {
  return Retried([&] {
    return ::openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
  });
}

int Syscalls::MakeFolderAt(int folder, const char* name, mode_t mode) {
  return Retried([&] { return ::mkdirat(folder, name, mode); });
}

ssize_t Syscalls::Write(int fd, const iovec* pieces, int count) {
  return Retried([&] { return ::writev(fd, pieces, count); });
}

ssize_t Syscalls::ReadAt(int fd, char* out, std::size_t bytes, off_t offset) {
  return Retried([&] { return ::pread(fd, out, bytes, offset); });
}

int Syscalls::Truncate(int fd, off_t bytes) {
  return Retried([&] { return ::ftruncate(fd, bytes); });
}

// In pieces: a memory file system undoes what it has not finished when a signal
// comes, and all at once would begin anew for ever beside a profiler's timer.
int Syscalls::Allocate(int fd, off_t bytes) {
  if (ExceedsFileLimit(bytes)) return -EFBIG;
  off_t piece = kAllocatedAtOnce;
  for (off_t at = 0; at < bytes;) {
    const off_t now = std::min(piece, bytes - at);
    const int error = ::posix_fallocate(fd, at, now);
    if (error == EINTR) {
      piece = std::max<off_t>(piece / 2, kPage);
    } else if (error != 0) {
      return -error;
    } else {
      at += now;
    }
  }
  return 0;
}

int Syscalls::PunchHole(int fd, off_t offset, off_t bytes) {
  return Retried([&] {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                       bytes);
  });
}

int Syscalls::SyncData(int fd) {
  return Retried([&] { return ::fdatasync(fd); });
}

int Syscalls::SyncFolder(int fd) {
  return Retried([&] { return ::fsync(fd); });
}

int Syscalls::RenameAt(int folder, const char* from, const char* to) {
  return Retried([&] { return ::renameat(folder, from, folder, to); });
}

int Syscalls::UnlinkAt(int folder, const char* name) {
  return Retried([&] { return ::unlinkat(folder, name, 0); });
}

int Syscalls::RemoveFolder(const char* path) {
  return Retried([&] { return ::rmdir(path); });
}

std::int64_t Syscalls::FileSystemType(int fd) {
  struct statfs about {};
  if (::fstatfs(fd, &about) != 0) return -errno;
  return static_cast<std::int64_t>(about.f_type) & 0xffffffff;
}

std::int64_t Syscalls::FreeBytes(int fd) {
  struct statvfs about {};
  if (::fstatvfs(fd, &about) != 0) return -errno;
  // A tmpfs without a limit says that it has no blocks.
  if (about.f_blocks == 0) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(about.f_bavail * about.f_frsize);
}

Syscalls* RealSyscalls() {
  static Syscalls* const real = new Syscalls;
  return real;
}

}  // namespace gradtap::agent
