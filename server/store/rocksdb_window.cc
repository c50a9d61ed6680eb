#include "server/store/rocksdb_window.h"

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/catalog_codec.h"
#include "server/store/damage.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

class RocksdbWindowSource final : public WindowSource {
 public:
  RocksdbWindowSource(std::shared_ptr<Engine> engine, const BranchKey& branch,
                      const WindowPlace& place)
      : engine_(std::move(engine)), branch_(branch), place_(place) {}

  std::unique_ptr<WindowSource> Clone() const override {
    return std::make_unique<RocksdbWindowSource>(engine_, branch_, place_);
  }

  // Past the block cache, which is for what is asked for again: a step takes
  // more tiles than it holds. What the system has of the files stays.
  absl::StatusOr<std::string_view> ReadTile(const TileKey& key) override {
    rocksdb::ReadOptions once;
    once.fill_cache = false;
    next_ = (next_ + 1) % kKeptTiles;
    const auto value =
        Get(once, engine_->tiles(), &tiles_[next_],
            keys::Tile(branch_.run_id, branch_.stream, branch_.branch,
                       place_.first_step, static_cast<std::uint8_t>(key.role),
                       static_cast<std::uint8_t>(key.field), key.block));
    if (!value.ok() || !value->empty() ||
        !engine_->MayHaveBeenTaken(place_.taken)) {
      return value;
    }
    return CheckNotTaken();
  }

  absl::StatusOr<std::string_view> ReadScalar(std::string_view name) override {
    return Get(rocksdb::ReadOptions(), engine_->windows(), &scalar_,
               keys::Scalar(branch_.run_id, branch_.stream, branch_.branch,
                            name, place_.first_step));
  }

 private:
  // Empty if the tile that was missed has not been taken: there never was one.
  absl::StatusOr<std::string_view> CheckNotTaken() {
    const auto bytes =
        Get(rocksdb::ReadOptions(), engine_->catalog(), &scalar_,
            keys::Branch(branch_.run_id, branch_.stream, branch_.branch));
    if (!bytes.ok()) return bytes;
    if (!bytes->empty()) {
      const auto branch = DecodeBranch(*bytes);
      if (!branch.ok()) return branch.status();
      if (branch->rolled_up_end <= place_.first_step) return std::string_view();
    }
    return absl::UnavailableError(absl::StrCat(
        "the values from step ", place_.first_step,
        " on were removed while they were read, to make room; ask again"));
  }

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
  const WindowPlace place_;
  std::array<rocksdb::PinnableSlice, kKeptTiles> tiles_;
  std::size_t next_ = 0;
  rocksdb::PinnableSlice scalar_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<SealedWindow>> OpenWindow(
    const std::shared_ptr<Engine>& engine, const BranchKey& branch,
    const WindowPlace& place, std::string timeline,
    const LayoutOfSchema& layout_of) {
  const auto view = TimelineView::Parse(timeline);
  if (!view.ok()) return view.status();
  std::shared_ptr<const TileLayout> layout;
  if (view->recorded() > 0) {
    auto found = layout_of(view->schema_id());
    if (!found.ok()) return found.status();
    layout = *std::move(found);
  }
  auto window = SealedWindow::Open(
      std::make_unique<RocksdbWindowSource>(engine, branch, place),
      std::move(timeline), std::move(layout));
  if (window.ok() && place.rolled_up) (*window)->MarkRolledUp();
  return window;
}

}  // namespace gradtap::server
