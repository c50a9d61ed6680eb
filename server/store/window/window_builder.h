// Turns rows into one sealed window.
//
// The rows are read as often as the slabs need that memory allows: the first
// reading decides which rows belong to the window and fills the first slab.
//
//   WindowBuilder builder(...);
//   for each row: if (!*builder.Take(step, ordinal)) break;   // The next
//   one's. do {
//     builder.WriteSlab(...);
//     if (!builder.NextSlab()) break;
//     for each row taken: builder.TakeAgain(step);
//   } while (true);
//   builder.WriteScalars(...); builder.Timeline();
//
// Layer: server/store/window. One thread.

#ifndef GRADTAP_SERVER_STORE_WINDOW_WINDOW_BUILDER_H_
#define GRADTAP_SERVER_STORE_WINDOW_WINDOW_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "server/store/tile/tile.h"
#include "server/store/window/block_values.h"
#include "server/store/window/block_writer.h"
#include "server/store/window/layout.h"
#include "server/store/window/scalar_column.h"
#include "server/store/window/slab.h"
#include "server/store/window/tile_key.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {

class WindowBuilder {
 public:
  using LayoutOf =
      std::function<absl::StatusOr<std::shared_ptr<const TileLayout>>(
          std::uint32_t schema_id)>;

  // A slab takes at most about `slab_bytes`, or what one block needs. The
  // window gets at most `window_steps` recorded rows, which is also the memory
  // that they take; 0: what suits the model, WindowStepsOf().
  WindowBuilder(LayoutOf layout_of, std::size_t slab_bytes,
                std::uint32_t window_steps = 0)
      : layout_of_(std::move(layout_of)),
        slab_bytes_(slab_bytes),
        window_steps_(window_steps) {}

  // Takes a row, in order of steps; false if it is not this window's any more.
  // kDataLoss if its columns do not fit its schema, and errors of `layout_of`.
  absl::StatusOr<bool> Take(const StepView& step, std::uint64_t ordinal);
  // No further row would be taken, whatever it is.
  bool full() const;
  std::uint32_t rows() const {
    return static_cast<std::uint32_t>(rows_.size());
  }
  std::uint32_t recorded() const { return recorded_; }
  // Of a full window; 0: not known, as no row was recorded.
  std::uint32_t window_steps() const { return window_steps_; }
  // There is at least one row.
  std::int64_t first_step() const { return rows_.front().step; }
  std::int64_t last_step() const { return rows_.back().step; }

  absl::Status WriteSlab(BlockWriter* writer, WindowSink* sink);
  // False: all is written.
  bool NextSlab();
  void TakeAgain(const StepView& step);

  absl::Status WriteScalars(TileEncoder* encoder, WindowSink* sink) const;
  // When all tiles are written.
  std::string Timeline() const;

 private:
  absl::Status CheckColumns(const StepView& step) const;
  void StartSlab(std::uint32_t begin);
  void TakeScalars(const StepView& step);

  const LayoutOf layout_of_;
  const std::size_t slab_bytes_;
  std::uint32_t window_steps_;
  std::uint32_t schema_id_ = 0;
  std::shared_ptr<const TileLayout> layout_;  // Once a row has statistics.
  std::vector<TimelineRow> rows_;             // Their details are in details_.
  std::map<std::uint32_t, std::string> details_;
  std::uint32_t recorded_ = 0;
  std::map<std::string, ScalarColumn, std::less<>> scalars_;
  RoleFields fields_{};
  std::optional<Slab> slab_;
  BlockValues block_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_WINDOW_BUILDER_H_
