#include "agent/capture/device_results.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <thread>

#include "agent/capture/device_reduce.h"

namespace gradtap::agent {
namespace {

bool IsCpu(c10::Device device) { return device.type() == c10::kCPU; }

c10::Stream CurrentStream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

void UsedByCurrentStream(const at::Tensor& tensor) {
  if (IsCpu(tensor.device())) return;
  c10::impl::VirtualGuardImpl(tensor.device().type())
      .recordDataPtrOnStream(tensor.storage().data_ptr(),
                             CurrentStream(tensor.device()));
}

std::size_t DeviceResults::IndexOf(c10::Device device) {
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (devices_[i].device == device) return i;
  }
  Device added(device);
  added.zero = at::zeros({}, at::device(device).dtype(at::kDouble));
  added.has_events = !IsCpu(device);
  devices_.push_back(std::move(added));
  return devices_.size() - 1;
}

void DeviceResults::Begin() {
  for (Device& d : devices_) {
    d.used = 0;
    // A graph must not depend on what came before it; nothing is added then.
    if (!d.on_its_way || DeviceReducer::RecordsGraph(d.device)) continue;
    d.copied->block(CurrentStream(d.device));
    d.on_its_way = false;
  }
}

std::int64_t DeviceResults::Reserve(std::size_t device, std::int64_t count) {
  Device& d = devices_[device];
  const std::int64_t begin = d.used;
  const std::int64_t have = d.buffer.defined() ? d.buffer.numel() : 0;
  if (begin + count > have) {
    const std::int64_t size =
        std::max({begin + count, have * 2, std::int64_t{4096}});
    const at::Tensor larger =
        at::empty({size}, at::device(d.device).dtype(at::kDouble));
    if (begin > 0) {
      larger.narrow(0, 0, begin).copy_(d.buffer.narrow(0, 0, begin));
      UsedByCurrentStream(d.buffer);
    }
    d.buffer = larger;
  }
  d.used = begin + count;
  return begin;
}

at::Tensor DeviceResults::Room(std::size_t device, std::int64_t begin,
                               std::int64_t count) const {
  return devices_[device].buffer.narrow(0, begin, count);
}

bool DeviceResults::Send() {
  bool any = false;
  for (Device& d : devices_) {
    if (d.used == 0) continue;
    SendOne(&d);
    any = true;
  }
  return any;
}

void DeviceResults::SendOne(Device* d) {
  if (!d->host.defined() || d->host.numel() < d->used) {
    d->host = at::empty({d->buffer.numel()},
                        at::device(at::kCPU)
                            .dtype(at::kDouble)
                            .pinned_memory(d->device.type() == c10::kCUDA));
    d->read = d->host.data_ptr<double>();
  }
  const at::Tensor from = d->buffer.narrow(0, 0, d->used);
  const at::Tensor to = d->host.narrow(0, 0, d->used);
  if (d->has_events) {
    to.copy_(from, /*non_blocking=*/true);
    UsedByCurrentStream(d->buffer);
    try {
      if (!d->copied) d->copied.emplace(d->device.type());
      d->copied->record(CurrentStream(d->device));
      d->on_its_way = true;
      return;
    } catch (const std::exception&) {
      d->copied.reset();
      d->has_events = false;  // Its back end has none.
    }
  }
  to.copy_(from);
}

void DeviceResults::Wait() {
  constexpr int kYields = 64;
  for (Device& d : devices_) {
    if (!d.on_its_way) continue;
    if (DeviceReducer::RecordsGraph(d.device)) {
      // To ask for the event now would spoil the graph.
      throw std::runtime_error("device " + d.device.str() +
                               " is recording a graph");
    }
    d.on_its_way = false;
    // Normally a step has passed, and the copy with it. c10::Event can be
    // waited for in newer versions only.
    for (int i = 0; !d.copied->query(); ++i) {
      if (i < kYields) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
  }
}

std::uint64_t DeviceResults::bytes() const {
  std::uint64_t bytes = 0;
  for (const Device& d : devices_) {
    if (d.buffer.defined()) bytes += d.buffer.nbytes();
    if (d.host.defined()) bytes += d.host.nbytes();
  }
  return bytes;
}

}  // namespace gradtap::agent
