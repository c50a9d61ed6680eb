#include "server/query/step_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/query/step_records.h"

namespace gradtap::server {

StepStream::StepStream(Store* store, std::vector<Line> lines,
                       const StepWindow& window, std::size_t block_bytes,
                       SchemaCache* schemas, ReadBudget* budget,
                       WindowHook hook)
    : schemas_(schemas) {
  readers_.reserve(lines.size());
  for (Line& line : lines) {
    ranks_.push_back(line.rank);
    readers_.emplace_back(store, std::move(line), window, block_bytes, budget,
                          hook);
  }
}

absl::StatusOr<bool> StepStream::Next() {
  if (lead_ != nullptr && !lead_->status().ok()) return lead_->status();
  const absl::Status read = ReadStatus(recorded_);
  if (!read.ok()) return read;
  lead_ = nullptr;
  recorded_.clear();
  key_.clear();
  std::int64_t step = std::numeric_limits<std::int64_t>::max();
  bool any = false;
  for (RowReader& reader : readers_) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) continue;
    any = true;
    step = std::min(step, (*row)->step);
  }
  if (!any) return false;
  step_ = step;
  for (std::size_t line = 0; line < readers_.size(); ++line) {
    absl::Status status = Take(line);
    if (!status.ok()) return status;
  }
  return true;
}

absl::Status StepStream::Take(std::size_t line) {
  absl::StatusOr<const Row*> row = readers_[line].Peek();
  if (!row.ok()) return row.status();
  if (*row == nullptr || (*row)->step != step_) return absl::OkStatus();
  const Segment segment = (*row)->segment;
  std::shared_ptr<const StoredStep> stored = (*row)->stored;
  // What the row before it has read is charged.
  absl::Status status = readers_[line].Pop();
  if (!status.ok()) return status;
  if (lead_ == nullptr) {
    attempt_ = segment.attempt;
    lead_ = stored;
  }
  if (!stored->has_columns()) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas_->Get(segment.stream->id, stored->schema_id());
  if (!index.ok()) return index.status();
  key_.emplace_back(segment.stream->id, stored->schema_id());
  recorded_.push_back(
      {ranks_[line], segment, std::move(stored), *std::move(index), nullptr});
  return absl::OkStatus();
}

}  // namespace gradtap::server
