// How long a device has worked for us: pairs of timing events around what was
// enqueued.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_TIMER_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_TIMER_H_

#include <c10/core/Device.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

namespace gradtap::agent {

// What a timer asks of a back end, for one device.
// [Threading] one thread at a time. [Locking] none. [Exceptions] must not
// throw.
class TimingEvents {
 public:
  using Event = void*;
  enum class Reading { kKnown, kNotYet, kNever };

  virtual ~TimingEvents() = default;

  // Null: there is none.
  virtual Event Make() noexcept = 0;
  virtual void Free(Event event) noexcept = 0;
  // Enqueues it on the device's current stream. False: it is of no use.
  virtual bool Record(Event event) noexcept = 0;
  // The device's time from one to the other; both were recorded. Waits for
  // nothing. *took is as it was unless kKnown.
  virtual Reading Between(Event begin, Event end,
                          std::chrono::nanoseconds* took) noexcept = 0;
};

// Null: the device's back end has none. CUDA has, if the agent is built against
// a LibTorch that has it.
std::unique_ptr<TimingEvents> TimingEventsOf(c10::Device device);

// One thread at a time. Waits for nothing. The first error ends it: nothing is
// measured from then on, and the device's work goes on as it was.
class DeviceTimer {
 public:
  // Null: it never measures.
  explicit DeviceTimer(std::unique_ptr<TimingEvents> events);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  // What is enqueued between the two is measured. A second Begin() does
  // nothing, nor does End() without one. At most kMaxPairs are measured whose
  // time was not taken yet.
  static constexpr std::size_t kMaxPairs = 64;
  void Begin() noexcept;
  void End() noexcept;
  // In place of End(): it is not measured.
  void Drop() noexcept;

  // What the device took for all that it has done by now, but for what an
  // earlier call said. Not to be called while it records a graph.
  std::chrono::nanoseconds Take() noexcept;

 private:
  struct Pair {
    TimingEvents::Event begin = nullptr;
    TimingEvents::Event end = nullptr;
  };

  bool MakePair() noexcept;
  void GiveUp() noexcept;

  std::unique_ptr<TimingEvents> events_;  // Null: it does not measure.
  // The first `used_` are of work whose time was not taken; the next one is
  // open if `open_`; the rest is spare.
  std::vector<Pair> pairs_;
  std::size_t used_ = 0;
  bool open_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_TIMER_H_
