#include "agent/capture/step_capture.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "agent/capture/parameter_table.h"
#include "core/codec.h"
#include "core/kernel.h"

namespace gradtap::agent {
namespace {

// The first line: what LibTorch throws goes on with a backtrace.
std::string FirstLine(std::string_view text) {
  constexpr std::size_t kMax = 300;
  return std::string(text.substr(0, std::min(text.find('\n'), kMax)));
}

template <typename F>
absl::Status Guarded(F&& f) noexcept {
  try {
    f();
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return absl::InternalError(FirstLine(e.what()));
  } catch (...) {
    return absl::InternalError("an unknown exception");
  }
}

}  // namespace

StepCapture::StepCapture(Walk walk, CaptureOptions options)
    : walk_(std::move(walk)), options_(std::move(options)) {}

absl::Status StepCapture::BeginStep(std::int64_t step) noexcept {
  if (begun_) return absl::OkStatus();
  return Guarded([&] {
    if (schema_.schema_id == 0 || refresh_ || step < last_walk_ ||
        step - last_walk_ >= kStepsBetweenWalks || Changed()) {
      WalkAgain(step);
    }
    // Absent unless the loop asks for it in this step too.
    if (RoleColumns* const local = Columns(Role::kGradLocal)) {
      for (std::size_t p = 0; p < local->size(); ++p) local->SetAbsent(p);
    }
    grad_local_filled_ = false;
    begun_ = true;
  });
}

bool StepCapture::Changed() const {
  for (const Entry& e : entries_) {
    if (FingerprintOfTensor(e.tensor) != e.print) return true;
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

// Copies of weights move to the entry of the same name, dtype and shape.
void StepCapture::TakeTable(std::vector<Parameter> parameters,
                            std::vector<at::Tensor> tensors) {
  const std::uint64_t fingerprint = gradtap::FingerprintOf(parameters);
  if (schema_.schema_id != 0 && fingerprint == schema_.fingerprint) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      entries_[i].tensor = std::move(tensors[i]);
      entries_[i].print = FingerprintOfTensor(entries_[i].tensor);
    }
    return;
  }
  std::vector<Entry> old = std::move(entries_);
  std::unordered_map<std::string_view, std::size_t> old_index;
  old_index.reserve(old.size());
  for (std::size_t i = 0; i < old.size(); ++i) {
    old_index.emplace(schema_.parameters[i].name, i);
  }
  entries_.clear();
  entries_.resize(parameters.size());
  copy_bytes_ = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Entry& e = entries_[i];
    const Parameter& p = parameters[i];
    e.tensor = std::move(tensors[i]);
    e.print = FingerprintOfTensor(e.tensor);
    e.numel = p.numel;
    e.bytes = p.bytes;
    if (!p.HasRole(Role::kUpdate)) continue;
    const auto it = old_index.find(p.name);
    if (it == old_index.end()) continue;
    Entry& before = old[it->second];
    const Parameter& q = schema_.parameters[it->second];
    if (p.dtype != q.dtype || p.shape != q.shape) continue;
    e.previous = std::move(before.previous);
    e.previous_valid = before.previous_valid;
    if (e.previous != nullptr) copy_bytes_ += e.bytes;
  }
  schema_.parameters = std::move(parameters);
  schema_.fingerprint = fingerprint;
  if (schema_taken_ || schema_.schema_id == 0) ++schema_.schema_id;
  schema_taken_ = false;
  LayOutColumns();
}

bool StepCapture::TakeNewSchema() noexcept {
  if (schema_taken_ || schema_.schema_id == 0) return false;
  schema_taken_ = true;
  return true;
}

void StepCapture::LayOutColumns() {
  step_.schema_id = schema_.schema_id;
  step_.roles.clear();
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
}

RoleColumns* StepCapture::Columns(Role role) {
  for (RoleColumns& columns : step_.roles) {
    if (columns.role == role) return &columns;
  }
  return nullptr;
}

Moments StepCapture::Reduce(const at::Tensor& tensor) {
  if (tensor.layout() == c10::Layout::Sparse) return sparse_.Reduce(tensor);
  return gradtap::Reduce(ViewOf(tensor));
}

absl::Status StepCapture::ReduceGradients(Role role) noexcept {
  return Guarded([&] {
    if (!begun_) throw std::logic_error("no step has begun");
    if (role == Role::kGradLocal && !grad_local_) {
      grad_local_ = true;
      WalkAgain(last_walk_);
    }
    while (!FillGradients(role)) {
      if (grad_local_filled_) {
        throw std::runtime_error("a gradient's layout changed within the step");
      }
    }
    if (role == Role::kGradLocal) grad_local_filled_ = true;
  });
}

bool StepCapture::FillGradients(Role role) {
  RoleColumns* const columns = Columns(role);
  if (columns == nullptr) return true;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.place_of(role) < 0) continue;
    const auto place = static_cast<std::size_t>(e.place_of(role));
    // Not Tensor::grad(): that one warns about tensors that are no leaves.
    const at::Tensor& grad = e.tensor.unsafeGetTensorImpl()->grad();
    if (!grad.defined()) {
      columns->SetAbsent(place);
      continue;
    }
    std::string reason = UnsupportedReason(grad);
    if (reason.empty() && !SameSizes(grad, e.tensor)) {
      reason = "its shape is not the parameter's";
    }
    if (reason.empty()) {
      columns->Set(place, ToRecord(Reduce(grad)));
      continue;
    }
    const std::string& name = schema_.parameters[i].name;
    options_.report("gradients of '" + name + "' are not recorded: " + reason);
    without_gradients_.emplace(name, reason);
    WalkAgain(last_walk_);
    return false;
  }
  return true;
}

// What was true at the start of the step must be so still: the copy of the
// weight has that many bytes, and the schema says how many elements there are.
void StepCapture::CheckWeight(std::size_t i) const {
  const Entry& e = entries_[i];
  const std::string reason = UnsupportedReason(e.tensor);
  if (reason.empty() &&
      static_cast<std::int8_t>(e.tensor.scalar_type()) == e.print.dtype &&
      static_cast<std::int8_t>(e.tensor.layout()) == e.print.layout &&
      static_cast<std::uint64_t>(e.tensor.numel()) == e.numel) {
    return;
  }
  throw std::runtime_error("'" + schema_.parameters[i].name +
                           "' changed within the step" +
                           (reason.empty() ? "" : ": " + reason));
}

absl::Status StepCapture::ReduceWeights() noexcept {
  const absl::Status status = Guarded([&] {
    if (!begun_) throw std::logic_error("no step has begun");
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (schema_.parameters[i].roles.empty()) continue;
      CheckWeight(i);
      ReduceWeight(i);
    }
  });
  begun_ = false;
  if (!status.ok()) {
    refresh_ = true;
    ForgetWeights();
  }
  return status;
}

void StepCapture::ReduceWeight(std::size_t i) {
  Entry& e = entries_[i];
  const auto set = [&](Role role, const Moments& moments) {
    if (e.place_of(role) < 0) return;
    Columns(role)->Set(static_cast<std::size_t>(e.place_of(role)),
                       ToRecord(moments));
  };
  if (e.place_of(Role::kUpdate) < 0) {
    const bool buffer = e.place_of(Role::kBuffer) >= 0;
    if (!buffer && e.place_of(Role::kWeight) < 0) return;
    set(buffer ? Role::kBuffer : Role::kWeight, Reduce(e.tensor));
    return;
  }
  if (e.previous == nullptr && options_.roles.update) AllocateCopy(&e);
  if (e.previous_valid) {
    const WeightAndUpdate both =
        ReduceWeightAndUpdate(ViewOf(e.tensor), e.previous.get());
    set(Role::kWeight, both.weight);
    set(Role::kUpdate, both.update);
    return;
  }
  set(Role::kWeight, e.previous == nullptr
                         ? Reduce(e.tensor)
                         : ReduceAndCopy(ViewOf(e.tensor), e.previous.get()));
  e.previous_valid = e.previous != nullptr;
  Columns(Role::kUpdate)
      ->SetAbsent(static_cast<std::size_t>(e.place_of(Role::kUpdate)));
}

// Without the memory, updates are given up, not the run.
void StepCapture::AllocateCopy(Entry* e) {
  // One byte at least: an empty parameter has a copy too.
  const std::uint64_t bytes = std::max<std::uint64_t>(e->bytes, 1);
  e->previous.reset(new (std::nothrow) std::byte[bytes]);
  if (e->previous != nullptr) {
    copy_bytes_ += e->bytes;
    return;
  }
  options_.report("no memory for a copy of the weights (" +
                  std::to_string(bytes) +
                  " bytes more): updates are not recorded");
  options_.roles.update = false;
  refresh_ = true;
  for (Entry& other : entries_) {
    other.previous.reset();
    other.previous_valid = false;
  }
  copy_bytes_ = 0;
}

void StepCapture::KeepWeights() noexcept {
  const absl::Status status = Guarded([&] {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Entry& e = entries_[i];
      if (e.previous == nullptr || e.place_of(Role::kUpdate) < 0) continue;
      CheckWeight(i);
      ReduceAndCopy(ViewOf(e.tensor), e.previous.get());
      e.previous_valid = true;
    }
  });
  if (!status.ok()) ForgetWeights();
}

void StepCapture::ForgetWeights() noexcept {
  for (Entry& e : entries_) e.previous_valid = false;
}

}  // namespace gradtap::agent
