#include "server/store/rocksdb_window.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
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
    Column& column = columns_[static_cast<std::size_t>(key.role)]
                             [static_cast<std::size_t>(key.field)];
    const bool in_a_row = key.block == column.next_block;
    column.next_block = key.block + 1;
    const auto value = in_a_row ? Next(key, &column) : GetTile(key);
    if (!value.ok() || !value->empty() ||
        !engine_->MayHaveBeenTaken(place_.taken)) {
      return value;
    }
    return CheckNotTaken();
  }

  absl::StatusOr<std::string_view> ReadScalar(std::string_view name) override {
    const auto value =
        Get(rocksdb::ReadOptions(), engine_->windows(), &scalar_,
            keys::Scalar(branch_.run_id, branch_.stream, branch_.branch, name,
                         place_.first_step));
    if (!value.ok() || !value->empty() ||
        !engine_->MayHaveBeenTaken(place_.taken)) {
      return value;
    }
    return CheckNotTaken();
  }

 private:
  // A role's tiles of one field, which are neighbours.
  struct Column {
    std::uint32_t next_block = std::numeric_limits<std::uint32_t>::max();
    std::string end;  // After the last of them; `it` refers to it.
    rocksdb::Slice upper;
    std::unique_ptr<rocksdb::Iterator> it;
  };

  std::string KeyOf(const TileKey& key) const {
    return keys::Tile(branch_.run_id, branch_.stream, branch_.branch,
                      place_.first_step, static_cast<std::uint8_t>(key.role),
                      static_cast<std::uint8_t>(key.field), key.block);
  }

  absl::StatusOr<std::string_view> GetTile(const TileKey& key) {
    rocksdb::ReadOptions once;
    once.fill_cache = false;
    next_ = (next_ + 1) % kKeptTiles;
    return Get(once, engine_->tiles(), &tiles_[next_], KeyOf(key));
  }

  // The next one of a column: a block of the file has several of them and is
  // read once.
  absl::StatusOr<std::string_view> Next(const TileKey& key, Column* column) {
    const std::string wanted = KeyOf(key);
    rocksdb::Iterator* it = column->it.get();
    if (it == nullptr) {
      it = OpenColumn(wanted, column);
    } else if (it->Valid() && View(it->key()) < wanted) {
      it->Next();
    }
    if (it->Valid() && View(it->key()) < wanted) it->Seek(wanted);
    if (!it->Valid()) {
      const rocksdb::Status status = it->status();
      if (!status.ok()) return ToStatus(status, kReading);
      return std::string_view();
    }
    if (View(it->key()) != wanted) return std::string_view();
    next_ = (next_ + 1) % kKeptTiles;
    tiles_[next_].Reset();
    tiles_[next_].PinSelf(it->value());
    return View(tiles_[next_]);
  }

  rocksdb::Iterator* OpenColumn(const std::string& from, Column* column) {
    column->end = keys::After(from.substr(0, from.size() - 4));
    column->upper = column->end;
    rocksdb::ReadOptions once;
    once.fill_cache = false;
    once.iterate_upper_bound = &column->upper;
    column->it.reset(engine_->db()->NewIterator(once, engine_->tiles()));
    column->it->Seek(from);
    return column->it.get();
  }

  // Empty if what was missed has not been taken: there never was any.
  absl::StatusOr<std::string_view> CheckNotTaken() {
    const auto bytes =
        Get(rocksdb::ReadOptions(), engine_->catalog(), &scalar_,
            keys::Branch(branch_.run_id, branch_.stream, branch_.branch));
    if (!bytes.ok()) return bytes;
    if (bytes->empty()) return RunDeleted();
    const auto branch = DecodeBranch(*bytes);
    if (!branch.ok()) return branch.status();
    if (branch->rolled_up_end <= place_.first_step) return std::string_view();
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
  std::array<std::array<Column, kWindowFields>, kRoleCount> columns_;
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
