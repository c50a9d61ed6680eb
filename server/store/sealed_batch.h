// What sealing writes, in pieces of a size that others can wait for.
//
// Layer: server/store. One thread.

#ifndef GRADTAP_SERVER_STORE_SEALED_BATCH_H_
#define GRADTAP_SERVER_STORE_SEALED_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "core/codec.h"
#include "rocksdb/write_batch.h"
#include "server/store/branch_key.h"
#include "server/store/catalog_codec.h"
#include "server/store/engine.h"
#include "server/store/window/block_writer.h"

namespace gradtap::server {

// A window's values are written under its first step, the timeline with the
// last piece: without it they do not count, and are written over.
class SealedBatch final : public WindowSink {
 public:
  // Writes a piece, without a sync; `sealed`, if not null, is how far the
  // branch is sealed with it.
  using Write =
      std::function<absl::Status(rocksdb::WriteBatch*, const Sealed* sealed)>;

  // A piece is of `write_bytes`, or little more.
  SealedBatch(std::shared_ptr<Engine> engine, const BranchKey& key,
              std::size_t write_bytes, Write write);

  // Where the window stands. Before anything but histograms is put.
  void set_first_step(std::int64_t step) { first_step_ = step; }

  absl::Status PutTile(const TileKey& tile, std::string_view value) override;
  absl::Status PutRollups(const RollupKey& rollup,
                          std::string_view value) override;
  absl::Status PutScalar(std::string_view name,
                         std::string_view value) override;
  // Those that a row of format 1 has inside.
  absl::Status PutHistograms(std::string_view body, const StepView& step);

  // In place of those under each of `first_steps`: one value, under the first
  // of them. No reader sees less than all.
  absl::Status JoinRollups(const RollupKey& rollup,
                           const std::vector<std::int64_t>& first_steps,
                           std::string_view value);

  // The window's end; its rows go.
  absl::Status Finish(std::string_view timeline, const Sealed& sealed);
  // Nothing else but how far the branch is sealed.
  absl::Status WriteLast(const Sealed& sealed);
  // A chapter. Before any of its joined roll-ups, which are read with it; those
  // that are not joined yet are read without.
  absl::Status PutChapter(std::string_view chapter);

  // Put so far.
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::string KeyOf(const RollupKey& rollup, std::int64_t first_step) const;
  void Add(rocksdb::ColumnFamilyHandle* family, const std::string& key,
           std::string_view value);
  absl::Status Put(rocksdb::ColumnFamilyHandle* family, const std::string& key,
                   std::string_view value);
  absl::Status WriteIfLarge();

  const std::shared_ptr<Engine> engine_;
  const BranchKey key_;
  const std::size_t write_bytes_;
  const Write write_;
  std::int64_t first_step_ = 0;
  rocksdb::WriteBatch batch_;
  std::uint64_t bytes_ = 0;
};

// Gives back the space of a branch's rows below step `end`, which have been
// deleted. Not of more: whole files go, and newer rows may be there by now.
void ReclaimRows(const Engine& engine, const BranchKey& key, std::int64_t end);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_SEALED_BATCH_H_
