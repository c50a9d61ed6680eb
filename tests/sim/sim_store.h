// A disk that a crash leaves as it may, and the store that lives on it.
//
// The disk is a log of whole writes. What has been synced stays; of the rest a
// crash keeps some bytes from the front, so that the last write that is left
// may be torn: recovery cuts it off, as RocksDB does. The store is the contract
// of server/store/store.h without an engine, for the calls that ingest makes.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_STORE_H_
#define GRADTAP_TESTS_SIM_SIM_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/store.h"
#include "sim/ledger.h"
#include "sim/mutant.h"
#include "sim/world.h"

namespace gradtap::sim {

// Thrown where the collector's process dies in the middle of a call.
struct CollectorDies {};

struct DiskWrite {
  struct Commit {
    StoredCommit stored;
    std::map<std::uint32_t, std::shared_ptr<const Schema>> schemas;  // By id.
    std::vector<std::pair<std::uint64_t, std::string>> parts;        // By seq.
    bool drop_parts = false;
    std::vector<server::Branch> ranges;  // Steps and gaps, branch by branch.
    std::uint64_t recorded = 0, skipped = 0, lost = 0;  // Steps.
    std::optional<EndData> end;
    std::int64_t last_seen_unix_ns = 0;
  };
  std::optional<server::StreamEntry> created;
  std::vector<Commit> commits;
  std::uint64_t bytes = 0;
  bool torn = false;
};

struct SimDisk {
  enum class State { kGood, kFull, kFailsWrites, kFailsSyncs };
  State state = State::kGood;
  std::vector<std::shared_ptr<const DiskWrite>> log;
  std::size_t synced = 0;  // Writes.

  // The machine, or its power, goes: what is not synced is kept in part.
  void Crash(Random* random);
};

// Told of each write that can be read from now on, and of a fresh start, after
// which all writes are told again.
class StoreObserver {
 public:
  virtual ~StoreObserver() = default;
  virtual void OnReopened() = 0;
  virtual void OnStreamStored(const server::StreamEntry& entry) = 0;
  virtual void OnCommitStored(const StoredCommit& commit) = 0;
  // All that has been told so far survives any crash.
  virtual void OnSynced() = 0;
};

class SimStore : public server::Store {
 public:
  // Opens what is on the disk.
  SimStore(SimDisk* disk, World* world, StoreObserver* observer, Mutant mutant);

  // The process dies in one of the next writes.
  void DieSoon() { die_in_ = 1 + world_->random().Below(3); }

  // Null if there is none.
  const server::StreamEntry* FindStream(server::StreamId id) const;

  // ---- Store: what ingest calls.
  absl::StatusOr<server::StreamEntry> OpenStream(
      const server::StreamHello& hello, std::int64_t now_unix_ns) override;
  absl::Status Commit(std::span<const server::StreamCommit> commits) override;
  server::KeptParts PartsOf(server::StreamId stream) const override;
  absl::Status ScanParts(
      server::StreamId stream, std::uint64_t begin, std::uint64_t end,
      const std::function<bool(std::string_view)>& visit) override;
  std::vector<std::shared_ptr<const server::RunEntry>> Runs() const override;
  std::shared_ptr<const server::RunEntry> FindRun(
      std::string_view run) const override;
  absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      server::StreamId stream, std::uint32_t schema_id) override;

  // ---- Store: the readers' half, which nothing here calls.
  absl::Status ScanSteps(
      server::StreamId, std::uint32_t, std::int64_t, std::int64_t,
      const std::function<bool(const server::StepRow&)>&) override;
  absl::StatusOr<std::optional<std::string>> ReadHistogramBlock(
      server::StreamId, std::uint32_t, std::int64_t, Role,
      std::uint32_t) override;
  absl::StatusOr<std::optional<std::int64_t>> FindHistogramStep(
      server::StreamId, std::uint32_t, std::int64_t, std::int64_t,
      bool) override;
  absl::StatusOr<std::vector<server::GapRow>> ReadGaps(
      server::StreamId) override;
  absl::Status ScanByOrdinal(
      std::string_view, std::uint64_t,
      const std::function<bool(const server::StepRow*, const server::GapRow*)>&)
      override;
  absl::Status DeleteRun(std::string_view) override;
  int AddListener(std::function<void(const std::string&)>) override;
  void RemoveListener(int) override {}
  server::StoreCounters counters() const override { return {}; }
  std::uint64_t disk_bytes() const override { return 0; }
  std::uint32_t format_version() const override { return 1; }
  const std::string& data_dir() const override { return data_dir_; }

 private:
  struct Stream {
    server::StreamEntry entry;
    std::map<std::uint32_t, std::shared_ptr<const Schema>> schemas;
    std::map<std::uint64_t, std::string> parts;
  };

  void Reopen();
  // After a failure: opens what is on the disk again.
  absl::Status Recover();
  // One synced write, made visible; or nothing.
  absl::Status Write(DiskWrite write);
  void DieIfDue(int point);
  void Apply(const DiskWrite& write, bool on_recovery);
  void ApplyCommit(const DiskWrite::Commit& commit, Stream* stream);
  absl::Status Check(std::span<const server::StreamCommit> commits) const;
  DiskWrite::Commit Store(const server::StreamCommit& commit) const;
  static void Touch(server::Branch range, std::vector<server::Branch>* ranges);

  const std::string data_dir_ = "simulated";
  SimDisk* const disk_;
  World* const world_;
  StoreObserver* const observer_;
  const Mutant mutant_;

  std::map<server::StreamId, Stream> streams_;  // As told to readers.
  bool failed_ = false;
  std::uint64_t die_in_ = 0;  // Writes; 0: not at all.
  int die_at_ = 0;            // Of this write, the point.
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_STORE_H_
