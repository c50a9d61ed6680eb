// What the collector keeps, and the only way at it.
//
// The interface speaks of runs, streams, steps and gaps; nothing above it may
// assume an engine. A stream's records and its durable cursor go into one
// synced write, so that what was acknowledged is there after any crash, once.
//
// Layer: server/store. This file: std, absl, core; no grpc.

#ifndef GRADTAP_SERVER_STORE_STORE_H_
#define GRADTAP_SERVER_STORE_STORE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/schema.h"
#include "core/step_data.h"
#include "server/store/figures.h"
#include "server/store/kept_parts.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/entry.h"
#include "server/store/rollup/statistic.h"
#include "server/store/upkeep.h"

namespace gradtap::server {

struct StepAndTime {
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
};

// Names a stream within a data folder, for good. 1, 2, ...
using StreamId = std::uint64_t;

// What a Hello says, validated.
struct StreamHello {
  std::string run;
  std::string launch;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::string process_nonce;  // 16 bytes.
  std::int64_t start_time_unix_ns = 0;
  std::string host;
  std::int64_t pid = 0;
  std::string agent_version;
  std::string torch_version;
  std::map<std::string, std::string> tags;
};

// A branch of a stream: steps between two rollbacks, strictly rising. It
// replaces what older ones have from its first step on: the one that its
// rollback named, whether that was ever stored or not.
struct Branch {
  std::uint32_t branch = 0;
  // Of the rows stored, scalars-only rows and gaps included: where the branch
  // begins and how far it has come. -1: nothing yet.
  std::int64_t first_step = -1;
  std::int64_t last_step = -1;
  std::uint64_t rows = 0;
  // The step that the rollback named. -1: branch 0, or one stored before this
  // was kept.
  std::int64_t rollback_step = -1;
  // Of the sealed steps below `rolled_up_end` only scalars and roll-ups are
  // left (Store::ShrinkOldest()), and so many of them had statistics. Scans
  // show them as skipped, because of GapCause::kRolledUp.
  std::int64_t rolled_up_end = 0;
  std::uint64_t rolled_up_steps = 0;
};

struct StreamEntry {
  StreamId id = 0;
  StreamHello hello;
  std::uint64_t durable_seq = 0;
  std::uint64_t stored_steps = 0;  // With statistics.
  std::uint64_t skipped_steps = 0;
  std::uint64_t lost_steps = 0;
  std::uint64_t bytes = 0;  // Encoded records, as they came.
  std::uint64_t rejected_records = 0;
  std::uint32_t schema_id = 0;  // Newest; 0: none yet.
  // Of that schema; empty: unknown.
  std::vector<std::string> optimizers;
  std::int64_t last_seen_unix_ns = 0;
  std::optional<EndData> end;
  std::vector<Branch> branches;  // In order; at least branch 0.
};

// One run as of some commit. Immutable: readers share it.
struct RunEntry {
  std::string run;
  // Counts the run's stored rows and gaps; persisted with the cursors.
  std::uint64_t ordinal = 0;
  std::int64_t created_unix_ns = 0;
  std::vector<StreamEntry> streams;  // In order of first Hello.
  bool pinned = false;
};

class SealedWindow;
class TimelineView;

// One step as stored. `body` is the encoded gradtap.v1.Step without its
// histograms, which are kept apart (ReadHistogramBlock()); rows of data folders
// in format 1 may have them in the body. Of a step that has been sealed it is
// empty: the step is then that row of `window`, which may be kept, and which
// all steps of one window that a scan visits share. OpenStep() (stored_step.h)
// makes one thing of both. A body that `body_owner` owns stays for as long as
// that is held; another is gone once the visit is over.
struct StepRow {
  StreamId stream = 0;
  std::uint32_t branch = 0;
  std::int64_t step = 0;
  std::uint64_t ordinal = 0;
  std::string_view body;
  std::shared_ptr<SealedWindow> window;
  std::uint32_t window_row = 0;
  std::shared_ptr<const void> body_owner = nullptr;
};

// Roll-ups of one statistic of a parameter over recorded steps in a row.
struct RollupPiece {
  std::int64_t first_step = 0;  // The piece's name; not necessarily recorded.
  std::uint32_t recorded = 0;   // Steps that have statistics.
  std::uint32_t run = 0;  // Of them, for each entry; the last has the rest.
  std::span<const RollupEntry> entries;
};
struct RollupSelection {
  // 0: runs of 64 recorded steps; 1: of 4096, where there are so many.
  std::uint8_t level = 0;
  Role role = Role::kUnspecified;
  RollupStatistic statistic = RollupStatistic::kMean;
  std::uint32_t schema_id = 0;
  std::uint32_t place = 0;  // Of the role's columns in that schema.
};

// What a heat map shows of a statistic: of each run of 64 recorded steps.
struct WorstSelection {
  Role role = Role::kUnspecified;
  RollupStatistic statistic = RollupStatistic::kMean;
  RollupWorst worst = RollupWorst::kMax;
  std::uint32_t schema_id = 0;
  // Places [first_place, end_place) of the role's columns in that schema.
  std::uint32_t first_place = 0;
  std::uint32_t end_place = 0;
};
// Of some places over recorded steps in a row. Borrowed for the call.
struct WorstPiece {
  std::int64_t first_step = 0;    // Of the piece's first window.
  std::uint32_t first_place = 0;  // May begin or end beyond what was selected.
  std::uint32_t places = 0;
  std::uint32_t runs = 0;
  // As RollupReader::ReadWorst(): that of place p and run r at p * runs + r.
  const float* worst = nullptr;
  const std::uint8_t* flags = nullptr;
  std::size_t bytes = 0;  // Read.
};

// The step at some recorded step of a piece.
struct PiecePlace {
  std::int64_t first_step = 0;
  std::uint32_t recorded = 0;  // Of the piece.
  std::uint32_t offset = 0;    // Below that.
};

// Steps [begin, end).
struct StepSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

class StoreMoment;

// Steps [begin, end) that whole pieces cover, as of a moment. While this is
// held their scans are of that moment: pieces are joined meanwhile.
struct RolledSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::shared_ptr<const StoreMoment> as_of = nullptr;
};

// Something that is kept beside a run, and goes with it.
struct Attachment {
  std::string name;   // 1 to 255 bytes.
  std::string value;  // Opaque to the store. Empty: there is none.
};

struct GapRow {
  StreamId stream = 0;
  std::uint32_t branch = 0;
  std::uint64_t ordinal = 0;
  GapData gap;
};

// What one batch adds to one stream, validated by ingest; views are borrowed
// for the duration of the call.
struct StreamCommit {
  StreamId stream = 0;
  // The cursor must be first_seq - 1; afterwards it is last_seq.
  std::uint64_t first_seq = 0;
  std::uint64_t last_seq = 0;
  struct Step {
    std::uint32_t branch = 0;
    std::int64_t step = 0;
    bool has_statistics = true;  // Else `skipped` names a cause in the body.
    std::uint64_t records = 0;   // (parameter, role) pairs in the body.
    std::string_view body;       // Without histograms.
    std::span<const HistogramBlock> histograms = {};
  };
  struct SchemaBody {
    std::uint32_t schema_id = 0;
    std::string_view body;                     // The encoded gradtap.v1.Schema.
    std::vector<std::string> optimizers = {};  // As in the body.
  };
  struct Gap {
    std::uint32_t branch = 0;
    GapData gap;
  };
  struct NewBranch {
    std::uint32_t branch = 0;
    std::int64_t rollback_step = -1;  // The next step, as the rollback says.
  };
  struct Part {  // Kept until a commit drops them.
    std::uint64_t seq = 0;
    std::string_view data;  // An encoded gradtap.v1.Part.
  };
  std::vector<SchemaBody> schemas;
  std::vector<Step> steps;
  std::vector<Gap> gaps;
  std::vector<NewBranch> new_branches;  // In order.
  std::vector<Part> parts;              // Of one record, seq by seq.
  bool drop_parts = false;  // Those that were kept before this commit.
  std::optional<EndData> end;
  std::uint64_t bytes = 0;
  std::uint64_t rejected_records = 0;
  std::int64_t last_seen_unix_ns = 0;
};

// Thread-safe. Reads never wait for a sync.
class Store {
 public:
  virtual ~Store() = default;

  // Finds the stream of (run, rank, nonce) or creates it, durably. The run
  // comes into being with its first stream. Tags of a known run are merged.
  virtual absl::StatusOr<StreamEntry> OpenStream(const StreamHello& hello,
                                                 std::int64_t now_unix_ns) = 0;

  // All of `commits` in one synced write, or none. kFailedPrecondition if a
  // cursor is not where the commit expects it, kNotFound if a stream is gone
  // (run deleted), kResourceExhausted or kUnavailable if the disk is full or
  // failing: nothing is stored then, and a later call may succeed.
  virtual absl::Status Commit(std::span<const StreamCommit> commits) = 0;

  // Cheap: nothing is read. None of a stream that is not there.
  virtual KeptParts PartsOf(StreamId stream) const = 0;

  // Calls `visit` for the parts that are kept of seqs [begin, end), in order;
  // stops when it returns false. One at a time is in memory.
  virtual absl::Status ScanParts(
      StreamId stream, std::uint64_t begin, std::uint64_t end,
      const std::function<bool(std::string_view)>& visit) = 0;

  // All runs, by name. Cheap: shared snapshots.
  virtual std::vector<std::shared_ptr<const RunEntry>> Runs() const = 0;
  // Null if there is none of that name.
  virtual std::shared_ptr<const RunEntry> FindRun(
      std::string_view run) const = 0;

  // kNotFound if the stream has no such schema. Decoded once and shared.
  virtual absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      StreamId stream, std::uint32_t schema_id) = 0;

  // Calls `visit` for the rows of [begin, end) in rising order of step, from
  // one consistent snapshot; stops early when it returns false. kNotFound also
  // if the run is deleted meanwhile.
  virtual absl::Status ScanSteps(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end, const std::function<bool(const StepRow&)>& visit) = 0;

  // Of [begin, end) the part that whole pieces cover; none (begin == end) if
  // there is none. The steps of the rest are only with ScanSteps().
  virtual absl::StatusOr<RolledSpan> RolledUp(StreamId stream,
                                              std::uint32_t branch,
                                              std::int64_t begin,
                                              std::int64_t end) {
    (void)stream, (void)branch, (void)end;
    return RolledSpan{begin, begin};
  }

  // Calls `visit` for the pieces of `span`, which RolledUp() has said, in
  // order; stops when it returns false. Steps of another schema, or without the
  // role, are in none.
  virtual absl::Status ScanRollups(
      StreamId stream, std::uint32_t branch, const RolledSpan& span,
      const RollupSelection& selection,
      const std::function<bool(const RollupPiece&)>& visit) {
    (void)stream, (void)branch, (void)span, (void)selection, (void)visit;
    return absl::OkStatus();
  }

  // The same of many parameters at once, for roll-ups of level 0: groups of
  // neighbouring places in order, of each its pieces in order. Several threads
  // may share the places.
  virtual absl::Status ScanWorst(
      StreamId stream, std::uint32_t branch, const RolledSpan& span,
      const WorstSelection& selection,
      const std::function<bool(const WorstPiece&)>& visit) {
    (void)stream, (void)branch, (void)span, (void)selection, (void)visit;
    return absl::OkStatus();
  }

  // Calls `visit` for the windows that begin within [begin, end), which is what
  // RolledUp() has said, in order, with the step under which each stands.
  virtual absl::Status ScanTimelines(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end,
      const std::function<bool(std::int64_t, const TimelineView&)>& visit) {
    (void)stream, (void)branch, (void)begin, (void)end, (void)visit;
    return absl::OkStatus();
  }

  // Step and time of each of `places`, which are best in order.
  virtual absl::StatusOr<std::vector<StepAndTime>> ResolvePlaces(
      StreamId stream, std::uint32_t branch,
      std::span<const PiecePlace> places) {
    (void)stream, (void)branch;
    return std::vector<StepAndTime>(places.size());
  }

  // One block of a step's histograms (core/codec.h has its bytes); nothing if
  // the step has none there. One look-up, no row is read.
  virtual absl::StatusOr<std::optional<std::string>> ReadHistogramBlock(
      StreamId stream, std::uint32_t branch, std::int64_t step, Role role,
      std::uint32_t block) = 0;

  // The lowest step of [begin, end) that has histograms, or the highest one;
  // nothing if none has. Two look-ups at most, however many steps there are.
  // Knows nothing of histograms that rows of format 1 have in their body.
  virtual absl::StatusOr<std::optional<std::int64_t>> FindHistogramStep(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end, bool highest) = 0;

  // The gaps of a stream, in order of branch and first step.
  virtual absl::StatusOr<std::vector<GapRow>> ReadGaps(StreamId stream) = 0;

  // Rows and gaps of a run in the order of their ordinals, those above `after`;
  // exactly one of the two pointers is set. Stops when `visit` returns false.
  // kNotFound as above.
  virtual absl::Status ScanByOrdinal(
      std::string_view run, std::uint64_t after,
      const std::function<bool(const StepRow*, const GapRow*)>& visit) = 0;

  // Removes a run with everything in it, durably. kNotFound if there is none,
  // kFailedPrecondition if it is pinned. Sessions of its streams get kNotFound
  // at their next commit.
  virtual absl::Status DeleteRun(std::string_view run) = 0;

  // ---- Keeping. Stores that are not asked to need none of it. ----

  // The same for a run as it stood in `seen`; kAborted if it has changed since.
  virtual absl::Status DeleteRunAsSeen(
      const std::shared_ptr<const RunEntry>& seen) {
    return DeleteRun(seen->run);
  }

  // Protects a run from being deleted or shrunk, or no longer; durably. False:
  // it was so before. kNotFound if there is none.
  virtual absl::StatusOr<bool> PinRun(std::string_view run, bool pinned) {
    (void)run, (void)pinned;
    return absl::UnimplementedError("this store pins no runs");
  }

  // About what a run takes on disk. Cheap: a few look-ups. kNotFound.
  virtual absl::StatusOr<std::uint64_t> RunDiskBytes(std::string_view run) {
    (void)run;
    return std::uint64_t{0};
  }

  // Takes the oldest windows' values, of a branch of a run that is not pinned
  // and that `may_shrink` passes, in whole chapters: scalars and roll-ups stay.
  // None: no more; kDataLoss: no more but of branches that cannot be read.
  virtual absl::StatusOr<std::optional<ShrunkPart>> ShrinkOldest(
      const std::function<bool(const RunEntry&)>& may_shrink) {
    (void)may_shrink;
    return std::optional<ShrunkPart>();
  }

  // Appends to a small log of what was done here, durably: an opaque text,
  // which outlives the collector. The oldest go once there are more than
  // `most`.
  virtual absl::Status AddNote(std::string_view note, std::size_t most) {
    (void)note, (void)most;
    return absl::OkStatus();
  }
  // The oldest first.
  virtual absl::StatusOr<std::vector<std::string>> ReadNotes() {
    return std::vector<std::string>();
  }

  // Writes or removes attachments of a run, all of them in one synced write or
  // none. `run` says which life of that name is meant: kNotFound if it has been
  // deleted. Otherwise as Commit(), but that RefuseRecords() does not count.
  // Listeners are not called.
  virtual absl::Status WriteAttachments(
      const RunEntry& run, std::span<const Attachment> attachments) {
    (void)run, (void)attachments;
    return absl::UnimplementedError("this store keeps no attachments");
  }
  // Those whose names begin so, by name. kNotFound as above.
  virtual absl::StatusOr<std::vector<Attachment>> ReadAttachments(
      const RunEntry& run, std::string_view prefix) {
    (void)run, (void)prefix;
    return std::vector<Attachment>();
  }

  // Until this is called with an empty text, OpenStream() and Commit() give
  // kResourceExhausted and `why`; all else goes on, deleting too.
  virtual void RefuseRecords(std::string why) { (void)why; }

  // Called after each change of a run (commit, new stream, delete), outside
  // all locks, by the thread that made it. [Threading] any. [Locking] none
  // held; may call the store. [Exceptions] must not throw. Must not block.
  // Returns an id for RemoveListener, which waits for a call in flight.
  virtual int AddListener(
      std::function<void(const std::string& run)> listener) = 0;
  virtual void RemoveListener(int id) = 0;

  // ---- Upkeep, while all else goes on. It takes its time: minutes. ----

  // Makes the folder `dir`, whose name is absolute: a data folder with
  // everything that was committed before the call, and some beginning of what
  // is meanwhile. On the same file system most of it is shared with this one's.
  // All is there when it returns OK, and nothing otherwise. kAlreadyExists;
  // kCancelled; kPermissionDenied and kResourceExhausted name what cannot be
  // written.
  virtual absl::StatusOr<BackupResult> Backup(
      const std::string& dir, const std::atomic<bool>& cancelled) {
    (void)dir, (void)cancelled;
    return absl::UnimplementedError("this store makes no backups");
  }

  // Rewrites all tables, so that nothing that has been deleted or replaced
  // takes room. kResourceExhausted: no room for the largest of them once more;
  // kCancelled: some of it is done.
  virtual absl::StatusOr<CompactionResult> Compact(
      std::atomic<bool>* cancelled) {
    (void)cancelled;
    return absl::UnimplementedError("this store does not compact");
  }

  virtual StoreCounters counters() const = 0;
  virtual StoreFigures figures() const { return {}; }
  virtual std::uint64_t disk_bytes() const = 0;
  virtual std::uint32_t format_version() const = 0;
  virtual const std::string& data_dir() const = 0;
};

struct StoreOptions {
  std::string data_dir;  // Created (0700) if it is not there.
  // A thread of its own turns rows into windows once there are enough of them.
  bool seal = true;
  // About the bytes of rows that may wait to be sealed: with more, each commit
  // waits for the sealer, a second at most.
  std::uint64_t max_due_bytes = std::uint64_t{256} << 20;
  // Recorded steps of a window; 0: as many as suit the model. For tests, which
  // want many windows of few steps.
  std::uint32_t window_steps = 0;
  // Bytes of one write of the sealer, which others wait for. For tests, which
  // want many writes of little.
  std::size_t sealed_write_bytes = std::size_t{2} << 20;
  // Each of them goes to tables at once. For tests, in which it is the last
  // thing that outlives a crash.
  bool flush_sealed_writes = false;
  // About how much ShrinkOldest() takes at a time: less would rewrite more than
  // it frees, more would take what was not asked for.
  std::uint64_t shrink_bytes = std::uint64_t{64} << 20;
  // Of the newest steps of all runs, which are kept in memory; 0: none is.
  std::size_t tail_bytes = std::size_t{12} << 20;
};

// Opens the folder for this process alone. kFailedPrecondition: locked by
// another collector (names its pid if known), or written by a newer format
// (names both versions); kPermissionDenied: not writable; kDataLoss: damaged.
absl::StatusOr<std::unique_ptr<Store>> OpenRocksdbStore(
    const StoreOptions& options);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_STORE_H_
