#include "server/store/window/window_builder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

// Rows by scalars of a window: names that change at every step end it early.
constexpr std::size_t kMaxScalarCells = std::size_t{1} << 20;

}  // namespace

bool WindowBuilder::full() const {
  return (layout_ != nullptr && recorded_ >= window_steps_) ||
         rows_.size() >= kMaxWindowRows ||
         rows_.size() * scalars_.size() >= kMaxScalarCells;
}

absl::StatusOr<bool> WindowBuilder::Take(const StepView& step,
                                         std::uint64_t ordinal) {
  if (full()) return false;
  RoleSet roles = 0;
  for (const StepView::Columns& columns : step.columns()) {
    roles |= BitOf(columns.role);
  }
  if (roles != 0) {
    if (recorded_ > 0 && step.schema_id() != schema_id_) return false;
    schema_id_ = step.schema_id();
    if (layout_ == nullptr) {
      absl::StatusOr<std::shared_ptr<const TileLayout>> layout =
          layout_of_(schema_id_);
      if (!layout.ok()) return layout.status();
      layout_ = *std::move(layout);
      if (window_steps_ == 0) window_steps_ = WindowStepsOf(*layout_);
      StartSlab(0);
    }
    if (const absl::Status s = CheckColumns(step); !s.ok()) return s;
    if (slab_.has_value()) slab_->Add(step);
    ++recorded_;
  }
  if (rows_.empty()) schema_id_ = step.schema_id();
  TakeScalars(step);
  if (!step.skipped_detail().empty()) {
    details_.emplace(rows(), std::string(step.skipped_detail()));
  }
  rows_.push_back({step.step(),
                   step.wall_time_unix_ns(),
                   ordinal,
                   step.interval_steps(),
                   step.skipped(),
                   roles,
                   {}});
  return true;
}

absl::Status WindowBuilder::CheckColumns(const StepView& step) const {
  for (const StepView::Columns& columns : step.columns()) {
    const std::uint32_t places = layout_->places(columns.role);
    if (columns.size == places) continue;
    return absl::DataLossError(absl::StrCat(
        "step ", step.step(), " has ", columns.size,
        " columns where its schema ", schema_id_, " has ", places));
  }
  return absl::OkStatus();
}

void WindowBuilder::TakeScalars(const StepView& step) {
  const std::size_t row = rows_.size();
  for (const StepView::ScalarView& scalar : step.scalars()) {
    auto found = scalars_.find(scalar.name);
    if (found == scalars_.end()) {
      found = scalars_.emplace(std::string(scalar.name), ScalarColumn()).first;
    }
    ScalarColumn& column = found->second;
    column.values.resize(row + 1);
    column.present.resize(row + 1);
    column.values[row] = scalar.value;
    column.present[row] = 1;
  }
}

void WindowBuilder::StartSlab(std::uint32_t begin) {
  slab_.reset();
  if (begin >= layout_->blocks()) return;
  std::uint32_t end = begin;
  for (std::size_t bytes = 0; end < layout_->blocks(); ++end) {
    bytes += Slab::BytesOf(*layout_, end, window_steps_);
    if (end > begin && bytes > slab_bytes_) break;
  }
  slab_.emplace(layout_.get(), begin, end, window_steps_);
}

absl::Status WindowBuilder::WriteSlab(BlockWriter* writer, WindowSink* sink) {
  if (!slab_.has_value()) return absl::OkStatus();
  for (std::uint32_t i = slab_->begin(); i < slab_->end(); ++i) {
    slab_->Gather(i, &block_);
    block_.schema_id = schema_id_;
    const absl::Status s = writer->Write(*layout_, block_, sink, &fields_);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

bool WindowBuilder::NextSlab() {
  if (!slab_.has_value()) return false;
  StartSlab(slab_->end());
  return slab_.has_value();
}

void WindowBuilder::TakeAgain(const StepView& step) {
  if (!step.columns().empty()) slab_->Add(step);
}

absl::Status WindowBuilder::WriteScalars(TileEncoder* encoder,
                                         WindowSink* sink) const {
  for (const auto& [name, column] : scalars_) {
    ScalarColumn whole = column;
    whole.values.resize(rows_.size());
    whole.present.resize(rows_.size());
    const absl::Status s = sink->PutScalar(name, EncodeScalars(whole, encoder));
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

std::string WindowBuilder::Timeline() const {
  std::vector<TimelineRow> rows = rows_;
  for (const auto& [row, detail] : details_) rows[row].detail = detail;
  std::vector<std::string_view> names;
  for (const auto& [name, column] : scalars_) names.push_back(name);
  return EncodeTimeline(schema_id_, fields_, rows, names);
}

}  // namespace gradtap::server
