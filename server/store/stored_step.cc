#include "server/store/stored_step.h"

#include <utility>

namespace gradtap::server {
namespace {

constexpr FieldSet kNonfiniteFields = BitOf(WindowField::kNan) |
                                      BitOf(WindowField::kPosInf) |
                                      BitOf(WindowField::kNegInf);

class RowStep final : public StoredStep {
 public:
  static absl::StatusOr<std::shared_ptr<const StoredStep>> Open(
      std::shared_ptr<const void> owner, std::string_view body,
      std::uint64_t ordinal) {
    std::shared_ptr<RowStep> step(new RowStep());
    step->owner_ = std::move(owner);
    step->body_ = body;
    absl::StatusOr<StepView> view = StepView::Parse(step->body_);
    if (!view.ok()) return view.status();
    step->view_ = *std::move(view);
    step->ordinal_ = ordinal;
    step->CopyHead();
    return step;
  }

  bool MayHaveNonfinite(Role role) const override {
    const StepView::Columns* columns = view_.Find(role);
    return columns != nullptr &&
           !(columns->nan.place.empty() && columns->pos_inf.place.empty() &&
             columns->neg_inf.place.empty());
  }

  Presence Read(Role role, std::int64_t place, FieldSet,
                Record* record) const override {
    const StepView::Columns* columns = view_.Find(role);
    if (place < 0 || columns == nullptr || place >= columns->size) {
      return Presence::kMissing;
    }
    const auto at = static_cast<std::uint32_t>(place);
    if (columns->IsAbsent(at)) return Presence::kAbsent;
    *record = columns->Get(at);
    return Presence::kValue;
  }

  void ForEachScalar(const std::function<bool(std::string_view)>& wanted,
                     const std::function<void(std::string_view, double)>& visit)
      const override {
    for (const StepView::ScalarView& scalar : view_.scalars()) {
      if (!wanted || wanted(scalar.name)) visit(scalar.name, scalar.value);
    }
  }

  std::uint64_t bytes_read() const override { return body_.size(); }
  const StepView* row_view() const override { return &view_; }

  std::vector<HistogramData> HistogramsInside() const override {
    return view_.DecodeHistograms();
  }
  bool has_histograms_inside() const override { return view_.has_histograms(); }

 private:
  RowStep() = default;

  void CopyHead() {
    step_ = view_.step();
    wall_time_unix_ns_ = view_.wall_time_unix_ns();
    schema_id_ = view_.schema_id();
    interval_steps_ = view_.interval_steps();
    skipped_ = view_.skipped();
    skipped_detail_ = view_.skipped_detail();
    for (const StepView::Columns& columns : view_.columns()) {
      roles_ |= BitOf(columns.role);
    }
  }

  std::shared_ptr<const void> owner_;
  std::string_view body_;
  StepView view_;
};

class WindowStep final : public StoredStep {
 public:
  WindowStep(std::shared_ptr<SealedWindow> window, std::uint32_t row)
      : window_(std::move(window)), row_(row) {
    const TimelineView& timeline = window_->timeline();
    step_ = timeline.step(row);
    wall_time_unix_ns_ = timeline.time(row);
    ordinal_ = timeline.ordinal(row);
    schema_id_ = timeline.schema_id();
    interval_steps_ = timeline.interval(row);
    skipped_ = timeline.skipped(row);
    skipped_detail_ = timeline.detail(row);
    roles_ = timeline.roles(row);
    if (roles_ != 0 && window_->rolled_up()) {
      roles_ = 0;
      skipped_ = GapCause::kRolledUp;
    }
    if (roles_ != 0) at_ = window_->PositionOf(row);
  }

  bool MayHaveNonfinite(Role role) const override {
    return (window_->timeline().fields(role) & kNonfiniteFields) != 0;
  }

  Presence Read(Role role, std::int64_t place, FieldSet fields,
                Record* record) const override {
    if (!HasRole(role) || place < 0 ||
        place >= window_->layout().places(role)) {
      return Presence::kMissing;
    }
    const auto p = static_cast<std::uint32_t>(place);
    const std::uint64_t* present = window_->Presence(role, p);
    if (present != nullptr && present[at_] == 0) return Presence::kAbsent;
    for (int f = 1; f < kWindowFields; ++f) {
      const auto field = static_cast<WindowField>(f);
      if ((fields & BitOf(field)) != 0) ReadField(role, p, field, record);
    }
    return window_->status().ok() ? Presence::kValue : Presence::kMissing;
  }

  void ForEachScalar(const std::function<bool(std::string_view)>& wanted,
                     const std::function<void(std::string_view, double)>& visit)
      const override {
    const std::vector<std::string_view>& names = window_->scalar_names();
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (wanted && !wanted(names[i])) continue;
      const ScalarColumn* column = window_->Scalar(i);
      if (column == nullptr || column->present[row_] == 0) continue;
      visit(names[i], column->values[row_]);
    }
  }

  const SealedWindow* window() const override { return window_.get(); }
  std::shared_ptr<const StoredStep> In(
      std::shared_ptr<SealedWindow> copy) const override {
    return std::make_shared<const WindowStep>(std::move(copy), row_);
  }

  absl::Status status() const override { return window_->status(); }
  std::uint64_t bytes_read() const override { return window_->bytes_read(); }

 private:
  void ReadField(Role role, std::uint32_t place, WindowField field,
                 Record* record) const {
    if (IsFloat(field)) {
      const float* values = window_->Floats(role, field, place);
      if (values != nullptr) FloatOf(field, record) = values[at_];
      return;
    }
    const std::uint64_t* values = window_->Counts(role, field, place);
    CountOf(field, record) = values == nullptr ? 0 : values[at_];
  }

  static float& FloatOf(WindowField field, Record* record) {
    switch (field) {
      case WindowField::kStd:
        return record->std;
      case WindowField::kAbsMean:
        return record->abs_mean;
      case WindowField::kMin:
        return record->min;
      case WindowField::kMax:
        return record->max;
      default:
        return record->mean;
    }
  }
  static std::uint64_t& CountOf(WindowField field, Record* record) {
    switch (field) {
      case WindowField::kNan:
        return record->nan;
      case WindowField::kPosInf:
        return record->pos_inf;
      case WindowField::kNegInf:
        return record->neg_inf;
      default:
        return record->zero;
    }
  }

  std::shared_ptr<SealedWindow> window_;
  std::uint32_t row_ = 0;
  std::uint32_t at_ = 0;  // Among what the window's series have.
};

}  // namespace

FieldSet FieldsOf(Field field) {
  switch (field) {
    case Field::kMean:
    case Field::kSum:
      return kNonfiniteFields | BitOf(WindowField::kMean);
    case Field::kStd:
    case Field::kVariance:
      return kNonfiniteFields | BitOf(WindowField::kStd);
    case Field::kAbsMean:
    case Field::kL1:
      return kNonfiniteFields | BitOf(WindowField::kAbsMean);
    case Field::kMin:
      return kNonfiniteFields | BitOf(WindowField::kMin);
    case Field::kMax:
      return kNonfiniteFields | BitOf(WindowField::kMax);
    case Field::kAbsMax:
      return kNonfiniteFields | BitOf(WindowField::kMin) |
             BitOf(WindowField::kMax);
    case Field::kL2:
    case Field::kRms:
      return kNonfiniteFields | BitOf(WindowField::kMean) |
             BitOf(WindowField::kStd);
    case Field::kZero:
    case Field::kZeroFraction:
      return BitOf(WindowField::kZero);
    case Field::kNan:
    case Field::kPosInf:
    case Field::kNegInf:
    case Field::kNonfinite:
    case Field::kFiniteFraction:
      return kNonfiniteFields;
    case Field::kRatio:
    case Field::kQuantile:
      return kAllFields;
  }
  return kAllFields;
}

absl::StatusOr<std::shared_ptr<const StoredStep>> StoredStep::OfRow(
    std::string body, std::uint64_t ordinal) {
  const auto owned = std::make_shared<const std::string>(std::move(body));
  return RowStep::Open(owned, *owned, ordinal);
}

absl::StatusOr<std::shared_ptr<const StoredStep>> StoredStep::OfSharedRow(
    std::shared_ptr<const void> owner, std::string_view body,
    std::uint64_t ordinal) {
  return RowStep::Open(std::move(owner), body, ordinal);
}

std::shared_ptr<const StoredStep> StoredStep::OfWindow(
    std::shared_ptr<SealedWindow> window, std::uint32_t row) {
  return std::make_shared<const WindowStep>(std::move(window), row);
}

absl::StatusOr<std::shared_ptr<const StoredStep>> OpenStep(const StepRow& row) {
  if (row.window != nullptr) {
    return StoredStep::OfWindow(row.window, row.window_row);
  }
  if (row.body_owner != nullptr) {
    return StoredStep::OfSharedRow(row.body_owner, row.body, row.ordinal);
  }
  return StoredStep::OfRow(std::string(row.body), row.ordinal);
}

absl::StatusOr<StepData> ToStepData(const StoredStep& step,
                                    const TileLayout& layout) {
  StepData data;
  data.step = step.step();
  data.wall_time_unix_ns = step.wall_time_unix_ns();
  data.schema_id = step.schema_id();
  data.interval_steps = step.interval_steps();
  data.skipped = step.skipped();
  data.skipped_detail = std::string(step.skipped_detail());
  step.ForEachScalar(nullptr, [&](std::string_view name, double value) {
    data.scalars.push_back({std::string(name), value});
  });
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    if (!step.HasRole(role)) continue;
    RoleColumns& columns = data.roles.emplace_back();
    columns.role = role;
    columns.Resize(layout.places(role));
    for (std::uint32_t place = 0; place < layout.places(role); ++place) {
      Record record;
      if (step.Read(role, place, kAllFields, &record) ==
          StoredStep::Presence::kValue) {
        columns.Set(place, record);
      } else {
        columns.SetAbsent(place);
      }
    }
  }
  if (const absl::Status s = step.status(); !s.ok()) return s;
  return data;
}

}  // namespace gradtap::server
