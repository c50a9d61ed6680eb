#include "agent/capture/device_timer.h"

#ifdef GRADTAP_TORCH_HAS_CUDA
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

#include <exception>
#include <utility>

namespace gradtap::agent {

#ifdef GRADTAP_TORCH_HAS_CUDA
namespace {

// What a call returns stays in CUDA's memory of the last error too, where the
// loop's next operation would find it: it is taken out.
bool Succeeded(cudaError_t error) {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error == cudaSuccess;
}

class CudaTimingEvents : public TimingEvents {
 public:
  explicit CudaTimingEvents(c10::Device device) : device_(device) {}

  Event Make() noexcept override {
    try {
      const c10::DeviceGuard guard(device_);
      cudaEvent_t event = nullptr;
      return Succeeded(cudaEventCreate(&event)) ? event : nullptr;
    } catch (const std::exception&) {
      return nullptr;
    }
  }
  void Free(Event event) noexcept override {
    static_cast<void>(
        Succeeded(cudaEventDestroy(static_cast<cudaEvent_t>(event))));
  }
  bool Record(Event event) noexcept override {
    try {
      const c10::DeviceGuard guard(device_);
      return Succeeded(cudaEventRecord(
          static_cast<cudaEvent_t>(event),
          c10::cuda::getCurrentCUDAStream(device_.index()).stream()));
    } catch (const std::exception&) {
      return false;
    }
  }
  Reading Between(Event begin, Event end,
                  std::chrono::nanoseconds* took) noexcept override {
    float ms = 0;
    const cudaError_t error = cudaEventElapsedTime(
        &ms, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end));
    if (!Succeeded(error)) {
      return error == cudaErrorNotReady ? Reading::kNotYet : Reading::kNever;
    }
    *took = std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<float, std::milli>(ms));
    return Reading::kKnown;
  }

 private:
  const c10::Device device_;
};

}  // namespace
#endif  // GRADTAP_TORCH_HAS_CUDA

std::unique_ptr<TimingEvents> TimingEventsOf(
    [[maybe_unused]] c10::Device device) {
#ifdef GRADTAP_TORCH_HAS_CUDA
  if (device.is_cuda()) return std::make_unique<CudaTimingEvents>(device);
#endif
  return nullptr;
}

DeviceTimer::DeviceTimer(std::unique_ptr<TimingEvents> events)
    : events_(std::move(events)) {
  if (events_ != nullptr) pairs_.reserve(kMaxPairs);
}

DeviceTimer::~DeviceTimer() { GiveUp(); }

void DeviceTimer::GiveUp() noexcept {
  if (events_ == nullptr) return;
  for (const Pair& pair : pairs_) {
    events_->Free(pair.begin);
    events_->Free(pair.end);
  }
  pairs_.clear();
  used_ = 0;
  open_ = false;
  events_ = nullptr;
}

bool DeviceTimer::MakePair() noexcept {
  Pair pair;
  pair.begin = events_->Make();
  if (pair.begin == nullptr) return false;
  pair.end = events_->Make();
  if (pair.end == nullptr) {
    events_->Free(pair.begin);
    return false;
  }
  pairs_.push_back(pair);  // There is room.
  return true;
}

void DeviceTimer::Begin() noexcept {
  if (events_ == nullptr || open_ || used_ == kMaxPairs) return;
  if (used_ == pairs_.size() && !MakePair()) return GiveUp();
  if (!events_->Record(pairs_[used_].begin)) return GiveUp();
  open_ = true;
}

void DeviceTimer::End() noexcept {
  if (!open_) return;
  if (!events_->Record(pairs_[used_].end)) return GiveUp();
  open_ = false;
  ++used_;
}

void DeviceTimer::Drop() noexcept { open_ = false; }

std::chrono::nanoseconds DeviceTimer::Take() noexcept {
  std::chrono::nanoseconds sum{0};
  std::size_t kept = 0;
  for (std::size_t i = 0; i < used_; ++i) {
    std::chrono::nanoseconds took{0};
    switch (events_->Between(pairs_[i].begin, pairs_[i].end, &took)) {
      case TimingEvents::Reading::kKnown:
        sum += took;
        break;
      case TimingEvents::Reading::kNotYet:
        std::swap(pairs_[kept++], pairs_[i]);
        break;
      case TimingEvents::Reading::kNever:
        GiveUp();
        return sum;
    }
  }
  used_ = kept;
  return sum;
}

}  // namespace gradtap::agent
