// One sealed window, read as far as it is asked: tiles are fetched and decoded
// when a value of theirs is wanted, and kept until Release().
//
// Layer: server/store/window. One thread at a time.

#ifndef GRADTAP_SERVER_STORE_WINDOW_SEALED_WINDOW_H_
#define GRADTAP_SERVER_STORE_WINDOW_SEALED_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/record.h"
#include "core/step_data.h"
#include "server/store/tile/tile.h"
#include "server/store/window/layout.h"
#include "server/store/window/scalar_column.h"
#include "server/store/window/tile_key.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {

// Where the window's bytes come from.
class WindowSource {
 public:
  virtual ~WindowSource() = default;
  // The same window's, for another thread.
  virtual std::unique_ptr<WindowSource> Clone() const = 0;
  // Empty if there is no such tile. The bytes of the last kKeptTiles calls are
  // valid: a tile, and what it leans on.
  static constexpr std::size_t kKeptTiles = 4;
  virtual absl::StatusOr<std::string_view> ReadTile(const TileKey& key) = 0;
  // The column of one scalar that the timeline names; valid until the next
  // call.
  virtual absl::StatusOr<std::string_view> ReadScalar(
      std::string_view name) = 0;
};

class SealedWindow {
 public:
  // kDataLoss if `timeline` is none.
  static absl::StatusOr<std::shared_ptr<SealedWindow>> Open(
      std::unique_ptr<WindowSource> source, std::string timeline,
      std::shared_ptr<const TileLayout> layout);

  // The same window with what has been said of what will be asked for, and
  // nothing read of it; for another thread.
  std::shared_ptr<SealedWindow> Clone() const;

  const TimelineView& timeline() const { return timeline_; }
  const TileLayout& layout() const { return *layout_; }

  // Its tiles have been removed: there are no values to ask for.
  void MarkRolledUp() { rolled_up_ = true; }
  bool rolled_up() const { return rolled_up_; }

  // ---- What will be asked for; to be said before anything is. ----

  // Parameters [first, last] of the schema: others of their blocks are not
  // decoded.
  void Focus(std::uint32_t first, std::uint32_t last);
  // The recorded step `place`: series have this one value, and take that much
  // memory.
  void KeepOnly(std::uint32_t place) { only_ = place; }

  // Where a row that has statistics stands in the series.
  std::uint32_t PositionOf(std::uint32_t row) const {
    return only_.has_value() ? 0 : timeline_.RecordedBefore(row);
  }

  // ---- The series of one place over the recorded steps. ----
  // They stay until Release(). status() has what went wrong: kDataLoss if a
  // tile is damaged or of another shape; errors of the disk.

  // Null after an error.
  const float* Floats(Role role, WindowField field, std::uint32_t place);
  // Null: all zero, or an error.
  const std::uint64_t* Counts(Role role, WindowField field,
                              std::uint32_t place);
  // 1 where there is a record; null: everywhere.
  const std::uint64_t* Presence(Role role, std::uint32_t place) {
    return Counts(role, WindowField::kPresence, place);
  }

  // Forgets what has been decoded, whose memory is given back.
  void Release();

  // ---- Scalars. ----

  const std::vector<std::string_view>& scalar_names() const { return names_; }
  // The values of scalar_names()[i], one for each row; they stay. Null
  // after an error.
  const ScalarColumn* Scalar(std::size_t i);

  // The first error of any call; what depends on it means nothing.
  const absl::Status& status() const { return status_; }

  // Bytes fetched so far.
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  // The rows of a block's tile that are in focus.
  template <typename T>
  struct Part {
    std::uint32_t first_row = 0;
    TileBlock<T> block;
  };
  template <typename T>
  using Parts = absl::flat_hash_map<std::uint64_t, std::unique_ptr<Part<T>>>;
  // The block of a role and field that was asked for last: a step is read
  // parameter by parameter.
  template <typename T>
  struct Recent {
    std::uint32_t block = std::numeric_limits<std::uint32_t>::max();
    const Part<T>* part = nullptr;  // Null: all zero.
  };
  template <typename T>
  using RecentParts =
      std::array<std::array<Recent<T>, kWindowFields>, kRoleCount>;

  SealedWindow() = default;

  static std::uint64_t KeyOf(const TileKey& key);
  TilePart PartOf(const TileKey& key) const;
  absl::StatusOr<std::string_view> Read(const TileKey& key);
  absl::Status DecodeFloats(const TileKey& key, FloatBlock* out);
  absl::Status DecodeReferences(const TileKey& key, std::uint8_t needs,
                                TileReferences* references);
  void UseSiblingsOf(std::uint32_t block);
  FloatBlock* NewSibling(const TileKey& key);
  absl::StatusOr<const FloatBlock*> Sibling(const TileKey& key);
  absl::StatusOr<const FloatBlock*> Increment(const TileKey& key);
  absl::Status LoadFloats(const TileKey& key, Part<float>* loaded);
  const Part<float>* FloatsOf(const TileKey& key);
  absl::Status LoadCounts(const TileKey& key,
                          std::unique_ptr<Part<std::uint64_t>>* loaded);
  const Part<std::uint64_t>* CountsOf(const TileKey& key);
  absl::Status LoadScalar(std::size_t i, ScalarColumn* column);
  template <typename T>
  absl::Status CheckShape(const TileKey& key, const TileBlock<T>& block) const;
  template <typename T>
  void Keep(const TileBlock<T>& block, TileBlock<T>* kept) const;

  std::unique_ptr<WindowSource> source_;
  std::string bytes_;  // That timeline_ views.
  TimelineView timeline_;
  std::vector<std::string_view> names_;
  std::shared_ptr<const TileLayout> layout_;
  TileDecoder decoder_;
  std::uint64_t bytes_read_ = 0;
  std::uint32_t first_parameter_ = 0;
  std::uint32_t last_parameter_ = std::numeric_limits<std::uint32_t>::max();
  std::optional<std::uint32_t> only_;
  bool rolled_up_ = false;

  Parts<float> floats_;
  Parts<std::uint64_t> counts_;  // Null: all zero.
  RecentParts<float> recent_floats_;
  RecentParts<std::uint64_t> recent_counts_;
  // What tiles lean on, with all steps: kept of one block at a time.
  std::uint32_t sibling_block_ = 0;
  absl::flat_hash_map<std::uint64_t, std::unique_ptr<FloatBlock>> siblings_;
  std::vector<std::unique_ptr<FloatBlock>> spare_;  // Memory for others.
  FloatBlock scratch_, increment_;
  CountBlock count_scratch_;
  std::vector<std::unique_ptr<ScalarColumn>> scalars_;
  absl::Status status_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_SEALED_WINDOW_H_
