// Rows of a line, pulled one by one, within what a query may read.
//
// Layer: server/query. This file: std, absl, store; no grpc. Not thread-safe:
// one query, one thread.

#ifndef GRADTAP_SERVER_QUERY_ROW_READER_H_
#define GRADTAP_SERVER_QUERY_ROW_READER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/query/line.h"
#include "server/store/store.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

// Bounds of one query. What exceeds one is refused with kResourceExhausted,
// stating it and a narrower query.
struct QueryLimits {
  // Numbers in one answer: about 20 bytes each on the wire.
  std::uint64_t max_values = 2'000'000;
  // Of a heat map: about 5 bytes each.
  std::uint64_t max_cells = 10'000'000;
  // Bytes of stored rows that one query may read.
  std::uint64_t max_read_bytes = std::uint64_t{8} << 30;
  // Gaps in one answer; those of GetSeries are joined instead.
  std::uint64_t max_gaps = 100'000;
};

// True once nobody waits for the answer any more. Any thread may call it.
using Cancelled = std::function<bool()>;

// What one query has read so far.
class ReadBudget {
 public:
  ReadBudget(std::uint64_t max_bytes, Cancelled cancelled);

  // kResourceExhausted over the limit, kCancelled if nobody waits.
  absl::Status Charge(std::uint64_t bytes);

 private:
  const std::uint64_t max_bytes_;
  const Cancelled cancelled_;
  std::uint64_t used_ = 0;
};

struct Row {
  Segment segment;
  std::int64_t step = 0;
  std::uint64_t ordinal = 0;
  std::shared_ptr<const StoredStep> stored;
};
// kInvalidArgument if the row cannot be read.
absl::StatusOr<Row> MakeRow(const Segment& segment, const StepRow& row);

// Called once for each sealed window that is read, before any of its values:
// to say what will be asked for (SealedWindow::Focus()).
using WindowHook =
    std::function<absl::Status(const Segment& segment, SealedWindow* window)>;

// Reads in blocks, each from one consistent snapshot of the store; rows never
// change, so that the blocks agree.
class RowReader {
 public:
  // `store` and `budget` must outlive the reader, and so must the RunEntry that
  // the line is of. Holds at most about `block_bytes`, or one row.
  RowReader(Store* store, Line line, const StepWindow& window,
            std::size_t block_bytes, ReadBudget* budget, WindowHook hook = {});

  // The next row, valid until Pop(); null at the end.
  absl::StatusOr<const Row*> Peek();
  // Its errors are those of reading the row.
  absl::Status Pop();

 private:
  absl::Status Fill();
  absl::Status Take(const Segment& segment, const StepRow& row);

  Store* const store_;
  const Line line_;
  const StepWindow window_;
  const std::size_t block_bytes_;
  ReadBudget* const budget_;
  const WindowHook hook_;
  std::size_t segment_ = 0;     // Index into line_.segments.
  std::int64_t next_step_ = 0;  // Nothing below it is read again.
  std::deque<Row> block_;
  const SealedWindow* window_read_ = nullptr;  // The newest.
  std::uint64_t window_charged_ = 0;           // Of its bytes.
};

// Calls `visit` for the rows of a line from the newest to the oldest until it
// returns false. Reads little more than it visits if few rows are wanted.
absl::Status ScanBackward(Store* store, const Line& line,
                          const StepWindow& window, ReadBudget* budget,
                          const std::function<bool(const Row&)>& visit);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_ROW_READER_H_
