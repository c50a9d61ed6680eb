// What a process has left that lives no more: found, opened, ready to be
// delivered in its name.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_LEFTOVER_H_
#define GRADTAP_AGENT_DELIVERY_LEFTOVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/delivery/backlog.h"
#include "agent/delivery/books.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/session.h"
#include "agent/spool/spool.h"

namespace gradtap::agent {

// Where something of one process lies. Nothing is opened yet.
struct LeftoverPlace {
  std::string spool;  // Its folder; empty: none that is known.
  std::string ring;   // Its file; empty: none.
  // What is in the spool has been delivered before, as far as it could be read,
  // and there is no ring.
  bool set_aside = false;

  const std::string& path() const { return spool.empty() ? ring : spool; }
};

// `folder`: a spool's own, or one of spools and copies of rings.
// `ring_folder`: where rings are, if somewhere else; of those without a spool
// in `folder`, all or none. Cheap. kNotFound if there is no such folder.
absl::StatusOr<std::vector<LeftoverPlace>> FindLeftovers(
    const std::string& folder, const std::string& ring_folder = "",
    bool lone_rings = false);

// "process 4242 of run x, rank 3"; escaped.
std::string Describe(const SpoolIdentity& identity);

// Whether what that process has left may be brought to `collector`: it is for
// it, or for any.
bool IsFor(const SpoolIdentity& identity, const std::string& collector);

// What a person types to deliver what is for `collector` there (empty: for
// any); all that is in `folder`, or, empty, in the usual places. For a shell
// and a terminal.
std::string DrainCommand(const std::string& collector,
                         const std::string& folder = "");

// [Threading] One thread. Waits for the disk.
class Leftover {
 public:
  // kTakeOver: nobody else has it from now on, and what is acknowledged is
  // deleted; a ring comes with the spool that its process says it has. kCopy:
  // nothing in it is changed. Errors as of Spool::Open() and RingFile::Open():
  // LiveOwner() tells if its process lives. kNotFound: nothing is in it (and,
  // taken over, an empty ring goes); kDataLoss: nothing that can be read.
  static absl::StatusOr<std::unique_ptr<Leftover>> Open(
      const LeftoverPlace& place, SpoolUse use,
      Syscalls* syscalls = RealSyscalls());

  // The same in pieces, for those who have other duties (Spool::Opening).
  class Opening;

  ~Leftover();  // Taken over, a ring and a spool of which nothing is left go.
  Leftover(const Leftover&) = delete;
  Leftover& operator=(const Leftover&) = delete;

  const std::string& path() const { return path_; }
  SpoolUse use() const { return use_; }
  const SpoolIdentity& identity() const { return identity_; }
  std::string Description() const { return Describe(identity_); }
  // Steps with statistics that it was opened with.
  std::uint64_t steps() const { return steps_; }
  // The spool that the ring's process says it has, if it cannot be seen from
  // here (its disk is not mounted, it is on another host, it was removed).
  // Empty: that is not so. A collector that wants what may be in it refuses the
  // ring, which then stays as it is.
  const std::string& unseen_spool() const { return unseen_spool_; }
  // What may be in that spool is lost, and told as a gap.
  void GiveUpUnseenSpool() { given_up_ = true; }

  // Steps whose schema neither the collector has nor anybody here are lost, and
  // told as gaps. Else such a leftover is refused, and stays as it is.
  void GiveUpStepsWithoutSchema() { schema_given_up_ = true; }

  // All that a Hello says.
  SessionOptions MakeSessionOptions() const;
  Backlog* backlog() { return &backlog_; }
  // Its own: admitted is what it was opened with.
  Books* books() { return &books_; }

  // What was found, or has failed on disk, since the last call; for people.
  std::vector<std::string> TakeProblems();

 private:
  Leftover(std::string path, SpoolUse use, std::unique_ptr<Spool> spool,
           std::unique_ptr<RingFile> file, std::string unseen_spool,
           std::vector<std::string> problems);

  bool empty() const { return backlog_.first_seq() > backlog_.last_seq(); }
  void Count();

  const std::string path_;
  const SpoolUse use_;
  const SpoolIdentity identity_;
  const std::string unseen_spool_;
  const std::unique_ptr<RingFile> file_;  // May be null, as the next.
  const std::unique_ptr<Ring> ring_;
  Backlog backlog_;
  std::vector<std::string> problems_;
  Books books_;
  std::uint64_t steps_ = 0;
  bool given_up_ = false;
  bool schema_given_up_ = false;
};

// [Threading] As the leftover. Dropped before it is done, it leaves what is
// there as it is.
class Leftover::Opening {
 public:
  // What it is of is owned from now on; errors as of Open().
  static absl::StatusOr<std::unique_ptr<Opening>> Begin(
      const LeftoverPlace& place, SpoolUse use,
      Syscalls* syscalls = RealSyscalls());

  // Reads a little. Null: there is more to read. Else it is done.
  absl::StatusOr<std::unique_ptr<Leftover>> Step();

  // Whose it is, as soon as that is known, which is long before all is read.
  // Null: not yet.
  const SpoolIdentity* identity() const;

 private:
  Opening(std::string path, std::string spool_path, SpoolUse use,
          std::unique_ptr<RingFile> file)
      : path_(std::move(path)),
        spool_path_(std::move(spool_path)),
        use_(use),
        file_(std::move(file)) {}

  absl::StatusOr<std::unique_ptr<Leftover>> Finish(
      std::unique_ptr<Spool> spool);

  const std::string path_;
  const std::string spool_path_;  // May be empty.
  std::string unseen_spool_;      // The same.
  const SpoolUse use_;
  std::unique_ptr<RingFile> file_;         // Null: there is none.
  std::unique_ptr<Spool::Opening> spool_;  // The same.
  std::vector<std::string> problems_;      // Of a spool without a record.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_LEFTOVER_H_
