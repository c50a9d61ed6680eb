// The store over RocksDB.
//
// One writer at a time holds write_mu_ across its synced write; then the
// catalog's changed entries are swapped under mu_, which readers take for a
// pointer's copy only. Readers of rows hold the engine itself, so that it is
// not closed under them.
//
// After a failed write nothing is stored until the database has been opened
// again, once writing to the folder works; that reads the catalog anew.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_ROCKSDB_STORE_H_
#define GRADTAP_SERVER_STORE_ROCKSDB_STORE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/recent.h"
#include "core/sync.h"
#include "rocksdb/snapshot.h"
#include "rocksdb/write_batch.h"
#include "server/store/branch_key.h"
#include "server/store/catalog.h"
#include "server/store/data_folder.h"
#include "server/store/engine.h"
#include "server/store/listeners.h"
#include "server/store/sealed_batch.h"
#include "server/store/sealer.h"
#include "server/store/store.h"
#include "server/store/stored_schemas.h"
#include "server/store/tail.h"
#include "server/store/window/block_writer.h"

namespace gradtap::server {

class WindowBuilder;

// Thread-safe, as Store says.
class RocksdbStore final : public Store {
 public:
  // As OpenRocksdbStore(). `env` is the machine's if null, and must outlive the
  // store; tests make it fail. The lock and FORMAT file are always real.
  static absl::StatusOr<std::unique_ptr<RocksdbStore>> Open(
      const StoreOptions& options, rocksdb::Env* env);
  // Ends sealing. Nobody else may be in a call.
  ~RocksdbStore() override;

  // Seals one window of some branch that has enough rows, or has ended; false
  // if there is none. The sealer's thread calls it; others may. Errors are
  // those of Commit(), and kDataLoss for what cannot be read of a branch: it is
  // not looked at again until the database is opened again, and others are.
  absl::StatusOr<bool> SealOne() ABSL_LOCKS_EXCLUDED(seal_mu_, write_mu_, mu_);

  // Seals all rows there are, the newest of branches that go on included: for a
  // folder that nobody writes to meanwhile. Calls `progress` after each window
  // with how many are left. kDataLoss: there are branches that cannot be read;
  // all others are sealed.
  absl::Status SealAll(
      const std::function<void(std::uint64_t rows_left)>& progress)
      ABSL_LOCKS_EXCLUDED(seal_mu_, write_mu_, mu_);

  absl::StatusOr<StreamEntry> OpenStream(const StreamHello& hello,
                                         std::int64_t now_unix_ns) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::Status Commit(std::span<const StreamCommit> commits) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  KeptParts PartsOf(StreamId stream) const override ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status ScanParts(
      StreamId stream, std::uint64_t begin, std::uint64_t end,
      const std::function<bool(std::string_view)>& visit) override;
  std::vector<std::shared_ptr<const RunEntry>> Runs() const override;
  std::shared_ptr<const RunEntry> FindRun(std::string_view run) const override;
  absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      StreamId stream, std::uint32_t schema_id) override;
  absl::Status ScanSteps(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end,
      const std::function<bool(const StepRow&)>& visit) override;
  absl::StatusOr<RolledSpan> RolledUp(StreamId stream, std::uint32_t branch,
                                      std::int64_t begin,
                                      std::int64_t end) override;
  absl::Status ScanRollups(
      StreamId stream, std::uint32_t branch, const RolledSpan& span,
      const RollupSelection& selection,
      const std::function<bool(const RollupPiece&)>& visit) override;
  absl::Status ScanWorst(
      StreamId stream, std::uint32_t branch, const RolledSpan& span,
      const WorstSelection& selection,
      const std::function<bool(const WorstPiece&)>& visit) override;
  absl::Status ScanTimelines(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end,
      const std::function<bool(std::int64_t, const TimelineView&)>& visit)
      override;
  absl::StatusOr<std::vector<StepAndTime>> ResolvePlaces(
      StreamId stream, std::uint32_t branch,
      std::span<const PiecePlace> places) override;
  absl::StatusOr<std::optional<std::string>> ReadHistogramBlock(
      StreamId stream, std::uint32_t branch, std::int64_t step, Role role,
      std::uint32_t block) override;
  absl::StatusOr<std::optional<std::int64_t>> FindHistogramStep(
      StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end, bool highest) override;
  absl::StatusOr<std::vector<GapRow>> ReadGaps(StreamId stream) override;
  absl::Status ScanByOrdinal(
      std::string_view run, std::uint64_t after,
      const std::function<bool(const StepRow*, const GapRow*)>& visit) override;
  absl::Status DeleteRun(std::string_view run) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::Status DeleteRunAsSeen(const std::shared_ptr<const RunEntry>& seen)
      override ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::StatusOr<bool> PinRun(std::string_view run, bool pinned) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::StatusOr<std::uint64_t> RunDiskBytes(std::string_view run) override;
  absl::StatusOr<std::optional<ShrunkPart>> ShrinkOldest(
      const std::function<bool(const RunEntry&)>& may_shrink) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::Status AddNote(std::string_view note, std::size_t most) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::StatusOr<std::vector<std::string>> ReadNotes() override
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status WriteAttachments(
      const RunEntry& run, std::span<const Attachment> attachments) override
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::StatusOr<std::vector<Attachment>> ReadAttachments(
      const RunEntry& run, std::string_view prefix) override
      ABSL_LOCKS_EXCLUDED(mu_);
  void RefuseRecords(std::string why) override ABSL_LOCKS_EXCLUDED(write_mu_);
  int AddListener(
      std::function<void(const std::string& run)> listener) override;
  void RemoveListener(int id) override;
  absl::StatusOr<BackupResult> Backup(
      const std::string& dir, const std::atomic<bool>& cancelled) override
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<CompactionResult> Compact(
      std::atomic<bool>* cancelled) override ABSL_LOCKS_EXCLUDED(mu_);
  StoreCounters counters() const override;
  StoreFigures figures() const override ABSL_LOCKS_EXCLUDED(mu_);
  std::uint64_t disk_bytes() const override;
  std::uint32_t format_version() const override { return kFormatVersion; }
  const std::string& data_dir() const override { return folder_->dir(); }
  // Of the newest steps in memory.
  std::size_t tail_bytes() const ABSL_LOCKS_EXCLUDED(mu_);
  // The sum that commits wait by, and what it is a sum of, looked at anew.
  struct DueBytes {
    std::uint64_t sum = 0;
    std::uint64_t walked = 0;
  };
  DueBytes DueBytesForTest() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // What a reader needs: it keeps the engine open.
  struct Reader {
    std::shared_ptr<Engine> engine;
    std::uint64_t run_id = 0;
  };

  // A branch with rows to seal.
  struct ToSeal {
    BranchKey key;
    double row_bytes = 0;    // Of a row of its stream, on average.
    Sealed sealed;           // As it stands.
    std::uint64_t rows = 0;  // Not sealed yet.
    bool ended = false;      // No more rows are to be expected.
    // Windows are to become a chapter, and a crash has kept them from it.
    bool to_bind = false;
  };

  // A branch with values to take: those of [begin, end).
  struct ToShrink {
    BranchKey key;
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::shared_ptr<const RunEntry> run;
  };
  // Those that cannot be shrunk, since they cannot be read; why the first.
  struct DamagedBranches {
    void Add(const BranchKey& key, const absl::Status& damage) {
      branches.emplace(key.stream, key.branch);
      why.Update(damage);
    }
    std::set<std::pair<StreamId, std::uint32_t>> branches;
    absl::Status why;
  };
  class WindowWalk;
  // Rows of a branch that goes on stay rows: its newest steps are read most.
  static constexpr std::uint64_t kTailRows = 64;

  // Why a branch waits to be sealed.
  struct Waiting {
    // So many rows make it due: it had too few when it was last looked at.
    std::uint64_t wanted = 0;
    // Since when it has been due without a break.
    std::optional<std::chrono::steady_clock::time_point> due_since = {};
    // Its part of due_bytes_.
    std::uint64_t due_bytes = 0;
  };
  using WaitingBranches = std::map<std::pair<StreamId, std::uint32_t>, Waiting>;

  RocksdbStore(std::unique_ptr<DataFolder> folder, const StoreOptions& options,
               rocksdb::Env* env);

  absl::StatusOr<Reader> ReaderOfStream(StreamId stream) const
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<Reader> ReaderOfStreamLocked(StreamId stream) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of a branch: below which step its windows have no values. 0: all have.
  // kNotFound if its run was deleted.
  absl::StatusOr<std::int64_t> RolledUpEnd(const BranchKey& branch) const
      ABSL_LOCKS_EXCLUDED(mu_);
  // Of the database, ordinals [begin, end).
  absl::Status ScanOrdinals(
      const Reader& reader, const rocksdb::Snapshot* snapshot,
      std::uint64_t begin, std::uint64_t end,
      const std::function<bool(const StepRow*, const GapRow*)>& visit);
  absl::StatusOr<std::shared_ptr<const TileLayout>> LayoutOf(
      StreamId stream, std::uint32_t schema_id);

  SealingFigures SealingFiguresLocked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `*trouble` is what `status` says, since now if it was not so before.
  void NoteTrouble(const absl::Status& status, Trouble* trouble)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Its rows are 0 if there is nothing to seal; there may be something to bind.
  ToSeal ToSealLocked(const std::pair<StreamId, std::uint32_t>& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<ToSeal> NextToSeal() ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
      ABSL_LOCKS_EXCLUDED(mu_);
  static bool IsDue(const ToSeal& branch, const Waiting& waiting) {
    return branch.to_bind ||
           (branch.rows > 0 && (branch.ended || branch.rows >= waiting.wanted));
  }
  absl::StatusOr<bool> SealNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // What SealNext() is to return. OK: the run has been deleted meanwhile. What
  // it lacks of a run that is there is damage, and the branch is set aside.
  absl::Status CannotSeal(const BranchKey& branch, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // 0: done. Else the rows there are make no window yet, and lack so many more
  // at least.
  absl::StatusOr<std::uint64_t> SealWindow(const ToSeal& from)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
          ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // The same while sealing_ is set.
  absl::StatusOr<std::uint64_t> SealWindowMarked(const ToSeal& from)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
          ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // As SealWindow() returns it, of rows that `builder` has taken; `stopped` by
  // a row of the next window.
  static std::uint64_t RowsLacking(const ToSeal& from,
                                   const WindowBuilder& builder, bool stopped);
  // A window that is written.
  void CountWindow(std::chrono::steady_clock::time_point started,
                   std::uint64_t rows, std::uint64_t bytes,
                   std::uint64_t values) ABSL_LOCKS_EXCLUDED(mu_);
  // The open chapter of `sealed`, which has none afterwards.
  absl::StatusOr<std::uint64_t> BindChapter(
      const std::shared_ptr<Engine>& engine, const BranchKey& key,
      const Sealed& sealed, const SealedBatch::Write& write)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
          ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  absl::StatusOr<std::optional<ToShrink>> OldestToShrink(
      const Engine& engine,
      const std::function<bool(const RunEntry&)>& may_shrink,
      DamagedBranches* damaged) const ABSL_LOCKS_EXCLUDED(mu_);
  // About shrink_bytes_ of it. kAborted as WriteShrunk().
  absl::StatusOr<ShrunkPart> Shrink(const std::shared_ptr<Engine>& open,
                                    const ToShrink& branch)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // kAborted if the run has been deleted or pinned meanwhile.
  absl::Status WriteShrunk(const std::shared_ptr<Engine>& from,
                           const ToShrink& branch, const ShrunkPart& part,
                           rocksdb::WriteBatch* batch)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // About the bytes of its rows, if they are due.
  static std::uint64_t DueBytesOf(const ToSeal& branch, const Waiting& waiting);
  // Call whenever what ToSealLocked() says of it, or what it waits for, has
  // changed: due_bytes_ follows.
  ToSeal LookAtLocked(WaitingBranches::iterator waiting)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Returns the next one. Takes it out of due_bytes_ as well.
  WaitingBranches::iterator StopWaitingLocked(WaitingBranches::iterator waiting)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StopWaitingLocked(const std::pair<StreamId, std::uint32_t>& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // While too much is due, a second at most; not while sealing fails.
  void WaitForSealer() ABSL_LOCKS_EXCLUDED(mu_);
  // After branches that were sealed to their end: gives back the space of their
  // rows, and merges roll-ups.
  void TidySealed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(seal_mu_)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // Without a sync: what is lost is sealed again.
  absl::Status WriteSealed(const BranchKey& key, const Engine* engine,
                           rocksdb::WriteBatch* batch, const Sealed* sealed)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // Looks at what of the stream there is to seal.
  void NoteStreamLocked(const StreamEntry& stream)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<Engine> engine() const ABSL_LOCKS_EXCLUDED(mu_);
  // Its entry is null if there is none.
  CatalogRun FindEntry(std::string_view run) const ABSL_LOCKS_EXCLUDED(mu_);
  void ForgetRunLocked(const CatalogRun& run)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // As DeleteRunAsSeen(); null: whatever it is like.
  absl::Status DeleteEntry(std::string_view run, const RunEntry* as_seen)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);

  // Writes and syncs. After a failure RecoverLocked() is due.
  absl::Status WriteLocked(rocksdb::WriteBatch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  // What a failed write is to return.
  absl::Status FailedLocked(const rocksdb::Status& written)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_) ABSL_LOCKS_EXCLUDED(mu_);
  // Call first in whatever writes, before reading the catalog: if the last
  // write failed it brings the database back, which may read the catalog anew.
  absl::Status RecoverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::Status ReopenLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);

  absl::StatusOr<StreamEntry> CreateStreamLocked(const StreamHello& hello,
                                                 std::int64_t now_unix_ns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::StatusOr<StreamEntry> ReturnToStreamLocked(const CatalogRun& run,
                                                   std::size_t index,
                                                   const StreamHello& hello,
                                                   std::int64_t now_unix_ns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);

  const std::unique_ptr<DataFolder> folder_;
  rocksdb::Env* const env_;
  const std::uint32_t window_steps_;
  const std::uint64_t max_due_bytes_;
  const std::size_t sealed_write_bytes_;
  const bool flush_sealed_writes_;
  const std::uint64_t shrink_bytes_;
  Listeners listeners_;
  StoredSchemas schemas_;

  // One window is sealed at a time. Before write_mu_.
  Mutex seal_mu_;
  BlockWriter block_writer_ ABSL_GUARDED_BY(seal_mu_);
  // Branches, and below which step their rows are gone.
  std::vector<std::pair<BranchKey, std::int64_t>> to_reclaim_
      ABSL_GUARDED_BY(seal_mu_);
  // False: roll-ups are still to be merged.
  bool tidied_ ABSL_GUARDED_BY(seal_mu_) = true;
  // The branch that NextToSeal() gave last.
  std::pair<StreamId, std::uint32_t> sealed_last_ ABSL_GUARDED_BY(seal_mu_);

  Mutex write_mu_;  // Held across a sync. Before mu_.
  bool failed_ ABSL_GUARDED_BY(write_mu_) = false;
  // Why no records are taken; empty: they are.
  std::string refused_ ABSL_GUARDED_BY(write_mu_);
  // The sealer holds the engine; at its next write it finds failed_ and lets it
  // go.
  bool sealing_ ABSL_GUARDED_BY(write_mu_) = false;
  CondVar sealing_ended_;
  CondVar window_sealed_;

  mutable Mutex mu_;
  // Null while a failing database is being opened again.
  std::shared_ptr<Engine> engine_ ABSL_GUARDED_BY(mu_);
  // Changed only with write_mu_ held as well.
  Catalog catalog_ ABSL_GUARDED_BY(mu_);
  StoreCounters counters_ ABSL_GUARDED_BY(mu_);
  // What is durable and in the catalog.
  Tail tail_ ABSL_GUARDED_BY(mu_);
  // Branches that NextToSeal() is to look at.
  WaitingBranches to_seal_ ABSL_GUARDED_BY(mu_);
  // Sum over them: about the bytes of rows that were due when their branch was
  // looked at last. A branch that falls silent is looked at by the sealer.
  std::uint64_t due_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  // Branches that could not be read, and what was wrong: none of to_seal_.
  std::map<std::pair<StreamId, std::uint32_t>, Trouble> set_aside_
      ABSL_GUARDED_BY(mu_);
  bool sealing_all_ ABSL_GUARDED_BY(mu_) = false;  // All branches are due.
  Trouble trouble_ ABSL_GUARDED_BY(mu_);
  Trouble sealing_trouble_ ABSL_GUARDED_BY(mu_);

  // Locks of their own.
  LatencyHistogram commit_latency_;
  LatencyHistogram sync_latency_;
  LatencyHistogram window_latency_;
  RecentSum sealed_windows_{std::chrono::steady_clock::now()};
  RecentSum sealed_values_{std::chrono::steady_clock::now()};

  std::unique_ptr<Sealer> sealer_;  // Null if it is not wanted.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROCKSDB_STORE_H_
