// Where the pieces of a sealed branch lie, whose roll-ups stand together:
// chapters, and windows that belong to none.
//
// Layer: server/store. Any thread.

#ifndef GRADTAP_SERVER_STORE_PIECES_H_
#define GRADTAP_SERVER_STORE_PIECES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "rocksdb/snapshot.h"
#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/store.h"

namespace gradtap::server {

// What the database was like when this was made.
class StoreMoment {
 public:
  explicit StoreMoment(std::shared_ptr<Engine> engine)
      : engine_(std::move(engine)), snapshot_(engine_->db()->GetSnapshot()) {}
  ~StoreMoment() { engine_->db()->ReleaseSnapshot(snapshot_); }

  StoreMoment(const StoreMoment&) = delete;
  StoreMoment& operator=(const StoreMoment&) = delete;

  const rocksdb::Snapshot* snapshot() const { return snapshot_; }

 private:
  const std::shared_ptr<Engine> engine_;
  const rocksdb::Snapshot* const snapshot_;
};

// The piece that has `step` strictly inside; none: one may begin there. Null
// `snapshot`: as of now.
absl::StatusOr<std::optional<StepSpan>> PieceAround(
    const Engine& engine, const BranchKey& branch, std::int64_t step,
    const rocksdb::Snapshot* snapshot = nullptr);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_PIECES_H_
