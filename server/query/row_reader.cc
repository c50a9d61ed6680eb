#include "server/query/row_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxBlockRows = 256;
constexpr std::size_t kMaxBackwardBytes = std::size_t{32} << 20;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 60;

}  // namespace

absl::StatusOr<Row> MakeRow(const Segment& segment, const StepRow& row) {
  absl::StatusOr<std::shared_ptr<const StoredStep>> stored = OpenStep(row);
  if (!stored.ok()) return stored.status();
  return Row{segment, row.step, row.ordinal, *std::move(stored)};
}

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
                     std::size_t block_bytes, ReadBudget* budget,
                     WindowHook hook)
    : store_(store),
      line_(std::move(line)),
      window_(window),
      block_bytes_(block_bytes),
      budget_(budget),
      hook_(std::move(hook)),
      next_step_(window.begin) {}

absl::StatusOr<const Row*> RowReader::Peek() {
  while (block_.empty() && segment_ < line_.segments.size()) {
    if (absl::Status status = Fill(); !status.ok()) return status;
  }
  return block_.empty() ? nullptr : &block_.front();
}

absl::Status RowReader::Pop() {
  const Row row = std::move(block_.front());
  block_.pop_front();
  absl::Status status = row.stored->status();
  if (!status.ok() || !row.stored->in_window()) return status;
  // What has been read of the window since the last of its rows.
  const std::uint64_t read = row.stored->bytes_read();
  if (read < window_charged_) window_charged_ = 0;  // Another window.
  status = budget_->Charge(read - window_charged_);
  window_charged_ = read;
  return status;
}

absl::Status RowReader::Take(const Segment& segment, const StepRow& row) {
  if (row.window != nullptr && row.window.get() != window_read_) {
    window_read_ = row.window.get();
    window_charged_ = 0;
    if (hook_) {
      const absl::Status hooked = hook_(segment, row.window.get());
      if (!hooked.ok()) return hooked;
    }
  }
  const absl::Status charged = budget_->Charge(row.body.size());
  if (!charged.ok()) return charged;
  absl::StatusOr<Row> made = MakeRow(segment, row);
  if (!made.ok()) return made.status();
  block_.push_back(*std::move(made));
  next_step_ = row.step + 1;
  return absl::OkStatus();
}

absl::Status RowReader::Fill() {
  const Segment& segment = line_.segments[segment_];
  const std::int64_t begin = std::max(segment.begin, next_step_);
  const std::int64_t end = std::min(segment.end, window_.end);
  bool more = false;
  std::uint64_t bytes = 0;
  absl::Status taken;
  window_read_ = nullptr;
  if (begin < end) {
    absl::Status status =
        store_->ScanSteps(segment.stream->id, segment.branch, begin, end,
                          [&](const StepRow& row) {
                            // A window is not left half read: it would be
                            // decoded twice.
                            const bool whole = row.window != nullptr &&
                                               row.window.get() == window_read_;
                            if (!block_.empty() && !whole &&
                                (block_.size() >= kMaxBlockRows ||
                                 bytes + row.body.size() > block_bytes_)) {
                              more = true;
                              return false;
                            }
                            bytes += row.body.size();
                            taken = Take(segment, row);
                            return taken.ok();
                          });
    if (!status.ok()) return status;
    if (!taken.ok()) return taken;
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
      absl::Status failed;
      absl::Status status = store->ScanSteps(
          segment->stream->id, segment->branch, from, end,
          [&](const StepRow& row) {
            failed = budget->Charge(row.body.size());
            if (!failed.ok()) return false;
            bytes += row.body.size();
            too_much = rows.size() >= kMaxBlockRows ||
                       (!rows.empty() && bytes > kMaxBackwardBytes);
            if (too_much) return false;
            absl::StatusOr<Row> made = MakeRow(*segment, row);
            failed = made.status();
            if (failed.ok()) rows.push_back(*std::move(made));
            return failed.ok();
          });
      if (!status.ok()) return status;
      if (!failed.ok()) return failed;
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
