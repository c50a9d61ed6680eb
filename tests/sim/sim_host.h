// The host of the training processes: its disk, where their spools are, and its
// shared memory, where their rings are.
//
// Both are real folders of the test's own, so that the code under test finds
// what it has made. A sync writes nothing to a disk: it notes what a loss of
// power cannot take any more. Of the rest that takes some: names as a journal
// does (the newest changes go, in order), bytes from the end of each file,
// which may have zeros in their place.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_HOST_H_
#define GRADTAP_TESTS_SIM_SIM_HOST_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/spool/syscalls.h"
#include "sim/mutant.h"
#include "sim/world.h"
#include "support/temp_dir.h"

namespace gradtap::sim {

// Thrown where a process dies in the middle of a call of the disk.
struct ProcessDies {};

class SimHost {
 public:
  enum class State { kGood, kFull, kFailsWrites, kFailsSyncs, kFailsReads };

  SimHost(World* world, Mutant mutant);

  const std::string& spools() const { return spools_; }
  const std::string& rings() const { return rings_; }
  // A new folder with a copy of what a process has there now. Empty: nothing.
  std::string Copy(const std::string& nonce_hex);

  State state = State::kGood;
  bool memory_full = false;  // No room for another ring.

  // All processes must be dead. By spool (NONCE as hex) the last seq that can
  // still be read; 0: none. Throws a Violation if something is gone that a
  // closed segment held.
  std::map<std::string, std::uint64_t> LosePower();

 private:
  friend class ProcessDisk;

  // A change of names that no sync has made safe.
  struct Change {
    enum class Kind { kMade, kFolderMade, kRenamed, kDeleted, kFolderDeleted };
    Kind kind = Kind::kMade;
    std::string path;
    std::string other;  // kRenamed: its new name. kDeleted: where it waits.
  };

  bool OnDisk(const std::string& path) const;
  void Note(Change change);
  void MakeNamesSafe();
  void Undo(const Change& change);
  void CheckClosedSegments() const;
  void TearFiles();

  World* const world_;
  const Mutant mutant_;
  const testing::TempDir dir_;
  const std::string spools_, rings_, trash_;
  std::vector<Change> journal_;
  std::map<ino_t, std::int64_t> safe_bytes_;  // Of files with more than those.
  std::set<ino_t> sync_failed_;
  bool names_sync_failed_ = false;  // The last one.
  std::uint64_t trashed_ = 0;
  std::uint64_t copies_ = 0;
};

// The system calls of one process of the host.
class ProcessDisk : public agent::Syscalls {
 public:
  ProcessDisk(SimHost* host, World* world, Mutant mutant)
      : host_(host), world_(world), mutant_(mutant) {}

  // From now on nothing that the process does changes anything.
  void Die() { dead_ = true; }
  // It dies in one of the next calls: before it, after it, or halfway.
  void DieSoon() { die_in_ = 1 + world_->random().Below(6); }
  // It may not, while it ends in order.
  void DoNotDie() { die_in_ = 0; }
  // Also if the call could not throw: look after each turn.
  bool dead() const { return dead_; }

  int OpenAt(int folder, const char* name, int flags, mode_t mode) override;
  int MakeFolderAt(int folder, const char* name, mode_t mode) override;
  ssize_t Write(int fd, const iovec* pieces, int count) override;
  ssize_t ReadAt(int fd, char* out, std::size_t bytes, off_t offset) override;
  int Truncate(int fd, off_t bytes) override;
  int Allocate(int fd, off_t bytes) override;
  int PunchHole(int fd, off_t offset, off_t bytes) override;
  int SyncData(int fd) override;
  int SyncFolder(int fd) override;
  int RenameAt(int folder, const char* from, const char* to) override;
  int UnlinkAt(int folder, const char* name) override;
  int RemoveFolder(const char* path) override;
  std::int64_t FileSystemType(int) override { return 0xef53; }  // ext4.
  std::int64_t FreeBytes(int) override { return std::int64_t{1} << 40; }

 private:
  enum class Point { kNone, kBefore, kAfter };
  // Whether the process dies in this call.
  Point Next();
  // Does `call`, unless the process dies before it. Of calls that destructors
  // make, none throws.
  template <typename Call>
  int Do(bool may_throw, Call call);
  // -errno of a change that the disk refuses; 0: it does not.
  int Refusal(const std::string& path) const;

  SimHost* const host_;
  World* const world_;
  const Mutant mutant_;
  bool dead_ = false;
  std::uint64_t die_in_ = 0;  // Calls; 0: not at all.
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_HOST_H_
