// Turns a block's values into tiles and roll-ups.
//
// Layer: server/store/window. One thread.

#ifndef GRADTAP_SERVER_STORE_WINDOW_BLOCK_WRITER_H_
#define GRADTAP_SERVER_STORE_WINDOW_BLOCK_WRITER_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/store/rollup/summarizer.h"
#include "server/store/tile/tile.h"
#include "server/store/window/block_values.h"
#include "server/store/window/layout.h"
#include "server/store/window/tile_key.h"

namespace gradtap::server {

// Where what a window consists of goes. What it returns, if not OK, ends the
// work.
class WindowSink {
 public:
  virtual ~WindowSink() = default;
  virtual absl::Status PutTile(const TileKey& key, std::string_view value) = 0;
  virtual absl::Status PutRollups(const RollupKey& key,
                                  std::string_view value) = 0;
  virtual absl::Status PutScalar(std::string_view name,
                                 std::string_view value) = 0;
};

// Keeps its scratch memory: make one and keep it.
class BlockWriter {
 public:
  // Adds to `*fields` what was written. Errors are the sink's.
  absl::Status Write(const TileLayout& layout, const BlockValues& values,
                     WindowSink* sink, RoleFields* fields);

  // The roll-ups that Write() would put, and nothing else.
  absl::Status WriteRollupsOnly(const TileLayout& layout,
                                const BlockValues& values, WindowSink* sink);

  TileEncoder* encoder() { return &encoder_; }

 private:
  absl::Status WriteFloats(const TileLayout& layout, const BlockValues& values,
                           Role role, WindowSink* sink);
  absl::Status WriteCounts(const BlockValues& values, Role role,
                           WindowSink* sink);
  absl::Status WriteRollups(const TileLayout& layout, const BlockValues& values,
                            Role role, WindowSink* sink);
  absl::Status Put(const TileKey& key, absl::StatusOr<std::string> tile,
                   WindowSink* sink);
  // The update's mean with a row for each of the weight's.
  void AlignUpdate(const TileLayout& layout, const BlockValues& values);
  // The weight's columns with a row for each of the role's; null if one of
  // those has no weight.
  const RoleValues* AlignWeight(const TileLayout& layout,
                                const BlockValues& values, Role role);

  TileEncoder encoder_;
  RollupSummarizer summarizer_;
  RoleFields* fields_ = nullptr;  // Of the call.
  FloatBlock increment_;
  CountBlock presence_;
  RoleValues weights_;
  std::vector<std::uint64_t> numel_;
  std::vector<RollupEntry> entries_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_BLOCK_WRITER_H_
