// StepCapture: tensors that are not on the CPU.

#include <stdexcept>
#include <string>
#include <utility>

#include "agent/capture/guarded.h"
#include "agent/capture/step_capture.h"

namespace gradtap::agent {

bool StepCapture::OnDevice(const c10::TensorImpl& impl) const {
  return options_.force_device_path || !impl.is_cpu();
}

// Made when the first tensor needs it.
DeviceStep& StepCapture::Device(const at::Tensor& tensor) {
  if (device_ == nullptr) {
    device_ = std::make_unique<DeviceStep>();
    device_->Begin(histograms_.due());
  }
  if (DeviceReducer::RecordsGraph(tensor.device())) {
    throw std::runtime_error("device " + tensor.device().str() +
                             " is recording a graph");
  }
  return *device_;
}

std::string StepCapture::AddDeviceGradient(Role role, std::size_t i,
                                           const at::Tensor& gradient) {
  const Entry& e = entries_[i];
  std::string reason = DeviceReducer::UnsupportedReason(gradient);
  if (!reason.empty()) return reason;
  if (gradient.unsafeGetTensorImpl()->sizes() != e.known.impl().sizes()) {
    return "its shape is not the parameter's";
  }
  DeviceStep& device = Device(gradient);
  try {
    device.Add(role, e.place_of(role), gradient,
               MultiplierOf(DtypeOf(gradient.scalar_type())));
  } catch (
      const std::runtime_error& malformed) {  // What LibTorch throws isn't.
    return FirstLine(malformed.what());
  }
  histograms_.Take(role, e.place_of(role));
  return "";
}

void StepCapture::AddDeviceWeight(std::size_t i, bool only_keep) {
  Entry& e = entries_[i];
  const at::Tensor& tensor = e.known.tensor();
  const std::string reason = DeviceReducer::UnsupportedReason(tensor);
  if (!reason.empty() ||
      static_cast<std::uint64_t>(tensor.numel()) != e.numel) {
    return LoseWeight(i, reason);
  }
  if (only_keep) {
    if (e.device_copy != nullptr)
      Device(tensor).Keep(tensor, e.device_copy.get());
    return;
  }
  const std::int32_t update = e.place_of(Role::kUpdate);
  const bool buffer = e.place_of(Role::kBuffer) >= 0;
  const Role role = buffer ? Role::kBuffer : Role::kWeight;
  histograms_.Take(role, e.place_of(role));
  if (update < 0 || !options_.roles.update) {
    if (e.place_of(role) >= 0) {
      Device(tensor).Add(role, e.place_of(role), tensor);
    }
    if (update >= 0) SetAbsent(Role::kUpdate, update);
    return;
  }
  if (e.device_copy == nullptr) e.device_copy = std::make_unique<DeviceCopy>();
  if (Device(tensor).AddWeight(e.place_of(Role::kWeight), update, tensor,
                               e.device_copy.get())) {
    histograms_.Take(Role::kUpdate, update);
  } else {
    SetAbsent(Role::kUpdate, update);
  }
}

void StepCapture::LaunchWeightsOnDevice() {
  if (device_ == nullptr) return;
  if (!device_->Launch()) {
    GiveUpUpdates("no memory for a copy of the weights on their device");
    // Of this step too: some of them have no result.
    RoleColumns* const updates =
        columns_[static_cast<std::size_t>(Role::kUpdate)];
    std::vector<std::uint8_t> places(updates->size(), 0);
    for (const Entry& e : entries_) {
      if (e.device_copy == nullptr || e.place_of(Role::kUpdate) < 0) continue;
      places[static_cast<std::size_t>(e.place_of(Role::kUpdate))] = 1;
      SetAbsent(Role::kUpdate, e.place_of(Role::kUpdate));
    }
    histograms_.Drop(Role::kUpdate, places);
    for (Entry& e : entries_) e.device_copy.reset();
  }
  device_copy_bytes_ = 0;
  for (const Entry& e : entries_) {
    if (e.device_copy != nullptr) device_copy_bytes_ += e.device_copy->bytes();
  }
  device_->Send();
}

absl::Status StepCapture::FinishStep() noexcept {
  if (!deferred()) return absl::OkStatus();
  return Guarded([&] { device_->Finish(&step_); });
}

// Statistics of the step that is given up, if there are any, are forgotten.
void StepCapture::BeginSkipped() noexcept {
  AbandonStep();
  skipping_ = Guarded([&] {
                if (device_ != nullptr) device_->Begin(/*histograms=*/false);
              }).ok();
}

absl::Status StepCapture::EndSkipped() noexcept {
  if (!std::exchange(skipping_, false) || device_ == nullptr) {
    return absl::OkStatus();
  }
  return Guarded([&] {
    device_->Launch();
    device_->Send();
  });
}

absl::Status StepCapture::FinishSkipped(StepData* step) noexcept {
  if (!deferred()) return absl::OkStatus();
  return Guarded([&] { device_->Finish(step); });
}

absl::Status StepCapture::AwaitResults() noexcept {
  if (!deferred()) return absl::OkStatus();
  return Guarded([&] { device_->Wait(); });
}

std::chrono::nanoseconds StepCapture::TakeDeviceTime() noexcept {
  return device_ == nullptr ? std::chrono::nanoseconds(0)
                            : device_->TakeDeviceTime();
}

bool StepCapture::LaterScalar(const at::Tensor& tensor,
                              std::size_t index) noexcept {
  bool later = false;
  const absl::Status status = Guarded([&] {
    if (!(begun_ || skipping_) || !tensor.defined() ||
        !OnDevice(*tensor.unsafeGetTensorImpl()) ||
        !DeviceReducer::UnsupportedReason(tensor).empty() ||
        tensor.layout() != c10::Layout::Strided || tensor.numel() != 1) {
      return;
    }
    Device(tensor).AddScalar(tensor, index);
    later = true;
  });
  return status.ok() && later;
}

}  // namespace gradtap::agent
