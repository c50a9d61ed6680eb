// A ring in a file of shared memory: what a process wrote into it survives the
// process, and another process of the same user delivers it.
//
//   FOLDER/NONCE.ring   0600, locked by its owner for life
//   FOLDER/.NONCE.new   one that nobody has owned yet
//
// FOLDER is ring_folder.h's, 0700. NONCE is 32 hex digits. No symbolic
// link is followed. All pages are allocated when the file is made: a lack of
// memory is an error then, and never a signal to the training program. Of a
// file that is left behind only what holds records stays allocated.
//
// Format, all numbers little-endian:
//
//   file    := head control identity spool_root pad ring
//   head    := "GTRING01" version:u32 (2) header_bytes:u32 (before the ring)
//              capacity:u64 (of the ring) reserve:u64 entry_head_bytes:u32
//              identity_bytes:u32 spool_root_bytes:u32 zero:u32
//              hash:u64 (StableHash64 of head before it, identity, spool_root)
//   control := RingControl, at byte 64
//   identity:= the header of a spool segment (agent/spool/segment.h), at 256;
//              in version 1 of version 1
//   ring    := entries as in ring.h
//
// header_bytes and capacity are multiples of the page size. A version never
// changes its meaning; readers refuse versions that they do not know.
//
// Layer: agent/delivery. This file: std, absl, core, agent/spool; no grpc, no
// *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RING_FILE_H_
#define GRADTAP_AGENT_DELIVERY_RING_FILE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/ring_folder.h"
#include "agent/spool/folder.h"
#include "agent/spool/owned_file.h"
#include "agent/spool/segment.h"
#include "agent/spool/syscalls.h"

namespace gradtap::agent {

struct RingFileOptions {
  std::string folder;              // An absolute path.
  std::size_t capacity_bytes = 0;  // Rounded up to pages.
  std::size_t reserve_bytes = 0;
  SpoolIdentity identity;
  std::string spool_root;  // Where the same process spools; may be empty.
};

// [Threading] One thread at a time. The ring that it hands out has its own
// rules. A forked child may destroy one; that, like all else, does nothing
// there.
class RingFile {
 public:
  // Makes FOLDER, but not what it lies in, and the file, in place of one of the
  // same nonce. kFailedPrecondition: a symbolic link, or others may reach the
  // folder; kResourceExhausted: no room, or the file would take more than half
  // of what is free there; else what the system says. Each names the path.
  static absl::StatusOr<std::unique_ptr<RingFile>> Create(
      const RingFileOptions& options, Syscalls* syscalls = RealSyscalls());

  // What an ended process has left. kTakeOver: what is freed is noted in the
  // file; kCopy: the file is read into memory, and not changed.
  // kFailedPrecondition: its owner lives, or it is not as Create() makes it
  // (and kTakeOver wants); kNotFound: it is gone; kUnimplemented: a format of
  // another version; kDataLoss: what stands before the records cannot be read.
  static absl::StatusOr<std::unique_ptr<RingFile>> Open(
      const std::string& path, SpoolUse use,
      Syscalls* syscalls = RealSyscalls());

  // Ends the ownership; the file stays unless removed. No ring may be in use.
  ~RingFile();
  RingFile(const RingFile&) = delete;
  RingFile& operator=(const RingFile&) = delete;

  // The ring, once; it may not outlive the ownership. Of an ended process, the
  // consumer's side alone.
  std::unique_ptr<Ring> TakeRing() { return std::move(ring_); }
  const Ring* ring() const { return ring_.get(); }  // Null: it is taken.

  const std::string& path() const { return path_; }
  const SpoolIdentity& identity() const { return identity_; }
  const std::string& spool_root() const { return spool_root_; }
  // What Open() found damaged, for people; the records before it are in the
  // ring.
  const std::vector<std::string>& problems() const { return problems_; }

  // Deletes the file. Not a copy (kFailedPrecondition). The ring can be used
  // as before, but dies with the process. Idempotent.
  absl::Status Remove();

  // Gives back the pages that hold no record, unless there are problems(). Only
  // when nothing is put into the ring any more; it may be read meanwhile.
  void Trim() noexcept;

 private:
  class Header;

  RingFile(std::string path, int folder, Syscalls* syscalls);

  absl::Status Make(const RingFileOptions& options);
  absl::Status TryMake(const RingFileOptions& options);
  absl::Status Fill(const RingFileOptions& options);
  absl::Status Load(SpoolUse use);
  absl::Status LoadHeader(std::size_t file_bytes, RingControl* words);
  // Cuts `words` where the file has no pages for them.
  void CutAtHole(RingControl* words);
  absl::Status ReadRing(const RingControl& words, char* out) const;
  absl::Status ReadAt(std::size_t offset, std::size_t bytes, char* out) const;
  absl::Status Damaged(const std::string& what) const;
  std::shared_ptr<RingControl> MappedWords() const;
  void RemoveUnfinished() const;

  const std::string path_;
  const std::string name_;
  const int folder_;
  Syscalls* const syscalls_;
  const pid_t process_;
  std::unique_ptr<OwnedFile> file_;  // None once a copy has been read.
  std::shared_ptr<Header> header_;   // Mapped; none of a copy.
  std::size_t header_bytes_ = 0;
  std::size_t capacity_ = 0;
  SpoolIdentity identity_;
  std::string spool_root_;
  std::vector<std::string> problems_;
  std::unique_ptr<Ring> ring_;
  bool removed_ = false;
};

// RingFile::Open() of what is to be delivered and then removed.
absl::StatusOr<std::unique_ptr<RingFile>> OpenRingFile(const std::string& path);

// The rings of a folder, as paths, those of living processes too. kNotFound if
// there is no such folder.
absl::StatusOr<std::vector<std::string>> FindRingFiles(
    const std::string& folder);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_FILE_H_
