// Full windows in a row, 4,096 recorded steps most often: when their recorded
// steps were, at a glance.
//
//   chapter := version:u8 windows:u32 recorded:u32 end:i64 (steps times)*
//   version := 2; 1: there is no `recorded`, which is 256
//   steps, times := column              (linear_column.h), of `recorded` values
//
// Layer: server/store/window. Any thread may read a view of its own.

#ifndef GRADTAP_SERVER_STORE_WINDOW_CHAPTER_H_
#define GRADTAP_SERVER_STORE_WINDOW_CHAPTER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "server/store/store.h"
#include "server/store/tile/tile.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {

// Roll-ups of a chapter's windows stand together, and one of a coarser level
// has an entry for each chapter: 4096:1. Where no more full windows are to come
// in a row, it has fewer, two at least.
inline constexpr std::uint32_t kChapterSteps = 4096;

// All windows have as many recorded rows. All rows are below step `end`.
std::string EncodeChapter(const std::vector<TimelineView>& windows,
                          std::int64_t end);

class ChapterView {
 public:
  // Views `bytes`, which must outlive it. kDataLoss if they are not a
  // chapter's.
  static absl::StatusOr<ChapterView> Parse(std::string_view bytes);

  std::uint32_t recorded() const {
    return static_cast<std::uint32_t>(windows_.size()) * steps_;
  }
  // Beyond all of its rows.
  std::int64_t end() const { return end_; }
  // `place` counts recorded steps; it is below recorded(). O(1).
  StepAndTime At(std::uint32_t place) const;
  // At(place) will be called soon.
  void Prefetch(std::uint32_t place) const;

 private:
  std::int64_t end_ = 0;
  std::uint32_t steps_ = 1;  // Of each window.
  std::string_view columns_;
  // Where each begins, among `columns_`.
  absl::InlinedVector<std::uint32_t, 16> windows_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_CHAPTER_H_
