#include "agent/capture/device_reduce.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "agent/capture/device_impl.h"
#include "agent/capture/device_moments.h"
#include "agent/capture/device_results.h"

namespace gradtap::agent {
namespace {

using device::Item;
using device::Outcome;
using device::Piece;
using device::Task;
using Ticket = DeviceReducer::Ticket;

// The moments of `count` zeros.
Moments Zeros(std::uint64_t count) {
  Moments m;
  if (count == 0) return m;
  m.finite = count;
  m.min = 0;
  m.max = 0;
  m.zero = count;
  return m;
}

// All elements as one dimension in the order of memory, if they fill a piece of
// it; else as they are.
at::Tensor InMemoryOrder(const at::Tensor& tensor) {
  if (!tensor.is_non_overlapping_and_dense()) return tensor;
  return tensor.as_strided({tensor.numel()}, {1});
}

// Calls f(slice of a, the same slice of b) for parts of at most `most`
// elements. `b` has the shape of `a`, or is undefined. Views alone.
template <typename F>
void ForEachSlice(const at::Tensor& a, const at::Tensor& b, std::int64_t most,
                  const F& f) {
  const std::int64_t numel = a.numel();
  if (numel <= most) return f(a, b);
  std::int64_t dim = 0;
  for (std::int64_t d = 1; d < a.dim(); ++d) {
    if (a.size(d) > a.size(dim)) dim = d;
  }
  const std::int64_t step =
      std::max<std::int64_t>(most / (numel / a.size(dim)), 1);
  for (std::int64_t i = 0; i < a.size(dim); i += step) {
    const std::int64_t n = std::min(step, a.size(dim) - i);
    ForEachSlice(a.narrow(dim, i, n), b.defined() ? b.narrow(dim, i, n) : b,
                 most, f);
  }
}

// The rows of `items`' copies as one tensor if they lie one after the other.
at::Tensor PackedCopies(const Item* items, std::int64_t k) {
  const at::Tensor& first = items[0].copy->values;
  const std::int64_t n = items[0].numel;
  for (std::int64_t i = 0; i < k; ++i) {
    const at::Tensor& row = items[i].copy->values;
    if (!row.defined() || !row.is_alias_of(first) ||
        row.storage_offset() != first.storage_offset() + i * n) {
      return {};
    }
  }
  return first.as_strided({k, n}, {n, 1});
}

bool IsOf(const DeviceCopy& copy, const at::Tensor& tensor) {
  return copy.values.defined() &&
         copy.values.scalar_type() == tensor.scalar_type() &&
         copy.values.device() == tensor.device() &&
         tensor.sizes() == copy.sizes && tensor.strides() == copy.strides;
}

// A copy of another tensor than `tensor` is forgotten.
void Prepare(const at::Tensor& tensor, DeviceCopy* copy) {
  if (!IsOf(*copy, tensor)) {
    copy->values.reset();
    copy->valid = false;
    copy->sizes = tensor.sizes().vec();
    copy->strides = tensor.strides().vec();
  }
  if (tensor.numel() == 0) {  // Nothing to wait for.
    if (!copy->values.defined()) {
      copy->values = at::empty({0}, tensor.options());
    }
    copy->valid = true;
  }
}

}  // namespace

DeviceReducer::DeviceReducer() : DeviceReducer(Sizes{}) {}
DeviceReducer::DeviceReducer(Sizes sizes)
    : impl_(std::make_unique<Impl>(sizes)) {}
DeviceReducer::~DeviceReducer() = default;

// ---- What a step asks for --------------------------------------------------

void DeviceReducer::Begin(bool histograms) {
  const DeviceScope scope;
  pending_ = false;
  impl_->items.clear();
  impl_->outcomes.clear();
  impl_->pieces.clear();
  impl_->histograms = histograms;
  impl_->buffers.Begin();
}

Ticket DeviceReducer::Impl::NewResult(std::size_t device, std::uint64_t zeros) {
  Outcome& outcome = outcomes.emplace_back();
  outcome.device = device;
  outcome.zeros = zeros;
  return static_cast<Ticket>(outcomes.size() - 1);
}

void DeviceReducer::Impl::AddPiece(Ticket ticket, const Piece& piece) {
  Outcome& outcome = outcomes[static_cast<std::size_t>(ticket)];
  const auto index = static_cast<std::int64_t>(pieces.size());
  if (outcome.last < 0) {
    outcome.first = index;
  } else {
    pieces[static_cast<std::size_t>(outcome.last)].next = index;
  }
  outcome.last = index;
  pieces.push_back(piece);
}

void DeviceReducer::Impl::Add(Item item) {
  if (item.numel > 0) items.push_back(std::move(item));
}

Ticket DeviceReducer::Add(const at::Tensor& tensor, double multiplier) {
  const DeviceScope scope;
  Item item;
  item.device = impl_->buffers.IndexOf(tensor.device());
  item.multiplier = multiplier;
  item.tensor = tensor;
  if (tensor.layout() == c10::Layout::Sparse) item.tensor = AddUpSparse(tensor);
  item.numel = item.tensor.numel();
  item.ticket = impl_->NewResult(
      item.device, static_cast<std::uint64_t>(tensor.numel() - item.numel));
  const Ticket ticket = item.ticket;
  impl_->Add(std::move(item));
  return ticket;
}

DeviceReducer::WeightTickets DeviceReducer::AddWeight(const at::Tensor& tensor,
                                                      DeviceCopy* copy) {
  const DeviceScope scope;
  Item item;
  item.device = impl_->buffers.IndexOf(tensor.device());
  item.tensor = tensor;
  item.numel = tensor.numel();
  item.copy = copy;
  item.ticket = impl_->NewResult(item.device, 0);
  const bool compare = copy->valid && IsOf(*copy, tensor);
  if (compare) item.update = impl_->NewResult(item.device, 0);
  item.task = compare ? Task::kReduceAndCompare : Task::kReduceAndFill;
  Prepare(tensor, copy);
  const WeightTickets tickets{item.ticket, item.update};
  impl_->Add(std::move(item));
  return tickets;
}

void DeviceReducer::Keep(const at::Tensor& tensor, DeviceCopy* copy) {
  const DeviceScope scope;
  Item item;
  item.device = impl_->buffers.IndexOf(tensor.device());
  item.tensor = tensor;
  item.numel = tensor.numel();
  item.copy = copy;
  item.task = Task::kFill;
  Prepare(tensor, copy);
  impl_->Add(std::move(item));
}

Ticket DeviceReducer::AddScalar(const at::Tensor& tensor) {
  const DeviceScope scope;
  if (tensor.numel() != 1) {
    throw std::invalid_argument("a scalar has " +
                                std::to_string(tensor.numel()) + " elements");
  }
  Item item;
  item.device = impl_->buffers.IndexOf(tensor.device());
  item.tensor = tensor;
  item.numel = 1;
  item.task = Task::kScalar;
  item.ticket = impl_->NewResult(item.device, 0);
  const Ticket ticket = item.ticket;
  impl_->Add(std::move(item));
  return ticket;
}

// ---- What becomes of it ----------------------------------------------------

// How many of its kind are reduced at once. ATen joins no float8 tensors.
std::int64_t DeviceReducer::Impl::MostTogether(const Item& item) const {
  const bool float8 = c10::isFloatingType(item.tensor.scalar_type()) &&
                      item.tensor.element_size() == 1;
  if (item.task == Task::kScalar || item.numel > sizes.small || float8) {
    return 1;
  }
  return sizes.slice / item.numel;
}

void DeviceReducer::Launch() {
  const DeviceScope scope;
  std::vector<Item>& items = impl_->items;
  out_of_memory_ = false;
  impl_->out_of_memory = false;
  impl_->BeginTiming();
  try {
    const std::size_t fused = impl_->SortFused();
    impl_->LaunchFused(fused);
    impl_->LaunchAten(fused);
  } catch (...) {
    for (const Item& item : items) {
      if (item.copy != nullptr) item.copy->valid = false;
    }
    items.clear();
    impl_->rows.clear();
    for (const auto& clock : impl_->clocks) clock->timer.Drop();
    throw;
  }
  for (const auto& clock : impl_->clocks) clock->timer.End();
  items.clear();
  out_of_memory_ = impl_->out_of_memory;
}

// Scalars alone are of steps without statistics too: no interval saves them.
void DeviceReducer::Impl::BeginTiming() {
  for (const Item& item : items) {
    if (item.task == Task::kScalar) continue;
    while (clocks.size() <= item.device) {
      const c10::Device where = buffers.At(clocks.size());
      clocks.push_back(
          std::make_unique<device::Timed>(where, sizes.timing_events(where)));
    }
    clocks[item.device]->timer.Begin();
  }
}

void DeviceReducer::Impl::LaunchAten(std::size_t first) {
  std::stable_sort(
      items.begin() + static_cast<std::ptrdiff_t>(first), items.end(),
      [](const Item& a, const Item& b) { return a.Key() < b.Key(); });
  for (std::size_t i = first; i < items.size();) {
    const std::int64_t most = MostTogether(items[i]);
    std::size_t end = i + 1;
    while (end < items.size() && static_cast<std::int64_t>(end - i) < most &&
           items[end].Key() == items[i].Key()) {
      ++end;
    }
    Run(&items[i], static_cast<std::int64_t>(end - i));
    i = end;
  }
}

void DeviceReducer::Impl::Run(const Item* items, std::int64_t k) {
  if (items->task == Task::kScalar) return RunScalar(*items);
  at::Tensor x = InMemoryOrder(items->tensor);
  if (k > 1) {
    rows.clear();
    for (std::int64_t i = 0; i < k; ++i) {
      rows.push_back(InMemoryOrder(items[i].tensor).reshape({-1}));
    }
    x = at::cat(rows).view({k, items->numel});
    rows.clear();
  }
  if (items->copy == nullptr) return Reduce(x, {}, items, k);
  const at::Tensor previous = Copies(x, items, k);
  if (items->task != Task::kFill) Reduce(x, previous, items, k);
  if (!previous.defined()) return;
  previous.copy_(x);
  UsedByCurrentStream(previous);
  for (std::int64_t i = 0; i < k; ++i) items[i].copy->valid = true;
}

at::Tensor DeviceReducer::Impl::Copies(const at::Tensor& like,
                                       const Item* items, std::int64_t k) {
  const at::Tensor packed = PackedCopies(items, k);
  if (packed.defined()) return packed.view(like.sizes());
  at::Tensor together;
  try {
    if (items->task == Task::kReduceAndCompare) {
      // Of other groups: they become one.
      rows.clear();
      for (std::int64_t i = 0; i < k; ++i) {
        rows.push_back(items[i].copy->values);
      }
      together = at::cat(rows).view({k, items->numel});
    } else {
      together = at::empty({k, items->numel}, like.options());
    }
  } catch (const c10::Error&) {
    out_of_memory = true;
  }
  rows.clear();
  for (std::int64_t i = 0; i < k; ++i) {
    DeviceCopy& copy = *items[i].copy;
    copy.valid = false;
    copy.values = together.defined() ? together.select(0, i) : together;
  }
  return together.defined() ? together.view(like.sizes()) : together;
}

// One tensor, or `k` of them as rows of `x`.
void DeviceReducer::Impl::Reduce(const at::Tensor& x,
                                 const at::Tensor& previous, const Item* items,
                                 std::int64_t k) {
  const bool compare =
      items->task == Task::kReduceAndCompare && previous.defined();
  const auto reduce = [&](const at::Tensor& part, const at::Tensor& before) {
    DeviceElements elements(part, k, items->multiplier);
    Store(elements, items, k, &Item::ticket);
    if (!compare) return;
    elements.Subtract(part, before);
    Store(elements, items, k, &Item::update);
  };
  if (k > 1) return reduce(x, previous);
  ForEachSlice(x, previous, sizes.slice, reduce);
}

void DeviceReducer::Impl::Store(const DeviceElements& elements,
                                const Item* items, std::int64_t k,
                                Ticket Item::*ticket) {
  const std::size_t device = items->device;
  const at::Tensor x = elements.Rows();
  Piece piece;
  piece.numel = x.size(1);
  piece.stride = k;
  piece.moments = buffers.Reserve(device, kMomentsWidth * k);
  ReduceRows(elements, x, buffers.Zero(device),
             buffers.Room(device, piece.moments, kMomentsWidth * k)
                 .view({kMomentsWidth, k}));
  if (histograms) {
    piece.bins = buffers.Reserve(device, kBinsWidth * k);
    CountBins(
        x,
        buffers.Room(device, piece.bins, kBinsWidth * k).view({k, kBinsWidth}));
  }
  for (std::int64_t i = 0; i < k; ++i) {
    AddPiece(items[i].*ticket, piece);
    ++piece.moments;
    if (histograms) piece.bins += kBinsWidth;
  }
}

void DeviceReducer::Impl::RunScalar(const Item& item) {
  Piece piece;
  piece.numel = 1;
  piece.moments = buffers.Reserve(item.device, 1);
  buffers.Room(item.device, piece.moments, 1)
      .copy_(DeviceElements(item.tensor, 1).Rows().view({1}));
  AddPiece(item.ticket, piece);
}

void DeviceReducer::Send() {
  const DeviceScope scope;
  const bool sent = impl_->buffers.Send();
  // Of tensors without elements there is nothing to send, but to be read.
  pending_ = sent || !impl_->outcomes.empty();
}

// ---- What comes of it ------------------------------------------------------

void DeviceReducer::Wait() {
  pending_ = false;
  impl_->buffers.Wait();
  std::chrono::nanoseconds longest{0};
  for (const auto& clock : impl_->clocks) {
    // To ask for an event then would spoil the graph.
    if (RecordsGraph(clock->device)) continue;
    longest = std::max(longest, clock->timer.Take());
  }
  device_time_ += longest;
}

std::chrono::nanoseconds DeviceReducer::TakeDeviceTime() noexcept {
  return std::exchange(device_time_, std::chrono::nanoseconds(0));
}

Moments DeviceReducer::Result(Ticket ticket) const {
  const Outcome& outcome = impl_->outcomes[static_cast<std::size_t>(ticket)];
  const double* const read = impl_->buffers.Read(outcome.device);
  Moments total = Zeros(outcome.zeros);
  for (std::int64_t i = outcome.first; i >= 0;) {
    const Piece& piece = impl_->pieces[static_cast<std::size_t>(i)];
    total = Merge(total,
                  MomentsOf(read + piece.moments, piece.stride, piece.numel));
    i = piece.next;
  }
  return total;
}

double DeviceReducer::Scalar(Ticket ticket) const {
  const Outcome& outcome = impl_->outcomes[static_cast<std::size_t>(ticket)];
  const Piece& piece = impl_->pieces[static_cast<std::size_t>(outcome.first)];
  return impl_->buffers.Read(outcome.device)[piece.moments];
}

bool DeviceReducer::AddBins(Ticket ticket, BinCounts* bins) const {
  if (!impl_->histograms) return false;
  const Outcome& outcome = impl_->outcomes[static_cast<std::size_t>(ticket)];
  (*bins)[kBinZero] += outcome.zeros;
  const double* const read = impl_->buffers.Read(outcome.device);
  for (std::int64_t i = outcome.first; i >= 0;) {
    const Piece& piece = impl_->pieces[static_cast<std::size_t>(i)];
    AddBinsOf(read + piece.bins, bins);
    i = piece.next;
  }
  return true;
}

std::uint64_t DeviceReducer::buffer_bytes() const {
  return impl_->buffers.bytes();
}

}  // namespace gradtap::agent
