#include "server/store/window/chapter.h"

#include "absl/status/status.h"
#include "server/store/bytes.h"
#include "server/store/rollup/entry.h"
#include "server/store/window/linear_column.h"

namespace gradtap::server {
namespace {

constexpr char kVersion = 2;
constexpr char kOldVersion = 1;
constexpr std::uint32_t kOldRecorded = 256;

// Each window's head says where the next one is: a walk from one cache miss to
// the next. Most windows take about the same number of bytes.
void PrefetchHeads(std::string_view columns, std::uint32_t windows) {
  const std::size_t stride = columns.size() / windows;
  for (std::uint32_t i = 1; i < windows; ++i) {
    __builtin_prefetch(columns.data() + i * stride);
  }
}

absl::Status Damaged() {
  return absl::DataLossError(
      "the data folder holds a damaged chapter; restore it from a copy");
}

}  // namespace

std::string EncodeChapter(const std::vector<TimelineView>& windows,
                          std::int64_t end) {
  std::string out(1, kVersion);
  PutU32(static_cast<std::uint32_t>(windows.size()), &out);
  const std::uint32_t recorded = windows.front().recorded();
  PutU32(recorded, &out);
  PutI64(end, &out);
  std::vector<std::int64_t> steps(recorded), times(recorded);
  for (const TimelineView& window : windows) {
    for (std::uint32_t i = 0; i < recorded; ++i) {
      const std::uint32_t row = window.RowOfRecorded(i);
      steps[i] = window.step(row);
      times[i] = window.time(row);
    }
    AppendLinearColumn(steps, &out);
    AppendLinearColumn(times, &out);
  }
  return out;
}

absl::StatusOr<ChapterView> ChapterView::Parse(std::string_view bytes) {
  if (bytes.empty() || (bytes[0] != kVersion && bytes[0] != kOldVersion)) {
    return Damaged();
  }
  ByteReader head(bytes.substr(1));
  const std::uint32_t windows = head.U32();
  const std::uint32_t recorded =
      bytes[0] == kOldVersion ? kOldRecorded : head.U32();
  const std::int64_t end = head.I64();
  std::string_view rest = head.rest();
  if (!head.ok() || windows == 0 || recorded == 0 || windows > rest.size() ||
      std::uint64_t{windows} * recorded > kMaxRollupRun) {
    return Damaged();
  }
  ChapterView view;
  view.end_ = end;
  view.steps_ = recorded;
  view.columns_ = rest;
  view.windows_.resize(windows);
  PrefetchHeads(rest, windows);
  for (std::uint32_t& window : view.windows_) {
    window = static_cast<std::uint32_t>(rest.data() - view.columns_.data());
    LinearColumn column;
    if (!LinearColumn::Take(&rest, recorded, &column) ||
        !LinearColumn::Take(&rest, recorded, &column)) {
      return Damaged();
    }
  }
  if (!rest.empty()) return Damaged();
  return view;
}

void ChapterView::Prefetch(std::uint32_t place) const {
  std::string_view window = columns_.substr(windows_[place / steps_]);
  LinearColumn column;  // That of times takes most of the bytes.
  LinearColumn::Take(&window, steps_, &column);
  LinearColumn::Take(&window, steps_, &column);
  column.Prefetch(place % steps_);
}

StepAndTime ChapterView::At(std::uint32_t place) const {
  std::string_view window = columns_.substr(windows_[place / steps_]);
  LinearColumn steps, times;
  LinearColumn::Take(&window, steps_, &steps);
  LinearColumn::Take(&window, steps_, &times);
  return {steps[place % steps_], times[place % steps_]};
}

}  // namespace gradtap::server
