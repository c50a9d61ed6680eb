#include "server/query/row_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxBlockRows = 256;
constexpr std::size_t kMaxBackwardBytes = std::size_t{32} << 20;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 60;

Row CopyOf(const Segment& segment, const StepRow& row) {
  return {segment, row.step, row.ordinal, std::string(row.body)};
}

}  // namespace

ReadBudget::ReadBudget(std::uint64_t max_bytes, Cancelled cancelled)
    : max_bytes_(max_bytes), cancelled_(std::move(cancelled)) {}

absl::Status ReadBudget::Charge(std::uint64_t bytes) {
  if (cancelled_ && cancelled_()) {
    return absl::CancelledError("the caller has gone");
  }
  used_ += bytes;
  if (used_ <= max_bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      "the query reads more than " + std::to_string(max_bytes_) +
      " bytes of stored steps, the limit of one query; ask for fewer steps "
      "(--steps A:B)");
}

RowReader::RowReader(Store* store, Line line, const StepWindow& window,
                     std::size_t block_bytes, ReadBudget* budget)
    : store_(store),
      line_(std::move(line)),
      window_(window),
      block_bytes_(block_bytes),
      budget_(budget),
      next_step_(window.begin) {}

absl::StatusOr<const Row*> RowReader::Peek() {
  while (block_.empty() && segment_ < line_.segments.size()) {
    if (absl::Status status = Fill(); !status.ok()) return status;
  }
  return block_.empty() ? nullptr : &block_.front();
}

void RowReader::Pop() { block_.pop_front(); }

absl::Status RowReader::Fill() {
  const Segment& segment = line_.segments[segment_];
  const std::int64_t begin = std::max(segment.begin, next_step_);
  const std::int64_t end = std::min(segment.end, window_.end);
  bool more = false;
  std::uint64_t bytes = 0;
  absl::Status charged;
  if (begin < end) {
    absl::Status status = store_->ScanSteps(
        segment.stream->id, segment.branch, begin, end,
        [&](const StepRow& row) {
          if (!block_.empty() && (block_.size() >= kMaxBlockRows ||
                                  bytes + row.body.size() > block_bytes_)) {
            more = true;
            return false;
          }
          charged = budget_->Charge(row.body.size());
          if (!charged.ok()) return false;
          bytes += row.body.size();
          block_.push_back(CopyOf(segment, row));
          next_step_ = row.step + 1;
          return true;
        });
    if (!status.ok()) return status;
    if (!charged.ok()) return charged;
  }
  if (!more) ++segment_;
  return absl::OkStatus();
}

absl::Status ScanBackward(Store* store, const Line& line,
                          const StepWindow& window, ReadBudget* budget,
                          const std::function<bool(const Row&)>& visit) {
  for (auto segment = line.segments.rbegin(); segment != line.segments.rend();
       ++segment) {
    const std::int64_t begin = std::max(segment->begin, window.begin);
    std::int64_t end = std::min(segment->end, window.end);
    std::int64_t width = 1;
    while (begin < end) {
      const std::int64_t from = end - begin > width ? end - width : begin;
      std::vector<Row> rows;
      std::size_t bytes = 0;
      bool too_much = false;
      absl::Status charged;
      absl::Status status = store->ScanSteps(
          segment->stream->id, segment->branch, from, end,
          [&](const StepRow& row) {
            charged = budget->Charge(row.body.size());
            if (!charged.ok()) return false;
            bytes += row.body.size();
            too_much = rows.size() >= kMaxBlockRows ||
                       (!rows.empty() && bytes > kMaxBackwardBytes);
            if (too_much) return false;
            rows.push_back(CopyOf(*segment, row));
            return true;
          });
      if (!status.ok()) return status;
      if (!charged.ok()) return charged;
      if (too_much) {  // Dense steps below sparse ones: a narrower window.
        width = std::max<std::int64_t>(1, width / 4);
        continue;
      }
      for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
        if (!visit(*row)) return absl::OkStatus();
      }
      end = from;
      // Sparse steps (a counter of tokens) need wide windows soon.
      if (rows.size() < kMaxBlockRows / 4 && width < kMaxWidth) width *= 2;
    }
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
