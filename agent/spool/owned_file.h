// What files of one process at a time have in common: private folders, and a
// file that its owner has locked.
//
// The lock is fcntl's record lock: it ends with the process, whatever children
// it has forked (they would keep flock's and an open file description's). It
// does not keep the process itself out, and is lost when any descriptor of the
// file is closed: a list of what this process owns sees to both.
//
// Layer: agent/spool. This file: std, absl, core.

#ifndef GRADTAP_AGENT_SPOOL_OWNED_FILE_H_
#define GRADTAP_AGENT_SPOOL_OWNED_FILE_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spool/syscalls.h"

namespace gradtap::agent {

// A path in a message: quoted, and harmless on a terminal.
std::string Shown(const std::string& path);

// The process that has the file, if that is why Open() has refused it; 0 if the
// system does not tell which.
std::optional<std::int64_t> LiveOwner(const absl::Status& status);

// "PATH: WHAT: why", with the code that fits `error` (an errno).
absl::Status FileError(const std::string& path, std::string_view what,
                       int error);

// A descriptor of a folder, which the caller closes. kNotFound: there is none;
// kFailedPrecondition: it is a symbolic link. `path` is for messages.
absl::StatusOr<int> OpenFolder(int at, const std::string& name,
                               const std::string& path, Syscalls* syscalls);

// kFailedPrecondition unless it is of this user, and nobody else may read it or
// put something into it.
absl::Status CheckPrivate(const std::string& path, int fd);

// The names in a folder that `fits` says yes to, sorted.
absl::StatusOr<std::vector<std::string>> NamesIn(
    int folder, const std::string& path, Syscalls* syscalls,
    const std::function<bool(std::string_view)>& fits);

// [Threading] Any thread may open any file; one object, one thread at a time.
// A forked child that destroys one leaves everything as it is.
class OwnedFile {
 public:
  enum class Lock { kExclusive, kShared };

  // Opens NAME in `folder`, no symbolic link, and locks it. `path` is for
  // messages. kFailedPrecondition: somebody owns it, who is named, or it is no
  // regular file; kNotFound: there is none (any more). A kShared lock is done
  // without where the file system has none.
  static absl::StatusOr<std::unique_ptr<OwnedFile>> Open(
      int folder, const std::string& name, int flags, Lock lock,
      const std::string& path, Syscalls* syscalls);

  ~OwnedFile();  // Ends the ownership.
  OwnedFile(const OwnedFile&) = delete;
  OwnedFile& operator=(const OwnedFile&) = delete;

  int fd() const { return fd_; }
  // True if NAME in `folder` is this very file.
  bool IsAt(int folder, const std::string& name) const;

 private:
  OwnedFile(int fd, dev_t device, ino_t inode);

  const int fd_;
  const dev_t device_;
  const ino_t inode_;
  const pid_t process_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_OWNED_FILE_H_
