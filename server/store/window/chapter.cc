#include "server/store/window/chapter.h"

#include "absl/status/status.h"
#include "server/store/bytes.h"
#include "server/store/rollup/entry.h"

namespace gradtap::server {
namespace {

constexpr char kVersion = 2;
constexpr char kOldVersion = 1;
constexpr std::uint32_t kOldRecorded = 256;

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
  view.windows_.resize(windows);
  for (auto& [steps, times] : view.windows_) {
    if (!LinearColumn::Take(&rest, recorded, &steps) ||
        !LinearColumn::Take(&rest, recorded, &times)) {
      return Damaged();
    }
  }
  if (!rest.empty()) return Damaged();
  return view;
}

}  // namespace gradtap::server
