// StepCapture: from tensors to columns.

#include <algorithm>
#include <cstddef>
#include <new>
#include <stdexcept>
#include <utility>

#include "agent/capture/guarded.h"
#include "agent/capture/step_capture.h"

namespace gradtap::agent {
namespace {

constexpr char kOtherShape[] = "its shape is not the parameter's";

}  // namespace

void StepCapture::MakeRoomForHistograms() {
  std::size_t records = 0;
  for (const RoleColumns& columns : step_.roles) records += columns.size();
  histograms_.MakeRoom(records);
  if (records <= kMaxStepHistograms || histogram_limit_reported_ ||
      options_.histogram_interval_steps <= 0) {
    return;
  }
  histogram_limit_reported_ = true;
  options_.report(std::to_string(records) + " records a step: the first " +
                  std::to_string(kMaxStepHistograms) + " have histograms");
}

// ---- Gradients -------------------------------------------------------------

absl::Status StepCapture::ReduceGradients(Role role) noexcept {
  return Fill(role, nullptr);
}

absl::Status StepCapture::ReduceGradientsOf(
    Role role, const torch::optim::Optimizer& optimizer) noexcept {
  return Fill(role, &optimizer);
}

absl::Status StepCapture::Fill(Role role,
                               const torch::optim::Optimizer* only) noexcept {
  return Guarded([&] {
    if (!begun_) throw std::logic_error("no step has begun");
    if (role == Role::kGradLocal && !grad_local_) {
      grad_local_ = true;
      if (gradients_filled_) {
        refresh_ = true;
        return;
      }
      WalkAgain(last_walk_);
    }
    while (FillGradients(role, only) == Filled::kTableIsAnother) {
    }
    gradients_filled_ = true;
  });
}

void StepCapture::Choose(const torch::optim::Optimizer& optimizer) {
  if (entry_of_.empty()) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      entry_of_.emplace_back(&entries_[i].known.impl(), i);
    }
    std::sort(entry_of_.begin(), entry_of_.end());
  }
  chosen_.assign(entries_.size(), 0);
  VisitParameters(optimizer, [&](const void* impl) {
    const auto it = std::lower_bound(entry_of_.begin(), entry_of_.end(),
                                     std::make_pair(impl, std::size_t{0}));
    if (it != entry_of_.end() && it->first == impl) chosen_[it->second] = 1;
  });
}

// Nothing is left of what the columns of the optimizer's parameters had, nor
// of what the last step had in the others.
void StepCapture::BeginPart(Role role,
                            const torch::optim::Optimizer& optimizer) {
  RoleColumns& columns = *columns_[static_cast<std::size_t>(role)];
  std::vector<std::uint8_t>& filled = filled_[static_cast<std::size_t>(role)];
  Choose(optimizer);
  if (filled.size() != entries_.size()) {
    filled.assign(entries_.size(), 0);
    histograms_.Drop(role);
    if (device_ != nullptr) device_->Drop(role);
    for (std::size_t p = 0; p < columns.size(); ++p) columns.SetAbsent(p);
  }
  bool again = false;
  places_.assign(columns.size(), 0);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (chosen_[i] == 0 || entries_[i].place_of(role) < 0) continue;
    places_[static_cast<std::size_t>(entries_[i].place_of(role))] = 1;
    again |= filled[i] != 0;
    filled[i] = 1;
  }
  if (!again) return;
  histograms_.Drop(role, places_);
  if (device_ != nullptr) device_->Drop(role, places_);
}

StepCapture::Filled StepCapture::FillGradients(
    Role role, const torch::optim::Optimizer* only) {
  if (columns_[static_cast<std::size_t>(role)] == nullptr) return Filled::kYes;
  if (only != nullptr) {
    BeginPart(role, *only);
  } else {
    filled_[static_cast<std::size_t>(role)].assign(entries_.size(), 1);
    histograms_.Drop(role);
    if (device_ != nullptr) device_->Drop(role);
  }
  MakeRoomForHistograms();
  work_.Clear();
  sparse_entries_.clear();
  const std::size_t n = entries_.size();
  for (std::size_t begin = 0; begin < n; begin += kGroup) {
    if (AddGradients(role, begin, std::min(begin + kGroup, n), only) ==
        Filled::kTableIsAnother) {
      return Filled::kTableIsAnother;
    }
  }
  work_.Run();
  for (const std::size_t i : sparse_entries_) {
    const absl::StatusOr<SparseValues> values =
        sparse_.Prepare(entries_[i].known.impl().grad());
    if (values.ok()) {
      ReduceSparse(role, i, *values);
    } else if (LoseGradient(role, i, std::string(values.status().message())) ==
               Filled::kTableIsAnother) {
      return Filled::kTableIsAnother;
    }
  }
  if (device_ != nullptr) device_->Launch();
  return Filled::kYes;
}

// A group of entries, so that the lines of all of them are on their way
// together.
StepCapture::Filled StepCapture::AddGradients(
    Role role, std::size_t begin, std::size_t end,
    const torch::optim::Optimizer* only) {
  std::array<const at::Tensor*, kGroup> gradients;
  for (std::size_t i = begin; i < end; ++i) {
    gradients[i - begin] = nullptr;
    if (entries_[i].place_of(role) < 0) continue;
    if (only != nullptr && chosen_[i] == 0) continue;
    // Not Tensor::grad(): that one warns about tensors that are no leaves.
    const at::Tensor& gradient = entries_[i].known.impl().grad();
    gradients[i - begin] = &gradient;
    KnownTensor::PrefetchLines(gradient.unsafeGetTensorImpl(),
                               sizeof(c10::TensorImpl));
  }
  for (std::size_t i = begin; i < end; ++i) {
    const at::Tensor* const gradient = gradients[i - begin];
    if (gradient == nullptr || !gradient->defined()) continue;
    KnownTensor::PrefetchLines(gradient->unsafeGetTensorImpl()
                                   ->unsafe_storage()
                                   .unsafeGetStorageImpl(),
                               sizeof(c10::StorageImpl));
  }
  for (std::size_t i = begin; i < end; ++i) {
    const at::Tensor* const gradient = gradients[i - begin];
    if (gradient == nullptr) continue;
    if (!gradient->defined()) {
      SetAbsent(role, entries_[i].place_of(role));
      continue;
    }
    const std::string reason = AddGradient(role, i, *gradient);
    if (!reason.empty() &&
        LoseGradient(role, i, reason) == Filled::kTableIsAnother) {
      return Filled::kTableIsAnother;
    }
  }
  return Filled::kYes;
}

std::string StepCapture::AddGradient(Role role, std::size_t i,
                                     const at::Tensor& gradient) {
  Entry& e = entries_[i];
  const c10::TensorImpl& impl = *gradient.unsafeGetTensorImpl();
  if (OnDevice(impl)) return AddDeviceGradient(role, i, gradient);
  if (e.gradient.dtype == Dtype::kUnsupported ||
      e.gradient.keys != impl.key_set() || e.gradient.type != impl.dtype()) {
    std::string reason = UnsupportedReason(gradient);
    if (!reason.empty()) return reason;
    if (impl.layout() == c10::Layout::Sparse) {
      if (impl.sizes() != e.known.impl().sizes()) return kOtherShape;
      sparse_entries_.push_back(i);
      return "";
    }
    e.gradient = {impl.key_set(), impl.dtype(),
                  DtypeOf(gradient.scalar_type())};
  }
  if (impl.sizes() != e.known.impl().sizes()) return kOtherShape;
  WorkItem item;
  TensorView& view = item.reduction.view;
  view.dtype = e.gradient.dtype;
  view.dims = static_cast<int>(impl.dim());
  view.sizes = impl.sizes().data();
  view.strides = impl.strides().data();
  const std::uint64_t extent = e.known.ExtentOfTwin(impl);
  view.data = DataOf(impl, extent, impl.itemsize());
  if (view.data == nullptr && extent != 0) {
    e.gradient.dtype = Dtype::kUnsupported;
    return UnsupportedReason(gradient);
  }
  item.reduction.multiplier = MultiplierOf(item.reduction.view.dtype);
  item.columns = columns_[static_cast<std::size_t>(role)];
  item.place = static_cast<std::uint32_t>(e.place_of(role));
  item.histogram = histograms_.Take(role, e.place_of(role));
  work_.Add(item, e.numel);
  return "";
}

// The parameter loses the roles of its gradient, said once. Where columns of
// this step are filled already, the table stays until the next step.
StepCapture::Filled StepCapture::LoseGradient(Role role, std::size_t i,
                                              const std::string& reason) {
  const std::string& name = schema_.parameters[i].name;
  if (without_gradients_.emplace(name, reason).second) {
    options_.report("gradients of '" + name + "' are not recorded: " + reason);
  }
  if (gradients_filled_) {
    SetAbsent(role, entries_[i].place_of(role));
    refresh_ = true;
    return Filled::kYes;
  }
  WalkAgain(last_walk_);
  return Filled::kTableIsAnother;
}

void StepCapture::ReduceSparse(Role role, std::size_t i,
                               const SparseValues& values) {
  const std::int32_t place = entries_[i].place_of(role);
  WorkItem item;
  item.reduction.view = values.view;
  item.zeros = values.zeros;
  if (role == Role::kGrad || role == Role::kGradLocal) {
    item.reduction.multiplier = MultiplierOf(item.reduction.view.dtype);
  }
  item.columns = columns_[static_cast<std::size_t>(role)];
  item.place = static_cast<std::uint32_t>(place);
  item.histogram = histograms_.Take(role, place);
  work_.Clear();
  work_.Add(item, Numel(values.view));
  work_.Run();
}

// ---- Weights, updates, buffers ---------------------------------------------

absl::Status StepCapture::ReduceWeights() noexcept {
  const absl::Status status = Guarded([&] {
    if (!begun_) throw std::logic_error("no step has begun");
    if (copies_missing_) AllocateCopies();
    MakeRoomForHistograms();
    AddWeights(/*only_keep=*/false);
    work_.Run();
    for (const std::size_t i : sparse_entries_) {
      const absl::StatusOr<SparseValues> values =
          sparse_.Prepare(entries_[i].known.tensor());
      if (!values.ok()) {
        LoseWeight(i, std::string(values.status().message()));
        continue;
      }
      const Entry& e = entries_[i];
      ReduceSparse(
          e.place_of(Role::kBuffer) >= 0 ? Role::kBuffer : Role::kWeight, i,
          *values);
    }
    LaunchWeightsOnDevice();
  });
  begun_ = false;
  if (!status.ok()) {
    refresh_ = true;
    ForgetWeights();
  }
  return status;
}

void StepCapture::AddWeights(bool only_keep) {
  constexpr std::size_t kAhead = 8;
  work_.Clear();
  sparse_entries_.clear();
  const std::size_t n = entries_.size();
  for (std::size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) entries_[i + kAhead].known.Prefetch();
    Entry& e = entries_[i];
    const bool update = e.place_of(Role::kUpdate) >= 0;
    if (only_keep && !update) continue;
    if (!update && e.place_of(Role::kWeight) < 0 &&
        e.place_of(Role::kBuffer) < 0) {
      continue;
    }
    if (OnDevice(e.known.impl())) {
      AddDeviceWeight(i, only_keep);
      continue;
    }
    if (!e.known.readable()) {
      if (!only_keep && SameSparse(i)) sparse_entries_.push_back(i);
      continue;
    }
    if (only_keep && e.previous == nullptr) continue;
    TensorView view;
    if (!ViewOfWeight(i, &view)) continue;
    if (only_keep) {
      WorkItem item;
      item.reduction.view = view;
      item.reduction.previous = e.previous.get();
      work_.Add(item, e.numel);
      e.previous_valid = true;
    } else {
      AddWeight(&e, view);
    }
  }
}

void StepCapture::AddWeight(Entry* e, const TensorView& view) {
  const Role role =
      e->place_of(Role::kBuffer) >= 0 ? Role::kBuffer : Role::kWeight;
  WorkItem item;
  item.reduction.view = view;
  if (e->place_of(role) >= 0) {
    item.columns = columns_[static_cast<std::size_t>(role)];
    item.place = static_cast<std::uint32_t>(e->place_of(role));
    item.histogram = histograms_.Take(role, e->place_of(role));
  }
  const std::int32_t update = e->place_of(Role::kUpdate);
  if (update >= 0) {
    item.reduction.previous = e->previous.get();
    item.reduction.previous_valid = e->previous_valid;
    item.update_columns = columns_[static_cast<std::size_t>(Role::kUpdate)];
    item.update_place = static_cast<std::uint32_t>(update);
    if (e->previous_valid) {
      item.update_histogram = histograms_.Take(Role::kUpdate, update);
    }
    e->previous_valid = e->previous != nullptr;
  }
  work_.Add(item, e->numel);
}

// What was true at the start of the step must be so still: the copy of the
// weight has that many bytes, and the schema says how many elements there are.
// Strides may be others: then the copy is in another order, and of no use.
bool StepCapture::ViewOfWeight(std::size_t i, TensorView* view) {
  Entry& e = entries_[i];
  if (e.known.View(view)) return true;
  KnownTensor now(e.known.tensor());
  if (!now.readable() || !now.SameElements(e.known)) {
    LoseWeight(i, UnsupportedReason(e.known.tensor()));
    return false;
  }
  e.previous_valid &= now.SameOrder(e.known);
  e.known = std::move(now);
  refresh_ = true;
  if (e.known.View(view)) return true;
  LoseWeight(i, "");
  return false;
}

bool StepCapture::SameSparse(std::size_t i) {
  const at::Tensor& tensor = entries_[i].known.tensor();
  const std::string reason = UnsupportedReason(tensor);
  if (reason.empty() && tensor.layout() == c10::Layout::Sparse &&
      static_cast<std::uint64_t>(tensor.numel()) == entries_[i].numel) {
    return true;
  }
  LoseWeight(i, reason);
  return false;
}

// In this step alone: the next one begins with what the tensor is then. Said
// once. Its gradient is recorded, and so are all others.
void StepCapture::LoseWeight(std::size_t i, const std::string& reason) {
  Entry& e = entries_[i];
  refresh_ = true;
  e.previous_valid = false;
  if (e.device_copy != nullptr) e.device_copy->valid = false;
  for (const Role role : {Role::kWeight, Role::kUpdate, Role::kBuffer}) {
    if (e.place_of(role) >= 0) SetAbsent(role, e.place_of(role));
  }
  const std::string& name = schema_.parameters[i].name;
  if (!without_weights_.insert(name).second) return;
  options_.report("'" + name + "' changed within a step" +
                  (reason.empty() ? ", to other elements" : ": " + reason) +
                  "; of such a step only its gradient is recorded");
}

// Without the memory, updates are given up, not the run.
void StepCapture::AllocateCopies() {
  copies_missing_ = false;
  if (!options_.roles.update) return;
  for (Entry& e : entries_) {
    if (e.place_of(Role::kUpdate) < 0 || e.previous != nullptr ||
        OnDevice(e.known.impl())) {
      continue;
    }
    // One byte at least: an empty parameter has a copy too.
    const std::uint64_t bytes = std::max<std::uint64_t>(e.bytes, 1);
    e.previous.reset(
        static_cast<std::byte*>(::operator new(bytes, kLine, std::nothrow)));
    if (e.previous != nullptr) {
      copy_bytes_ += e.bytes;
      continue;
    }
    return GiveUpUpdates("no memory for a copy of the weights (" +
                         std::to_string(bytes) + " bytes more)");
  }
}

void StepCapture::GiveUpUpdates(const std::string& why) {
  options_.report(why + ": updates are not recorded");
  options_.roles.update = false;
  refresh_ = true;
  for (Entry& e : entries_) {
    e.previous.reset();
    e.previous_valid = false;
  }
  copy_bytes_ = 0;
}

void StepCapture::KeepWeights() noexcept {
  const absl::Status status = Guarded([&] {
    AddWeights(/*only_keep=*/true);
    if (device_ != nullptr) device_->Launch();
    work_.Run();
  });
  if (!status.ok()) ForgetWeights();
}

void StepCapture::ForgetWeights() noexcept {
  for (Entry& e : entries_) {
    e.previous_valid = false;
    if (e.device_copy != nullptr) e.device_copy->valid = false;
  }
}

}  // namespace gradtap::agent
