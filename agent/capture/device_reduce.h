// The statistics of tensors that are not on the CPU: reduced where they lie,
// and copied to the host once per step and device. On CUDA dense tensors of
// most types go through a kernel of ours (fused_table.h); all else goes by ATen
// operations.
//
// A step goes: Begin(), Add() and AddWeight() and AddScalar() in any order and
// number, each group of them followed by Launch() while the tensors still hold
// what is to be recorded, then Send(); and later, when the results are wanted,
// Wait() and the readers. Nothing but Wait() waits for a device: no operation
// here reads a result on the host or has a shape that depends on one. See
// agent/README.md, "Other devices".
//
// The definitions and bounds are those of core/kernel.h. The order of
// combination is another: results agree within the bounds, not bit for bit.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_REDUCE_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_REDUCE_H_

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/capture/device_timer.h"
#include "core/histogram.h"
#include "core/record.h"

namespace gradtap::agent {

// The elements of one weight as they were, on its device. Owned by whoever
// observes updates; filled by DeviceReducer alone. A default one holds nothing.
struct DeviceCopy {
  at::Tensor values;  // Flat; small ones are rows of one allocation.
  std::vector<std::int64_t> sizes;    // Of the tensor that was copied.
  std::vector<std::int64_t> strides;  // It decides the order of `values`.
  bool valid = false;                 // False: to be filled, not to be read.

  std::uint64_t bytes() const {
    return values.defined() ? static_cast<std::uint64_t>(values.numel()) *
                                  values.element_size()
                            : 0;
  }
};

// One thread at a time: the training loop's; Wait() and the readers may be
// called by another while that one calls nothing. It allocates on the devices
// what it needs and keeps its buffers; temporaries of ATen operations take up
// to about 100 bytes an element of a slice. Autograd, version counters, random
// numbers, the current device and the current streams are left as they are; all
// work goes to the current stream of each tensor's device.
//
// What LibTorch throws goes through.
class DeviceReducer {
 public:
  // Which result; only good for the step in which it was given.
  using Ticket = std::int32_t;
  static constexpr Ticket kNone = -1;

  struct Sizes {
    // A large tensor is reduced in slices, and small ones together, of at most
    // so many elements. At least 1.
    std::int64_t slice = std::int64_t{1} << 21;
    // Tensors of the same type and number of elements are reduced together if
    // they have at most so many.
    std::int64_t small = std::int64_t{1} << 16;
    // True, in tests: what CUDA's kernel would take is taken on the CPU by the
    // same code, thread by thread.
    bool fuse_on_cpu = false;
    // What measures each device's time; others in tests.
    std::function<std::unique_ptr<TimingEvents>(c10::Device)> timing_events =
        TimingEventsOf;
  };

  DeviceReducer();
  explicit DeviceReducer(Sizes sizes);
  ~DeviceReducer();
  DeviceReducer(const DeviceReducer&) = delete;
  DeviceReducer& operator=(const DeviceReducer&) = delete;

  // Why Add() cannot take it, for a person; empty if it can. For tensors on any
  // device, the CPU included. Looks at what describes the tensor alone.
  static std::string UnsupportedReason(const at::Tensor& tensor) noexcept;

  // True if the current stream of `device` records a graph instead of running:
  // then nothing is to be added. Asked without touching the device. Always
  // false where neither CUDA nor the LibTorch in use can say.
  static bool RecordsGraph(c10::Device device) noexcept;

  // Forgets all tickets, and results that nobody waited for. With `histograms`
  // those are counted in this step too.
  void Begin(bool histograms = false);

  // The moments of multiplier * tensor: strided, or sparse COO as its dense
  // equivalent. Keeps a reference to it until Launch().
  Ticket Add(const at::Tensor& tensor, double multiplier = 1);

  struct WeightTickets {
    Ticket weight = kNone;
    Ticket update = kNone;  // kNone: there was nothing to compare with.
  };
  // The moments of a strided tensor, and those of its difference to *copy if
  // that is valid and of the same sizes and strides. After Launch() *copy holds
  // the tensor's elements and is valid; it must stay where it is until then.
  WeightTickets AddWeight(const at::Tensor& tensor, DeviceCopy* copy);

  // Fills *copy by the next Launch(), without statistics; outside a step too.
  void Keep(const at::Tensor& tensor, DeviceCopy* copy);

  // A tensor of one element, of any type with a kernel; complex by magnitude.
  Ticket AddScalar(const at::Tensor& tensor);

  // Enqueues all that was added: the tensors may change afterwards, in stream
  // order. If it throws, the step is to be begun anew and no copy is valid.
  void Launch();

  // True if the last Launch() found no memory for a copy: that copy holds
  // nothing and is not valid, and updates of this step are not to be read;
  // everything else was done.
  bool out_of_memory() const { return out_of_memory_; }

  // Enqueues one copy of all results for each device. To be called once,
  // after the last Launch() of a step.
  void Send();

  // True after Send() until Wait() or Begin(), if there is a result at all.
  bool pending() const { return pending_; }

  // Returns when the results are on the host. Calls no ATen operation. Throws
  // std::runtime_error, and the results are lost, while a graph is recorded.
  void Wait();

  // What the devices took for all launches, as far as Wait() found them done
  // and no earlier call said it; of several devices, the longest. Not counted:
  // launches of nothing but scalars, and the way to the host. 0 where it is not
  // measured.
  std::chrono::nanoseconds TakeDeviceTime() noexcept;

  // After Wait(). `ticket` is not kNone.
  Moments Result(Ticket ticket) const;
  double Scalar(Ticket ticket) const;
  // False, and *bins is as it was, if the step has no histograms. Adds to what
  // *bins holds.
  bool AddBins(Ticket ticket, BinCounts* bins) const;

  // Bytes of the buffers for results, on the devices and on the host.
  std::uint64_t buffer_bytes() const;

 private:
  struct Impl;

  const std::unique_ptr<Impl> impl_;
  bool out_of_memory_ = false;
  bool pending_ = false;
  std::chrono::nanoseconds device_time_{0};  // Not taken yet.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_REDUCE_H_
