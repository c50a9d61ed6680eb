// The system calls that a spool makes to change or identify files, so that a
// test can make them fail. What they mean is what the kernel says.
//
// Layer: agent/spool. This file: std and system headers.

#ifndef GRADTAP_AGENT_SPOOL_SYSCALLS_H_
#define GRADTAP_AGENT_SPOOL_SYSCALLS_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace gradtap::agent {

// Each returns what the kernel does, or -errno. Thread-safe.
class Syscalls {
 public:
  virtual ~Syscalls() = default;

  // Adds O_CLOEXEC | O_NOFOLLOW.
  virtual int OpenAt(int folder, const char* name, int flags, mode_t mode);
  virtual int MakeFolderAt(int folder, const char* name, mode_t mode);
  virtual ssize_t Write(int fd, const iovec* pieces, int count);
  virtual ssize_t ReadAt(int fd, char* out, std::size_t bytes, off_t offset);
  virtual int Truncate(int fd, off_t bytes);
  // posix_fallocate from the start, piece by piece: after a failure a part may
  // be there. -EFBIG beyond RLIMIT_FSIZE, without the signal.
  virtual int Allocate(int fd, off_t bytes);
  // Gives back what lies there; the file stays as long.
  virtual int PunchHole(int fd, off_t offset, off_t bytes);
  virtual int SyncData(int fd);
  virtual int SyncFolder(int fd);
  virtual int RenameAt(int folder, const char* from, const char* to);
  virtual int UnlinkAt(int folder, const char* name);
  virtual int RemoveFolder(const char* path);
  // statfs's f_type.
  virtual std::int64_t FileSystemType(int fd);
  // What this user may still take there.
  virtual std::int64_t FreeBytes(int fd);
};

// The kernel's; never destroyed.
Syscalls* RealSyscalls();

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_SYSCALLS_H_
