#include "server/store/chapter_binder.h"

#include <span>
#include <utility>

#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rollup/entry.h"

namespace gradtap::server {

absl::Status ChapterBinder::Bind(std::int64_t first_step, std::uint32_t windows,
                                 const Sealed& bound,
                                 const SealedBatch::Write& write) {
  if (const absl::Status s = ReadWindows(first_step, windows); !s.ok()) {
    return s;
  }
  SealedBatch batch(engine_, key_, write_bytes_, write);
  batch.set_first_step(first_step);
  // Places mean the same parameters in all windows only of one schema.
  bool one_schema = windows_.size() == windows;
  for (const TimelineView& window : windows_) {
    one_schema &= window.schema_id() == windows_.front().schema_id() &&
                  window.recorded() == windows_.front().recorded();
  }
  if (!one_schema) return batch.WriteLast(bound);
  const auto layout = layout_of_(windows_.front().schema_id());
  if (!layout.ok()) return layout.status();
  const absl::Status s =
      batch.PutChapter(EncodeChapter(windows_, last_step_ + 1));
  if (!s.ok()) return s;
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    for (const RollupStatistic statistic : kRollupStatistics) {
      if (!HasRollup(role, statistic)) continue;
      for (std::uint32_t block = 0; block < (*layout)->blocks(); ++block) {
        const std::uint32_t rows = (*layout)->Rows(role, block);
        for (std::uint32_t row = 0; row < rows; row += kRollupParameters) {
          const absl::Status joined =
              JoinGroup({0, role, statistic, windows_.front().schema_id(),
                         RollupGroupOf(block, row)},
                        &batch);
          if (!joined.ok()) return joined;
        }
      }
    }
  }
  return batch.WriteLast(bound);
}

absl::Status ChapterBinder::ReadWindows(std::int64_t first_step,
                                        std::uint32_t windows) {
  const std::string from =
      keys::Timeline(key_.run_id, key_.stream, key_.branch, first_step);
  const std::string to = keys::After(from.substr(0, from.size() - 8));
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      engine_->db()->NewIterator(options, engine_->windows()));
  bytes_.reserve(windows);  // Views point into them.
  for (it->Seek(from); it->Valid() && bytes_.size() < windows; it->Next()) {
    bytes_.push_back(it->value().ToString());
    const auto view = TimelineView::Parse(bytes_.back());
    if (!view.ok()) return view.status();
    if (view->recorded() == 0) return Damaged("timeline");
    windows_.push_back(*view);
    first_steps_.push_back(view->step(0));
    last_step_ = view->step(view->rows() - 1);
  }
  return ToStatus(it->status(), kReading);
}

absl::Status ChapterBinder::JoinGroup(const RollupKey& key,
                                      SealedBatch* batch) {
  const std::uint32_t steps = windows_.front().recorded();
  std::vector<std::vector<RollupEntry>> windows;
  RollupShape shape;
  for (const std::int64_t first_step : first_steps_) {
    rocksdb::PinnableSlice value;
    const rocksdb::Status got = engine_->db()->Get(
        rocksdb::ReadOptions(), engine_->rollups(),
        keys::Rollup(key_.run_id, key_.stream, key_.branch, key.level,
                     static_cast<std::uint8_t>(key.role),
                     static_cast<std::uint8_t>(key.statistic), key.schema_id,
                     key.group, first_step),
        &value);
    if (got.IsNotFound()) return absl::OkStatus();  // They stay apart.
    if (!got.ok()) return ToStatus(got, kReading);
    absl::Status s = reader_.Open(View(value));
    if (s.ok()) s = reader_.ReadAll(&windows.emplace_back());
    if (!s.ok()) return s;
    shape.parameters = reader_.shape().parameters;
    if (reader_.shape().steps != steps) return absl::OkStatus();  // Done.
  }
  shape.steps = static_cast<std::uint32_t>(windows.size()) * steps;
  const std::uint32_t runs = (steps + kRollupRun - 1) / kRollupRun;
  std::vector<RollupEntry> fine, coarse;
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    const std::size_t from = fine.size();
    for (const auto& window : windows) {
      if (window.size() != std::size_t{shape.parameters} * runs) {
        return Damaged("roll-up");
      }
      fine.insert(fine.end(), window.begin() + std::ptrdiff_t{p} * runs,
                  window.begin() + std::ptrdiff_t{p + 1} * runs);
    }
    coarse.push_back(MergeRollups(std::span(fine).subspan(from)));
  }
  const absl::StatusOr<std::string> joined = EncodeRollups(shape, fine);
  if (!joined.ok()) return joined.status();
  shape.run = shape.steps;
  const absl::StatusOr<std::string> level1 = EncodeRollups(shape, coarse);
  if (!level1.ok()) return level1.status();
  RollupKey up = key;
  up.level = 1;
  // First, as finding the group joined ends the matter.
  const absl::Status s = batch->PutRollups(up, *level1);
  if (!s.ok()) return s;
  return batch->JoinRollups(key, first_steps_, *joined);
}

}  // namespace gradtap::server
