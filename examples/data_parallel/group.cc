#include "examples/data_parallel/group.h"

#include <chrono>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace examples {
namespace {

// A rank that is gone closes its connections, and the others see it at once;
// this is for one that hangs, or never came.
constexpr std::chrono::milliseconds kPatience = std::chrono::minutes(1);

}  // namespace

Group::Group(const std::string& store, int rank, int size)
    : rank_(rank), size_(size) {
  if (size == 1) return;
  auto options = c10d::ProcessGroupGloo::Options::create(kPatience);
  options->devices.push_back(
      c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  options->threads = 1;
  auto file = c10::make_intrusive<c10d::FileStore>(store, size);
  file->setTimeout(kPatience);
  gloo_ =
      c10::make_intrusive<c10d::ProcessGroupGloo>(file, rank, size, options);
}

Group::~Group() = default;

void Group::Average(const std::vector<torch::Tensor>& tensors) {
  Sum(tensors);
  torch::NoGradGuard no_grad;
  for (torch::Tensor tensor : tensors) tensor.div_(size_);
}

// All of them in one message.
void Group::Sum(const std::vector<torch::Tensor>& tensors) {
  if (size_ == 1) return;
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> flat;
  for (const torch::Tensor& tensor : tensors)
    flat.push_back(tensor.reshape(-1));
  std::vector<torch::Tensor> bucket = {torch::cat(flat)};
  gloo_->allreduce(bucket)->wait();
  std::int64_t at = 0;
  for (torch::Tensor tensor : tensors) {
    const std::int64_t n = tensor.numel();
    tensor.copy_(bucket[0].narrow(0, at, n).view(tensor.sizes()));
    at += n;
  }
}

}  // namespace examples
