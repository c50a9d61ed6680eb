// The part of a step whose tensors are not on the CPU: from tensors to the
// columns, bins and scalars of a StepData, once they have arrived.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_STEP_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_STEP_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "agent/capture/device_reduce.h"
#include "core/histogram.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Remembers which result goes to which place of which role. See DeviceReducer
// for threads, memory and what is thrown: all but Finish() and the accessors
// belong to the training thread. Places are those of RoleColumns.
class DeviceStep {
 public:
  DeviceStep() = default;
  explicit DeviceStep(DeviceReducer::Sizes sizes) : reducer_(sizes) {}

  // Forgets everything, results on their way included.
  void Begin(bool histograms);

  // Nothing was added for these: a role, some places of it (those p with
  // places[p] != 0), or any at all, scalars apart.
  void Drop();
  void Drop(Role role);
  void Drop(Role role, const std::vector<std::uint8_t>& places);

  // multiplier * tensor goes to that place.
  void Add(Role role, std::int32_t place, const at::Tensor& tensor,
           double multiplier = 1);
  // A weight, and its update against *copy, which is refreshed. Places may be
  // -1: not recorded. False: there is no update, and nothing goes there.
  bool AddWeight(std::int32_t weight_place, std::int32_t update_place,
                 const at::Tensor& tensor, DeviceCopy* copy);
  // Refreshes *copy alone.
  void Keep(const at::Tensor& tensor, DeviceCopy* copy) {
    reducer_.Keep(tensor, copy);
  }
  // One element: goes to scalars[index].value.
  void AddScalar(const at::Tensor& tensor, std::size_t index);

  // Enqueues what was added since the last one: then tensors may change. False:
  // there was no memory for a copy; no update is recorded in this step.
  bool Launch();
  // After the last Launch(): results are on their way from here on.
  void Send() { reducer_.Send(); }
  // True between Send() and Finish() or Begin(), if anything is on its way.
  bool pending() const { return arrived_ || reducer_.pending(); }

  // Returns when Finish() would not wait. If it throws, nothing is pending.
  void Wait();
  // See DeviceReducer.
  std::chrono::nanoseconds TakeDeviceTime() noexcept {
    return reducer_.TakeDeviceTime();
  }

  // Waits, and writes what was added to the columns of `step`, to the bins of
  // its histograms of these places, and to its scalars. Places without a
  // column, bins or scalar there are passed over. Does nothing unless pending.
  void Finish(StepData* step);

  std::uint64_t buffer_bytes() const { return reducer_.buffer_bytes(); }

 private:
  using Ticket = DeviceReducer::Ticket;

  void Put(Role role, std::int32_t place, Ticket ticket);
  Ticket TicketAt(Role role, std::size_t place) const;
  void FillBins(HistogramData* histogram, Ticket ticket);

  DeviceReducer reducer_;
  // By role and place; kNone: not of a device.
  std::array<std::vector<Ticket>, kRoleCount> tickets_;
  std::vector<std::pair<std::size_t, Ticket>> scalars_;
  BinCounts bins_{};
  bool arrived_ = false;  // Wait() has returned, Finish() is to come.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_STEP_H_
