// One buffer of doubles per device, and its way to the host.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_RESULTS_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_RESULTS_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace gradtap::agent {

// One thread at a time. Everything but Wait() and Read() calls ATen, which is
// to see neither autograd nor autocast (DeviceScope), and throws what that
// throws.
class DeviceResults {
 public:
  // Devices are numbered from 0 in the order in which they come.
  std::size_t IndexOf(c10::Device device);
  c10::Device At(std::size_t device) const { return devices_[device].device; }

  // All buffers are empty again. What is still on its way to the host is
  // overwritten only when it has arrived, in the order of streams.
  void Begin();

  // Room for `count` doubles: where it begins.
  std::int64_t Reserve(std::size_t device, std::int64_t count);
  // That room, as one dimension. Good until the next Reserve().
  at::Tensor Room(std::size_t device, std::int64_t begin,
                  std::int64_t count) const;
  // A zero: a double without dimensions.
  const at::Tensor& Zero(std::size_t device) const {
    return devices_[device].zero;
  }

  // Enqueues one copy for each device whose buffer is not empty; true if there
  // is one. It is asynchronous where the device has events and, on CUDA, goes
  // to pinned memory; elsewhere it is waited for here.
  bool Send();
  // Returns when all of them have arrived. Calls no ATen operation.
  void Wait();
  // The copy of a device's buffer. After Wait().
  const double* Read(std::size_t device) const { return devices_[device].read; }

  // Of all buffers, on the devices and on the host.
  std::uint64_t bytes() const;

 private:
  struct Device {
    explicit Device(c10::Device d) : device(d) {}

    c10::Device device;
    at::Tensor zero;
    at::Tensor buffer;
    at::Tensor host;  // At least as long as what was sent.
    const double* read = nullptr;
    std::int64_t used = 0;
    bool has_events = false;
    bool on_its_way = false;
    std::optional<c10::Event> copied;
  };

  static void SendOne(Device* device);

  std::vector<Device> devices_;
};

// Tells the device's allocator that the current stream uses `tensor`, which may
// have been allocated while another was current.
void UsedByCurrentStream(const at::Tensor& tensor);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_RESULTS_H_
