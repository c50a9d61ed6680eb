// The inside of DeviceReducer: what waits for a launch, and what came of it.
//
// device_reduce.cc runs it by ATen operations, device_fused.cc what it can by
// one kernel of ours.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_IMPL_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_IMPL_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/capture/device_moments.h"
#include "agent/capture/device_reduce.h"
#include "agent/capture/device_results.h"
#include "agent/capture/device_timer.h"

namespace gradtap::agent {
namespace device {

using Ticket = DeviceReducer::Ticket;

// In this order if they are equal in all else: see Item.
enum class Task : std::int8_t {
  kReduce,
  kReduceAndFill,     // The copy.
  kReduceAndCompare,  // To the copy, which is refreshed.
  kFill,
  kScalar,
};

// A tensor that waits for Launch().
struct Item {
  at::Tensor tensor;
  std::int64_t numel = 0;
  std::size_t device = 0;
  Task task = Task::kReduce;
  double multiplier = 1;
  DeviceCopy* copy = nullptr;
  Ticket ticket = DeviceReducer::kNone;
  Ticket update = DeviceReducer::kNone;

  // Those with equal keys may be reduced together.
  auto Key() const {
    return std::make_tuple(device, task, tensor.scalar_type(), numel,
                           multiplier);
  }
};

// Where the statistics of one slice of one tensor lie, in doubles.
struct Piece {
  std::int64_t moments = 0;  // The first of them.
  std::int64_t stride = 1;   // To the next.
  std::int64_t bins = -1;
  std::int64_t numel = 0;
  std::int64_t next = -1;  // Of the same tensor.
};

// What a ticket stands for.
struct Outcome {
  std::size_t device = 0;
  std::int64_t first = -1;  // Pieces.
  std::int64_t last = -1;
  std::uint64_t zeros = 0;  // Elements beyond those that were reduced.
};

// A device, and what it does for us.
struct Timed {
  Timed(c10::Device d, std::unique_ptr<TimingEvents> events)
      : device(d), timer(std::move(events)) {}

  c10::Device device;
  DeviceTimer timer;
};

}  // namespace device

struct DeviceReducer::Impl {
  using Item = device::Item;

  explicit Impl(Sizes s) : sizes(s) {
    if (s.slice < 1 || s.slice >= std::int64_t{1} << 31 || s.small > s.slice) {
      throw std::invalid_argument("sizes of slices are out of range");
    }
  }

  Ticket NewResult(std::size_t device, std::uint64_t zeros);
  void AddPiece(Ticket ticket, const device::Piece& piece);
  void Add(Item item);

  // True if LaunchFused() runs on that device, `where`.
  bool CanFuse(std::size_t device, c10::Device where);
  // Puts those that LaunchFused() takes first, by device; how many they are.
  std::size_t SortFused();
  // Runs the first `count` items.
  void LaunchFused(std::size_t count);
  // Runs items [first, end), which are on one device.
  void RunFused(std::size_t first, std::size_t end);
  // Gives those that have none a copy, if there is memory.
  void AllocateCopies(std::size_t first, std::size_t end);

  // Measures what is launched on the devices of all items.
  void BeginTiming();
  // Runs items from number `first` on.
  void LaunchAten(std::size_t first);
  std::int64_t MostTogether(const Item& item) const;
  // Runs `k` items of equal keys.
  void Run(const Item* items, std::int64_t k);
  void RunScalar(const Item& item);
  // Their copies, as rows; undefined if there is no memory.
  at::Tensor Copies(const at::Tensor& like, const Item* items, std::int64_t k);
  void Reduce(const at::Tensor& x, const at::Tensor& previous,
              const Item* items, std::int64_t k);
  void Store(const DeviceElements& elements, const Item* items, std::int64_t k,
             Ticket Item::*ticket);

  const Sizes sizes;
  DeviceResults buffers;
  std::vector<std::unique_ptr<device::Timed>> clocks;  // By device.
  std::vector<std::optional<bool>> can_fuse;           // By device; asked once.
  std::vector<Item> items;
  std::vector<at::Tensor> rows;  // Of the group at hand.
  std::vector<device::Outcome> outcomes;
  std::vector<device::Piece> pieces;
  bool histograms = false;
  bool out_of_memory = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_IMPL_H_
