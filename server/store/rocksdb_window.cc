#include "server/store/rocksdb_window.h"

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include "server/store/damage.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

class RocksdbWindowSource final : public WindowSource {
 public:
  RocksdbWindowSource(std::shared_ptr<Engine> engine, const BranchKey& branch,
                      std::int64_t first_step)
      : engine_(std::move(engine)), branch_(branch), first_step_(first_step) {}

  std::unique_ptr<WindowSource> Clone() const override {
    return std::make_unique<RocksdbWindowSource>(engine_, branch_, first_step_);
  }

  // Past the block cache, which is for what is asked for again: a step takes
  // more tiles than it holds. What the system has of the files stays.
  absl::StatusOr<std::string_view> ReadTile(const TileKey& key) override {
    rocksdb::ReadOptions once;
    once.fill_cache = false;
    next_ = (next_ + 1) % kKeptTiles;
    return Get(once, engine_->tiles(), &tiles_[next_],
               keys::Tile(branch_.run_id, branch_.stream, branch_.branch,
                          first_step_, static_cast<std::uint8_t>(key.role),
                          static_cast<std::uint8_t>(key.field), key.block));
  }

  absl::StatusOr<std::string_view> ReadScalar(std::string_view name) override {
    return Get(rocksdb::ReadOptions(), engine_->windows(), &scalar_,
               keys::Scalar(branch_.run_id, branch_.stream, branch_.branch,
                            name, first_step_));
  }

 private:
  absl::StatusOr<std::string_view> Get(const rocksdb::ReadOptions& options,
                                       rocksdb::ColumnFamilyHandle* family,
                                       rocksdb::PinnableSlice* value,
                                       const std::string& key) {
    value->Reset();
    const rocksdb::Status got = engine_->db()->Get(options, family, key, value);
    if (got.IsNotFound()) return std::string_view();
    if (!got.ok()) return ToStatus(got, kReading);
    return View(*value);
  }

  const std::shared_ptr<Engine> engine_;
  const BranchKey branch_;
  const std::int64_t first_step_;
  std::array<rocksdb::PinnableSlice, kKeptTiles> tiles_;
  std::size_t next_ = 0;
  rocksdb::PinnableSlice scalar_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<SealedWindow>> OpenWindow(
    const std::shared_ptr<Engine>& engine, const BranchKey& branch,
    std::int64_t first_step, std::string timeline,
    const LayoutOfSchema& layout_of) {
  const auto view = TimelineView::Parse(timeline);
  if (!view.ok()) return view.status();
  std::shared_ptr<const TileLayout> layout;
  if (view->recorded() > 0) {
    auto found = layout_of(view->schema_id());
    if (!found.ok()) return found.status();
    layout = *std::move(found);
  }
  return SealedWindow::Open(
      std::make_unique<RocksdbWindowSource>(engine, branch, first_step),
      std::move(timeline), std::move(layout));
}

}  // namespace gradtap::server
