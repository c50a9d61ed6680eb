// The folder of one process's spool: made, opened, and owned by one process at
// a time.
//
//   ROOT/NONCE/owner       locked by whoever writes or delivers the rest
//   ROOT/NONCE/SEQ.seg     segments; SEQ: 20 digits, of the first record
//   ROOT/NONCE/SEQ.bad     set aside: unreadable, or delivered as far as it is
//                          readable. Nothing of ours deletes it
//   ROOT/NONCE/SEQ.schema  a schema that segments, or the ring, refer to
//   ROOT/NONCE/SEQ.tmp     a segment that had no record yet
//   ROOT/.NONCE.new        a folder that nobody owned yet
//
// NONCE is 32 hex digits. Folders are 0700, files 0600. No symbolic link is
// followed.
//
// Layer: agent/spool. This file: std, absl, core.

#ifndef GRADTAP_AGENT_SPOOL_FOLDER_H_
#define GRADTAP_AGENT_SPOOL_FOLDER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spool/owned_file.h"
#include "agent/spool/syscalls.h"

namespace gradtap::agent {

enum class SpoolUse {
  // The records leave: the folder is ours alone, and private.
  kTakeOver,
  // Somebody's copy: nothing in it is changed, and its modes may be any.
  kCopy,
};

// [Threading] One thread at a time.
class SpoolFolder {
 public:
  // Makes `root` if need be, and ROOT/NONCE in it, owned by this process; what
  // others did not live to own goes (RemoveUnownedSpools). An error leaves
  // nothing behind that would be in the way of another try.
  // kFailedPrecondition: a network file system, a symbolic link, or a folder
  // that others may write; kPermissionDenied, kResourceExhausted, kUnavailable
  // as the system says. Each names the folder.
  static absl::StatusOr<std::unique_ptr<SpoolFolder>> Create(
      const std::string& root, std::string_view nonce, Syscalls* syscalls);

  // kNotFound: there is none. kFailedPrecondition: its owner lives, or it is
  // not what Create() makes (and kTakeOver wants).
  static absl::StatusOr<std::unique_ptr<SpoolFolder>> Open(
      const std::string& path, SpoolUse use, Syscalls* syscalls);

  ~SpoolFolder();  // Ends the ownership.
  SpoolFolder(const SpoolFolder&) = delete;
  SpoolFolder& operator=(const SpoolFolder&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  SpoolUse use() const { return use_; }
  Syscalls* syscalls() const { return syscalls_; }

  struct File {
    std::string name;
    std::uint64_t first_seq = 0;
    bool bad = false;
  };
  // Segments and what was set aside, by first_seq.
  absl::StatusOr<std::vector<File>> List() const;
  // Schemas that are kept, the same way.
  absl::StatusOr<std::vector<File>> ListSchemas() const;

  // Removes the folder if nothing that counts is in it; else leaves it.
  void RemoveIfEmpty();

 private:
  SpoolFolder(std::string path, int fd, SpoolUse use, Syscalls* syscalls)
      : path_(std::move(path)), fd_(fd), use_(use), syscalls_(syscalls) {}

  // kNotFound, kAlreadyExists, or LiveOwner(): somebody has cleared it away.
  static absl::StatusOr<std::unique_ptr<SpoolFolder>> TryCreate(
      const std::string& root, int root_fd, const std::string& name,
      Syscalls* syscalls);
  absl::Status Lock();

  std::string path_;
  const int fd_;
  const SpoolUse use_;
  Syscalls* const syscalls_;
  std::unique_ptr<OwnedFile> owner_;  // None: a copy that has no such file.
};

// 32 hex digits.
bool IsNonceName(std::string_view name);

// ".NONCE.new": what nobody owned yet.
std::string UnownedName(std::string_view nonce_name);
bool IsUnownedName(std::string_view name);

// "SEQ.seg" and so on.
std::string SegmentName(std::uint64_t first_seq, std::string_view suffix);

// Removes the folders in `root` that processes were making when they died: of
// this user, 0700, with nothing in them but an owner file that nobody has
// locked. Best effort. A living process whose folder goes begins again.
void RemoveUnownedSpools(const std::string& root,
                         Syscalls* syscalls = RealSyscalls());

// The spools of a root, as paths; of a spool's own folder, that path. kNotFound
// if there is no such folder.
absl::StatusOr<std::vector<std::string>> FindSpools(const std::string& path);

// OK if `type` (statfs) is of a file system on this machine. The message names
// what it is.
absl::Status CheckLocalFileSystem(std::int64_t type);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_FOLDER_H_
