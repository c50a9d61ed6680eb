// Records of one process on disk, in order, until the collector has them.
//
// The process that records appends; whoever delivers reads by seq and frees
// from the front, whole segments at a time. See README.md for what a crash or a
// loss of power may cost.
//
// Layer: agent/spool. This file: std, absl, core.

#ifndef GRADTAP_AGENT_SPOOL_SPOOL_H_
#define GRADTAP_AGENT_SPOOL_SPOOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/entry.h"
#include "agent/spool/folder.h"
#include "agent/spool/hole.h"
#include "agent/spool/kept_schema.h"
#include "agent/spool/segment.h"

namespace gradtap::agent {

struct SpoolOptions {
  // Of all segments together, set aside ones included.
  std::uint64_t max_bytes = std::uint64_t{1} << 30;
  // A segment is closed once it is as long.
  std::uint64_t segment_bytes = 4u << 20;
};

// [Threading] One thread at a time. Waits for the disk.
class Spool {
 public:
  // A new one in ROOT/NONCE. Errors as of SpoolFolder::Create().
  static absl::StatusOr<std::unique_ptr<Spool>> Create(
      const std::string& root, SpoolIdentity identity, SpoolOptions options,
      Syscalls* syscalls = RealSyscalls());

  // What a process has left. Reads all of it once; damage is no error but in
  // TakeProblems(). kNotFound: it has no record, kDataLoss: none that can be
  // read; but if a schema is kept, it is a spool without one. kUnimplemented: a
  // segment has another format version. kUnavailable and the like: the system
  // does not let one be read, which may pass; nothing has changed then. Others
  // as of SpoolFolder::Open().
  static absl::StatusOr<std::unique_ptr<Spool>> Open(
      const std::string& path, SpoolUse use,
      Syscalls* syscalls = RealSyscalls());

  // The same in pieces: a large one takes seconds (9 ms a segment).
  class Opening;

  ~Spool();  // As Close(); a folder without records goes.
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  const std::string& path() const { return folder_->path(); }
  SpoolUse use() const { return folder_->use(); }
  const SpoolIdentity& identity() const { return identity_; }

  // Records at hand; first_seq() = last_seq() + 1: none. Seqs between that
  // cannot be read count: Read() has something in their place.
  std::uint64_t first_seq() const { return first_seq_; }
  std::uint64_t last_seq() const { return next_seq_ - 1; }
  // On disk.
  std::uint64_t bytes() const { return bytes_; }
  // Steps with statistics among the records that Open() has found.
  std::uint64_t steps_found() const { return steps_found_; }
  // Of the records at hand; none: they tell of no step.
  std::optional<LoopPlace> last_place() const;

  // The next record; the first one has any seq, then without holes. OK: it
  // survives this process. Otherwise it is not in the spool, which is as it was
  // and may be tried again: kResourceExhausted if the spool or the disk is
  // full, else what the system says.
  absl::Status Append(std::uint64_t seq, const EntryMeta& meta,
                      std::string_view bytes);

  // Keeps a schema that is newer than those which are kept, while there may be
  // records that refer to it; best effort. They do not count as segments, and
  // have an eighth of their room.
  void KeepSchema(const KeptSchema& schema);
  // That of the records from `seq` on, if it begins before that; null: there is
  // none.
  const KeptSchema* SchemaBefore(std::uint64_t seq) const;

  // Syncs and closes the segment that is being written, so that all survives a
  // loss of power. An error of this or an earlier sync; Append() may go on.
  absl::Status Close();

  // The record of a seq at hand, valid until the next call. In place of those
  // that cannot be read stand schemas that are kept, else records of no kind
  // (empty), and last what RecordOfHole() tells of them. An error: the segment
  // was readable before; nothing has changed. In a copy those that cannot be
  // read are an error too (kDataLoss): the original may have them.
  absl::StatusOr<EntryView> Read(std::uint64_t seq);

  // The collector has the records before `next_seq` from elsewhere. Of a hole
  // that is in there in part the rest alone is told: where the loop stood
  // before that is not known, as those records cannot be read here.
  void NoteDelivered(std::uint64_t next_seq) { delivered_before_ = next_seq; }

  // What is behind the last record: a hole, or records of which that is the
  // first place; none: they tell of no step.
  void SetBehind(bool hole, std::optional<LoopPlace> first) {
    hole_behind_ = hole;
    behind_ = std::move(first);
  }

  // What stands in place of `seq` in a hole of the seqs from `from` to before
  // `next_seq`, with those places around it. Valid until the next call.
  EntryView StandIn(std::uint64_t seq, std::uint64_t from,
                    std::uint64_t next_seq, std::optional<LoopPlace> before,
                    const std::optional<LoopPlace>& next,
                    std::string_view detail);

  // The records before `next_seq` are not needed any more. Deletes segments
  // that hold no other, but sets aside those with damage; of a copy, none.
  void FreeBefore(std::uint64_t next_seq);

  // Whether the folder stays though no record is in it: the ring of its process
  // may need a schema that it has. So it is with one that Open() gives.
  void StayWithoutRecords(bool stays) { stays_ = stays; }

  // What has been found or has failed since the last call, for people.
  std::vector<std::string> TakeProblems();

 private:
  struct Segment {
    std::string name;
    std::uint64_t first_seq = 0;
    std::uint64_t next_seq = 0;  // After its last readable record.
    std::uint64_t bytes = 0;     // Of the file.
    bool damaged = false;
    bool aside = false;  // Called .bad already.
    std::optional<LoopPlace> first, last;
  };
  struct Loaded {
    std::uint64_t first_seq = 0;
    std::string bytes;
    SegmentContent content;
  };

  explicit Spool(std::unique_ptr<SpoolFolder> folder)
      : folder_(std::move(folder)) {}

  // What a file has; `*damage` is what is wrong with it, if anything is. Errors
  // are those of files that are to be read later, or by a newer version.
  absl::Status ReadSegment(const SpoolFolder::File& file, Segment* segment,
                           std::string* damage);
  // Adds it to segments_. `*readable` becomes true if a record of it can be
  // read.
  absl::Status Take(const SpoolFolder::File& file, bool* readable);
  // An error: one cannot be read for now.
  absl::Status TakeSchemas();
  absl::StatusOr<std::string> ReadFile(const std::string& name) const;
  absl::StatusOr<const Loaded*> Load(const Segment& segment);
  absl::Status OpenSegment(std::uint64_t seq);
  absl::Status CloseSegment();
  void AbandonSegment(std::string_view why);
  void SetAside(Segment* segment);
  std::size_t FindSegment(std::uint64_t seq) const;
  EntryView Missing(std::uint64_t seq, std::size_t before);
  const KeptSchema* Kept(std::uint64_t seq) const;
  absl::Status WriteSchema(const std::string& bytes, std::uint64_t seq);
  void FreeSchemas(std::uint64_t next_seq);
  absl::Status NotInCopy(std::size_t before) const;
  static void NotePlace(const EntryMeta& meta, Segment* segment);
  void Report(std::string problem);

  const std::unique_ptr<SpoolFolder> folder_;
  SpoolIdentity identity_;
  SpoolOptions options_;
  std::vector<Segment> segments_;  // By first_seq.
  std::uint64_t first_seq_ = 1;
  std::uint64_t next_seq_ = 1;
  std::uint64_t delivered_before_ = 1;            // Of NoteDelivered().
  std::uint64_t ring_first_ = 1, ring_last_ = 0;  // Of Opening::RingHas().
  bool hole_behind_ = false;                      // Of SetBehind().
  std::optional<LoopPlace> behind_;
  std::uint64_t bytes_ = 0;
  std::uint64_t steps_found_ = 0;
  int open_fd_ = -1;  // Of the last segment, if it is being written.
  absl::Status sync_error_;
  std::array<Loaded, 2> loaded_;  // None where `bytes` is empty.
  std::string stand_in_;          // For StandIn().
  // By first_seq. Of those that this process has written, the length alone.
  struct Schema {
    KeptSchema schema;
    std::uint64_t bytes = 0;  // Of the file.
  };
  std::vector<Schema> schemas_;
  bool stays_ = false;
  std::vector<std::string> problems_;
};

// [Threading] As the spool. Dropped before it is done, it leaves what is there
// as it is.
class Spool::Opening {
 public:
  // Owns the folder from now on; errors as of SpoolFolder::Open().
  static absl::StatusOr<std::unique_ptr<Opening>> Begin(
      const std::string& path, SpoolUse use,
      Syscalls* syscalls = RealSyscalls());

  // The ring of its process has the records from `first` to `last`. One of them
  // that is cut off at the end of a segment was being written when the process
  // was killed, which is no damage. Before the first Step().
  void RingHas(std::uint64_t first, std::uint64_t last) {
    spool_->ring_first_ = first;
    spool_->ring_last_ = last;
  }

  // Reads one segment. Null: there is more to read. Else it is done: a spool,
  // or an error as of Open().
  absl::StatusOr<std::unique_ptr<Spool>> Step();

  // What was found, where Step() has said kDataLoss; for people.
  std::vector<std::string> TakeProblems() {
    return std::exchange(problems_, {});
  }
  // Whose it is, while it is read; null: not known yet.
  const SpoolIdentity* identity() const;

 private:
  Opening(std::unique_ptr<Spool> spool, std::vector<SpoolFolder::File> files)
      : spool_(std::move(spool)), files_(std::move(files)) {}

  std::unique_ptr<Spool> spool_;
  const std::vector<SpoolFolder::File> files_;
  std::size_t next_ = 0;
  bool readable_ = false;  // A record, so far.
  std::vector<std::string> problems_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_SPOOL_H_
