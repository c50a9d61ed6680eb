#include "server/health/health_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace gradtap::server {
namespace {

constexpr Role kRoles[] = {Role::kWeight, Role::kGrad, Role::kGradLocal,
                           Role::kUpdate, Role::kBuffer};

bool WantsValues(Role role) {
  return role == Role::kWeight || role == Role::kGrad || role == Role::kUpdate;
}

void Copy(std::string_view bytes, std::vector<float>* to) {
  to->resize(bytes.size() / sizeof(float));
  if (!to->empty()) std::memcpy(to->data(), bytes.data(), bytes.size());
}

void AddCounts(const StepView::Counts& counts, HealthColumns* to) {
  for (std::size_t i = 0; i < counts.place.size(); ++i) {
    to->nonfinite.emplace_back(counts.place[i], counts.count[i]);
  }
}

// One entry a place, in order.
void Join(HealthColumns* columns) {
  auto& all = columns->nonfinite;
  std::sort(all.begin(), all.end());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (kept > 0 && all[kept - 1].first == all[i].first) {
      all[kept - 1].second += all[i].second;
    } else {
      all[kept++] = all[i];
    }
  }
  all.resize(kept);
}

void ReadColumns(const StepView::Columns& from, HealthColumns* to) {
  to->present = true;
  to->places = from.size;
  if (WantsValues(from.role)) {
    Copy(from.mean, &to->mean);
    Copy(from.std, &to->std);
    if (!from.absent.empty()) {
      to->absent.resize(from.size);
      for (std::uint32_t i = 0; i < from.size; ++i) {
        to->absent[i] = from.IsAbsent(i) ? 1 : 0;
      }
    }
  }
  AddCounts(from.nan, to);
  AddCounts(from.pos_inf, to);
  if (from.role != Role::kBuffer) AddCounts(from.neg_inf, to);
  if (!to->nonfinite.empty()) Join(to);
}

// Of a sealed window, place by place: only what is behind is read from there.
void ReadPlaces(const StoredStep& stored, Role role, HealthColumns* to) {
  const bool values = WantsValues(role);
  const bool counts = stored.MayHaveNonfinite(role);
  to->present = true;
  to->places = stored.window()->layout().places(role);
  if (!values && !counts) return;
  FieldSet fields = FieldsOf(Field::kNonfinite);
  if (values) fields |= FieldsOf(Field::kRms);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  if (values) {
    to->mean.assign(to->places, kNan);
    to->std.assign(to->places, kNan);
    to->absent.assign(to->places, 0);
  }
  for (std::uint32_t i = 0; i < to->places; ++i) {
    Record record;
    const auto presence = stored.Read(role, i, fields, &record);
    if (presence != StoredStep::Presence::kValue) {
      if (values) to->absent[i] = 1;
      continue;
    }
    if (values) {
      to->mean[i] = record.mean;
      to->std[i] = record.std;
    }
    const std::uint64_t bad = record.nan + record.pos_inf +
                              (role == Role::kBuffer ? 0 : record.neg_inf);
    if (bad > 0) to->nonfinite.emplace_back(i, bad);
  }
}

void Clear(HealthColumns* columns) {
  columns->present = false;
  columns->places = 0;
  columns->absent.clear();
  columns->nonfinite.clear();
}

}  // namespace

void ReadHealthStep(const StepView& view, const std::string& loss,
                    HealthStep* step) {
  step->step = view.step();
  step->time_unix_ns = view.wall_time_unix_ns();
  step->schema_id = view.schema_id();
  step->skipped = view.skipped();
  step->captured = !view.columns().empty();
  step->loss.reset();
  for (const Role role : kRoles) Clear(&step->of(role));
  for (const StepView::Columns& columns : view.columns()) {
    ReadColumns(columns, &step->of(columns.role));
  }
  for (const StepView::ScalarView& scalar : view.scalars()) {
    if (scalar.name == loss) step->loss = scalar.value;
  }
}

absl::Status ReadHealthStep(const StoredStep& stored, const std::string& loss,
                            HealthStep* step) {
  if (const StepView* row = stored.row_view(); row != nullptr) {
    ReadHealthStep(*row, loss, step);
    return absl::OkStatus();
  }
  step->step = stored.step();
  step->time_unix_ns = stored.wall_time_unix_ns();
  step->schema_id = stored.schema_id();
  step->skipped = stored.skipped();
  step->captured = stored.has_columns();
  step->loss.reset();
  for (const Role role : kRoles) {
    HealthColumns& columns = step->of(role);
    Clear(&columns);
    if (stored.HasRole(role)) ReadPlaces(stored, role, &columns);
  }
  stored.ForEachScalar([&loss](std::string_view name) { return name == loss; },
                       [&](std::string_view name, double value) {
                         if (name == loss) step->loss = value;
                       });
  return stored.status();
}

}  // namespace gradtap::server
