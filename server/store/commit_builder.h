// Turns commits into one write batch, and the catalog entries that hold once it
// has been written.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_COMMIT_BUILDER_H_
#define GRADTAP_SERVER_STORE_COMMIT_BUILDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "rocksdb/write_batch.h"
#include "server/store/catalog.h"
#include "server/store/engine.h"
#include "server/store/store.h"
#include "server/store/tail.h"

namespace gradtap::server {

// Single-threaded; used once.
class CommitBuilder {
 public:
  // The run of a stream and its kept parts, as they stand; the run_id is 0 if
  // there is no such stream.
  struct StreamState {
    CatalogRun run;
    KeptParts parts;
  };

  explicit CommitBuilder(const Engine& engine) : engine_(engine) {}

  // True if Add() of this stream wants SetStream() first.
  bool Needs(StreamId stream) const { return streams_.count(stream) == 0; }
  void SetStream(StreamId stream, StreamState state);

  // The errors of Store::Commit(); the batch is then not to be written.
  absl::Status Add(const StreamCommit& commit);

  // Adds what is written once for each run. Then the batch is complete.
  void Finish();

  rocksdb::WriteBatch* batch() { return &batch_; }

  struct RunChange {
    std::uint64_t run_id = 0;
    RunEntry entry;
    TailRecords records;  // All that is added, in order.
  };
  // By name: what stands in the catalog once the batch is written.
  std::map<std::string, RunChange>& runs() { return runs_; }
  struct StreamChange {
    std::string run;  // Empty: there is no such stream.
    KeptParts parts;
  };
  std::unordered_map<StreamId, StreamChange>& streams() { return streams_; }
  const StoreCounters& counters() const { return counters_; }

 private:
  struct Target;  // One stream of one run, while a commit is added.

  void AddRows(const StreamCommit& commit, Target* target);
  void AddStep(const StreamCommit::Step& step, Target* target);
  void AddGap(const StreamCommit::Gap& gap, Target* target);
  void AddParts(const StreamCommit& commit, Target* target);
  void DropParts(Target* target);

  const Engine& engine_;
  rocksdb::WriteBatch batch_;
  std::map<std::string, RunChange> runs_;
  std::unordered_map<StreamId, StreamChange> streams_;
  StoreCounters counters_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_COMMIT_BUILDER_H_
