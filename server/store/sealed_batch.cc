#include "server/store/sealed_batch.h"

#include <limits>
#include <utility>

#include "server/store/keys.h"

namespace gradtap::server {

SealedBatch::SealedBatch(std::shared_ptr<Engine> engine, const BranchKey& key,
                         std::size_t write_bytes, Write write)
    : engine_(std::move(engine)),
      key_(key),
      write_bytes_(write_bytes),
      write_(std::move(write)) {}

void SealedBatch::Add(rocksdb::ColumnFamilyHandle* family,
                      const std::string& key, std::string_view value) {
  batch_.Put(family, key, Slice(value));
  bytes_ += key.size() + value.size();
}

absl::Status SealedBatch::WriteIfLarge() {
  if (batch_.GetDataSize() < write_bytes_) return absl::OkStatus();
  const absl::Status s = write_(&batch_, nullptr);
  batch_.Clear();
  return s;
}

absl::Status SealedBatch::Put(rocksdb::ColumnFamilyHandle* family,
                              const std::string& key, std::string_view value) {
  Add(family, key, value);
  return WriteIfLarge();
}

std::string SealedBatch::KeyOf(const RollupKey& rollup,
                               std::int64_t first_step) const {
  return keys::Rollup(key_.run_id, key_.stream, key_.branch, rollup.level,
                      static_cast<std::uint8_t>(rollup.role),
                      static_cast<std::uint8_t>(rollup.statistic),
                      rollup.schema_id, rollup.group, first_step);
}

absl::Status SealedBatch::PutTile(const TileKey& tile, std::string_view value) {
  return Put(engine_->tiles(),
             keys::Tile(key_.run_id, key_.stream, key_.branch, first_step_,
                        static_cast<std::uint8_t>(tile.role),
                        static_cast<std::uint8_t>(tile.field), tile.block),
             value);
}

absl::Status SealedBatch::PutRollups(const RollupKey& rollup,
                                     std::string_view value) {
  return Put(engine_->rollups(), KeyOf(rollup, first_step_), value);
}

absl::Status SealedBatch::PutScalar(std::string_view name,
                                    std::string_view value) {
  return Put(
      engine_->windows(),
      keys::Scalar(key_.run_id, key_.stream, key_.branch, name, first_step_),
      value);
}

absl::Status SealedBatch::PutHistograms(std::string_view body,
                                        const StepView& step) {
  for (const HistogramBlock& block : SplitHistograms(body, step).blocks) {
    const absl::Status s =
        Put(engine_->histograms(),
            keys::Histogram(key_.run_id, key_.stream, key_.branch, step.step(),
                            static_cast<std::uint8_t>(block.role), block.block),
            block.body);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status SealedBatch::JoinRollups(
    const RollupKey& rollup, const std::vector<std::int64_t>& first_steps,
    std::string_view value) {
  Add(engine_->rollups(), KeyOf(rollup, first_steps.front()), value);
  for (std::size_t i = 1; i < first_steps.size(); ++i) {
    batch_.Delete(engine_->rollups(), KeyOf(rollup, first_steps[i]));
  }
  return WriteIfLarge();
}

absl::Status SealedBatch::WriteLast(const Sealed& sealed) {
  batch_.Put(engine_->catalog(),
             keys::Sealed(key_.run_id, key_.stream, key_.branch),
             EncodeSealed(sealed));
  return write_(&batch_, &sealed);
}

absl::Status SealedBatch::Finish(std::string_view timeline,
                                 const Sealed& sealed) {
  Add(engine_->windows(),
      keys::Timeline(key_.run_id, key_.stream, key_.branch, first_step_),
      timeline);
  batch_.DeleteRange(
      engine_->rows(),
      keys::Row(key_.run_id, key_.stream, key_.branch, first_step_),
      keys::Row(key_.run_id, key_.stream, key_.branch, sealed.end));
  return WriteLast(sealed);
}

void ReclaimRows(const Engine& engine, const BranchKey& key, std::int64_t end) {
  const auto key_of = [&](std::int64_t step) {
    return keys::Row(key.run_id, key.stream, key.branch, step);
  };
  engine.Reclaim({engine.rows(),
                  key_of(std::numeric_limits<std::int64_t>::min()),
                  key_of(end)});
}

absl::Status SealedBatch::PutChapter(std::string_view chapter) {
  return Put(engine_->windows(),
             keys::Chapter(key_.run_id, key_.stream, key_.branch, first_step_),
             chapter);
}

}  // namespace gradtap::server
