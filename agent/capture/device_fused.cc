// DeviceReducer's shorter way: all tensors of a launch in one kernel of ours,
// which reads each of them once.

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#ifdef GRADTAP_CUDA_KERNELS
#include <c10/cuda/CUDAStream.h>

#include "agent/capture/fused_cuda.h"
#endif

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "agent/capture/device_impl.h"
#include "agent/capture/device_results.h"
#include "agent/capture/fused_table.h"
#include "agent/capture/moments_layout.h"

namespace gradtap::agent {
namespace {

using device::Item;
using device::Piece;
using device::Task;

// Copies begin where a device reads 16 bytes at once.
constexpr std::int64_t kAlignment = 16;

std::optional<fused::Type> FusedType(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Float:
      return fused::Type::kFloat32;
    case c10::ScalarType::Double:
      return fused::Type::kFloat64;
    case c10::ScalarType::Half:
      return fused::Type::kFloat16;
    case c10::ScalarType::BFloat16:
      return fused::Type::kBfloat16;
    case c10::ScalarType::Char:
      return fused::Type::kInt8;
    case c10::ScalarType::Short:
      return fused::Type::kInt16;
    case c10::ScalarType::Int:
      return fused::Type::kInt32;
    case c10::ScalarType::Long:
      return fused::Type::kInt64;
    case c10::ScalarType::Byte:
      return fused::Type::kUint8;
    case c10::ScalarType::Bool:
      return fused::Type::kBool;
    default:
      return std::nullopt;
  }
}

bool IsFused(const Item& item) {
  const at::Tensor& tensor = item.tensor;
  if (!FusedType(tensor.scalar_type()) ||
      tensor.layout() != c10::Layout::Strided ||
      !tensor.is_non_overlapping_and_dense() || tensor.is_neg() ||
      tensor.is_conj()) {
    return false;
  }
  // Differences of integers are another matter.
  return item.copy == nullptr || c10::isFloatingType(tensor.scalar_type());
}

// Where its elements begin. Not data_ptr(): a tensor that shares its memory
// until it is written to would get its own.
const void* ElementsOf(const at::Tensor& tensor) {
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  return static_cast<const char*>(std::as_const(impl.storage()).data()) +
         static_cast<std::uint64_t>(impl.storage_offset()) * impl.itemsize();
}

// True if there is something to compare with.
bool Compares(const Item& item) {
  return item.task == Task::kReduceAndCompare && item.copy->values.defined();
}

// The table of a launch while it is made. Results are numbered in doubles from
// the beginning of their room, partials and counts from that of theirs.
struct Table {
  std::vector<fused::Task> tasks;
  std::vector<fused::Result> results;
  std::vector<fused::Chunk> chunks;
  std::vector<std::int64_t> moments, bins;  // Of each result; -1: none.
  std::int64_t partials = 0;
  std::int64_t count_rows = 0;
  std::int64_t doubles = 0;

  // A result of `task`; returns the number of its first Partial, and in *counts
  // its row.
  std::int64_t AddResult(const fused::Task& task, bool scalar, bool histograms,
                         std::int64_t* counts) {
    fused::Result& result = results.emplace_back();
    result.partial = partials;
    result.chunks = static_cast<std::int64_t>(fused::ChunksOf(task.numel));
    result.numel = task.numel;
    result.multiplier = task.multiplier;
    result.scalar = scalar ? 1 : 0;
    partials += result.chunks;
    moments.push_back(doubles);
    doubles += scalar ? 1 : kMomentsWidth;
    bins.push_back(-1);
    if (histograms && !scalar) {
      result.counts = *counts = count_rows++;
      bins.back() = doubles;
      doubles += kBinsWidth;
    }
    return result.partial;
  }

  void Add(const Item& item, bool histograms) {
    fused::Task task;
    task.x = ElementsOf(item.tensor);
    task.numel = static_cast<std::uint64_t>(item.numel);
    task.multiplier = item.multiplier;
    task.type = *FusedType(item.tensor.scalar_type());
    task.element_size = static_cast<std::int32_t>(item.tensor.element_size());
    if (item.copy != nullptr && item.copy->values.defined()) {
      task.copy = item.copy->values.data_ptr();
    }
    if (item.task != Task::kFill) {
      task.partial =
          AddResult(task, item.task == Task::kScalar, histograms, &task.counts);
    }
    if (Compares(item)) {
      task.update = AddResult(task, false, histograms, &task.update_counts);
    }
    if (task.partial < 0 && task.copy == nullptr) return;  // No memory.
    const auto number = static_cast<std::uint32_t>(tasks.size());
    const auto count = static_cast<std::uint32_t>(fused::ChunksOf(task.numel));
    for (std::uint32_t i = 0; i < count; ++i) chunks.push_back({number, i});
    tasks.push_back(task);
  }

  // Where results go, once it is known.
  void Place(double* room) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      results[i].moments = room + moments[i];
      if (bins[i] >= 0) results[i].bins = room + bins[i];
    }
  }
};

std::int64_t AlignedUp(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Memory of one launch on a device, in parts.
class Parts {
 public:
  template <typename T>
  std::int64_t Reserve(std::int64_t count) {
    const std::int64_t begin = bytes_;
    bytes_ += AlignedUp(count * static_cast<std::int64_t>(sizeof(T)));
    return begin;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

template <typename T>
void PutAt(char* to, std::int64_t at, const std::vector<T>& from) {
  if (!from.empty()) std::memcpy(to + at, from.data(), from.size() * sizeof(T));
}

at::Tensor Bytes(std::int64_t count, c10::Device device, bool pinned) {
  return at::empty({count},
                   at::device(device).dtype(at::kByte).pinned_memory(pinned));
}

void Enqueue(const fused::Launch& launch, c10::Device device) {
#ifdef GRADTAP_CUDA_KERNELS
  if (device.is_cuda()) {
    const c10::cuda::CUDAStream stream(
        c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    const char* const error = fused::EnqueueOnCuda(launch, stream.stream());
    if (error != nullptr) {
      throw std::runtime_error("device " + device.str() +
                               ", statistics: " + error);
    }
    return;
  }
#endif
  static_cast<void>(device);
  fused::RunOnCpu(launch);
}

// Copies the table to `device` and runs it there.
void RunTable(const Table& table, c10::Device device) {
  Parts parts;
  const auto count = [](const auto& rows) {
    return static_cast<std::int64_t>(rows.size());
  };
  const auto tasks = parts.Reserve<fused::Task>(count(table.tasks));
  const auto results = parts.Reserve<fused::Result>(count(table.results));
  const auto chunks = parts.Reserve<fused::Chunk>(count(table.chunks));
  const std::int64_t sent = parts.bytes();
  const auto partials = parts.Reserve<fused::Partial>(table.partials);
  const auto counts =
      parts.Reserve<unsigned long long>(table.count_rows * kBinsWidth);
  // LibTorch uses neither for anything else before the device is done.
  const at::Tensor memory = Bytes(parts.bytes(), device, /*pinned=*/false);
  const at::Tensor host = Bytes(sent, at::kCPU, /*pinned=*/device.is_cuda());
  char* const from = static_cast<char*>(host.data_ptr());
  PutAt(from, tasks, table.tasks);
  PutAt(from, results, table.results);
  PutAt(from, chunks, table.chunks);
  memory.narrow(0, 0, sent).copy_(host, /*non_blocking=*/true);
  char* const at = static_cast<char*>(memory.data_ptr());
  fused::Launch launch;
  launch.tasks = reinterpret_cast<const fused::Task*>(at + tasks);
  launch.results = reinterpret_cast<const fused::Result*>(at + results);
  launch.chunks = reinterpret_cast<const fused::Chunk*>(at + chunks);
  launch.chunk_count = count(table.chunks);
  launch.result_count = count(table.results);
  launch.partials = reinterpret_cast<fused::Partial*>(at + partials);
  launch.counts = reinterpret_cast<unsigned long long*>(at + counts);
  launch.count_rows = table.count_rows;
  Enqueue(launch, device);
}

bool WantsCopy(const Item& item) {
  return item.copy != nullptr && item.task != Task::kReduceAndCompare &&
         !item.copy->values.defined();
}

// Copies of elements of one type: small ones are parts of one allocation.
void AllocateCopiesOf(c10::ScalarType type, const Item* items, std::size_t k,
                      std::int64_t small) {
  std::vector<const Item*> together;
  std::int64_t total = 0;
  const auto room = [](const Item& item) {
    const auto size = static_cast<std::int64_t>(item.tensor.element_size());
    return AlignedUp(item.numel * size) / size;
  };
  for (const Item* item = items; item != items + k; ++item) {
    if (!WantsCopy(*item) || item->tensor.scalar_type() != type) continue;
    if (item->numel <= small) {
      total += room(*item);
      together.push_back(item);
      continue;
    }
    item->copy->values =
        at::empty({item->numel}, at::device(item->tensor.device()).dtype(type));
  }
  if (together.empty()) return;
  const at::Tensor all =
      at::empty({total}, at::device(together[0]->tensor.device()).dtype(type));
  std::int64_t begin = 0;
  for (const Item* const item : together) {
    item->copy->values = all.narrow(0, begin, item->numel);
    begin += room(*item);
  }
}

}  // namespace

bool DeviceReducer::Impl::CanFuse(std::size_t device, c10::Device where) {
  if (device >= can_fuse.size()) can_fuse.resize(device + 1);
  std::optional<bool>& can = can_fuse[device];
  if (can.has_value()) return *can;
  can = where.is_cpu() && sizes.fuse_on_cpu;
#ifdef GRADTAP_CUDA_KERNELS
  if (where.is_cuda()) {
    const c10::DeviceGuard guard(where);
    can = fused::RunsOnCurrentDevice();
  }
#endif
  return *can;
}

std::size_t DeviceReducer::Impl::SortFused() {
  const auto end =
      std::stable_partition(items.begin(), items.end(), [&](const Item& item) {
        return CanFuse(item.device, item.tensor.device()) && IsFused(item);
      });
  std::stable_sort(items.begin(), end, [](const Item& a, const Item& b) {
    return a.device < b.device;
  });
  return static_cast<std::size_t>(end - items.begin());
}

void DeviceReducer::Impl::LaunchFused(std::size_t count) {
  for (std::size_t first = 0; first < count;) {
    std::size_t end = first + 1;
    while (end < count && items[end].device == items[first].device) ++end;
    RunFused(first, end);
    first = end;
  }
}

void DeviceReducer::Impl::AllocateCopies(std::size_t first, std::size_t end) {
  const Item* const group = &items[first];
  for (const auto type : {c10::ScalarType::Float, c10::ScalarType::Double,
                          c10::ScalarType::Half, c10::ScalarType::BFloat16}) {
    try {
      AllocateCopiesOf(type, group, end - first, sizes.small);
    } catch (const c10::Error&) {
      out_of_memory = true;
    }
  }
}

void DeviceReducer::Impl::RunFused(std::size_t first, std::size_t end) {
  const std::size_t device = items[first].device;
  const c10::Device where = items[first].tensor.device();
  const c10::DeviceGuard guard(where);
  AllocateCopies(first, end);
  Table table;
  for (std::size_t i = first; i < end; ++i) table.Add(items[i], histograms);
  const std::int64_t begin = buffers.Reserve(device, table.doubles);
  if (table.doubles > 0) {
    table.Place(buffers.Room(device, begin, table.doubles).data_ptr<double>());
  }
  if (!table.tasks.empty()) RunTable(table, where);
  std::size_t result = 0;
  const auto put = [&](Ticket ticket, std::int64_t numel) {
    Piece piece;
    piece.moments = begin + table.moments[result];
    if (table.bins[result] >= 0) piece.bins = begin + table.bins[result];
    piece.numel = numel;
    AddPiece(ticket, piece);
    ++result;
  };
  const c10::StorageImpl* last = nullptr;
  for (std::size_t i = first; i < end; ++i) {
    const Item& item = items[i];
    if (item.task != Task::kFill) put(item.ticket, item.numel);
    if (Compares(item)) put(item.update, item.numel);
    if (item.copy == nullptr || !item.copy->values.defined()) continue;
    item.copy->valid = true;
    const at::Tensor& values = item.copy->values;
    if (values.storage().unsafeGetStorageImpl() == last) continue;
    last = values.storage().unsafeGetStorageImpl();
    UsedByCurrentStream(values);
  }
}

}  // namespace gradtap::agent
