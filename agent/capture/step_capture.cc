#include "agent/capture/step_capture.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "agent/capture/guarded.h"
#include "agent/capture/parameter_table.h"
#include "core/codec.h"

namespace gradtap::agent {

StepCapture::StepCapture(Walk walk, CaptureOptions options)
    : walk_(std::move(walk)), options_(std::move(options)) {}

absl::Status StepCapture::BeginStep(std::int64_t step) noexcept {
  if (begun_) return absl::OkStatus();
  return Guarded([&] {
    const std::int64_t interval = options_.histogram_interval_steps;
    histograms_.Begin(interval > 0 && step % interval == 0);
    if (device_ != nullptr) device_->Begin(histograms_.due());
    if (schema_.schema_id == 0 || refresh_ || step < last_walk_ ||
        step - last_walk_ >= kStepsBetweenWalks || Changed()) {
      WalkAgain(step);
    }
    // Absent unless the loop asks for it in this step too.
    if (RoleColumns* const local =
            columns_[static_cast<std::size_t>(Role::kGradLocal)]) {
      for (std::size_t p = 0; p < local->size(); ++p) local->SetAbsent(p);
    }
    gradients_filled_ = false;
    for (std::vector<std::uint8_t>& filled : filled_) filled.clear();
    begun_ = true;
  });
}

bool StepCapture::Changed() const {
  constexpr std::size_t kAhead = 8;
  const std::size_t n = entries_.size();
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) entries_[i + kAhead].known.Prefetch();
    if (!entries_[i].known.Unchanged()) return true;
  }
  return false;
}

void StepCapture::WalkAgain(std::int64_t step) {
  TableRules rules;
  rules.filter = &options_.filter;
  rules.sharded = options_.any_sharded ? &options_.sharded : nullptr;
  rules.roles = options_.roles;
  rules.grad_local = grad_local_;
  rules.without_gradients = &without_gradients_;
  TableOfTensors table = BuildTable(walk_(), rules);
  TakeTable(std::move(table.parameters), std::move(table.tensors));
  last_walk_ = step;
  refresh_ = false;
}

void StepCapture::TakeSameTable(std::vector<at::Tensor> tensors) {
  entry_of_.clear();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& e = entries_[i];
    KnownTensor now(std::move(tensors[i]));
    e.previous_valid &= now.SameOrder(e.known);
    e.known = std::move(now);
  }
}

// Copies of weights move to the entry of the same name, dtype and shape.
void StepCapture::TakeTable(std::vector<Parameter> parameters,
                            std::vector<at::Tensor> tensors) {
  const std::uint64_t fingerprint = gradtap::FingerprintOf(parameters);
  if (schema_.schema_id != 0 && fingerprint == schema_.fingerprint) {
    return TakeSameTable(std::move(tensors));
  }
  std::vector<Entry> old = std::move(entries_);
  std::unordered_map<std::string_view, std::size_t> old_index;
  old_index.reserve(old.size());
  for (std::size_t i = 0; i < old.size(); ++i) {
    old_index.emplace(schema_.parameters[i].name, i);
  }
  entry_of_.clear();
  for (std::vector<std::uint8_t>& filled : filled_) filled.clear();
  entries_.clear();
  entries_.resize(parameters.size());
  copy_bytes_ = 0;
  copies_missing_ = true;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Entry& e = entries_[i];
    const Parameter& p = parameters[i];
    e.known = KnownTensor(std::move(tensors[i]));
    e.numel = p.numel;
    e.bytes = p.bytes;
    if (!p.HasRole(Role::kUpdate)) continue;
    const auto it = old_index.find(p.name);
    if (it == old_index.end()) continue;
    Entry& before = old[it->second];
    const Parameter& q = schema_.parameters[it->second];
    if (p.dtype != q.dtype || p.shape != q.shape) continue;
    e.device_copy = std::move(before.device_copy);
    e.previous = std::move(before.previous);
    e.previous_valid = before.previous_valid && e.known.SameOrder(before.known);
    if (e.previous != nullptr) copy_bytes_ += e.bytes;
  }
  schema_.parameters = std::move(parameters);
  schema_.fingerprint = fingerprint;
  TakeNextSchemaId();
  LayOutColumns();
}

void StepCapture::TakeNextSchemaId() {
  if (schema_taken_ || schema_.schema_id == 0) ++schema_.schema_id;
  schema_taken_ = false;
}

// What cannot be named is left out: it is not worth a step.
void StepCapture::NoteOptimizer(
    const torch::optim::Optimizer& optimizer) noexcept {
  static_cast<void>(Guarded([&] { optimizers_.Note(TypeOf(optimizer)); }));
}

bool StepCapture::TakeNewSchema() noexcept {
  if (schema_.schema_id == 0) return false;
  if (schema_.optimizers.size() != optimizers_.names().size() &&
      Guarded([&] { schema_.optimizers = optimizers_.names(); }).ok()) {
    TakeNextSchemaId();
    step_.schema_id = schema_.schema_id;
  }
  return !std::exchange(schema_taken_, true);
}

void StepCapture::LayOutColumns() {
  step_.schema_id = schema_.schema_id;
  step_.roles.clear();
  columns_.fill(nullptr);
  for (Entry& e : entries_) e.place.fill(-1);
  for (const Role role : {Role::kWeight, Role::kGrad, Role::kGradLocal,
                          Role::kUpdate, Role::kBuffer}) {
    std::int32_t places = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (schema_.parameters[i].HasRole(role)) {
        entries_[i].place[static_cast<std::size_t>(role)] = places++;
      }
    }
    if (places == 0) continue;
    RoleColumns& columns = step_.roles.emplace_back();
    columns.role = role;
    columns.Resize(static_cast<std::size_t>(places));
    for (std::size_t p = 0; p < columns.size(); ++p) columns.SetAbsent(p);
  }
  for (RoleColumns& columns : step_.roles) {
    columns_[static_cast<std::size_t>(columns.role)] = &columns;
  }
}

}  // namespace gradtap::agent
