#include "client/rpc/answer_memory.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace gradtap::client {
namespace {

constexpr std::size_t kLeast = std::size_t{16} << 10;
// Of the blocks that the arena adds to the kept one.
constexpr std::size_t kLargestBlock = std::size_t{1} << 20;

}  // namespace

AnswerMemory::Lease::Lease(AnswerMemory* memory) : memory_(memory) {
  {
    const MutexLock lock(memory->mu_);
    block_ = std::move(memory->block_);
    size_ = std::exchange(memory->size_, 0);
  }
  google::protobuf::ArenaOptions options;
  options.initial_block = block_.get();
  options.initial_block_size = size_;
  options.start_block_size = kLeast;
  options.max_block_size = kLargestBlock;
  arena_.emplace(options);
}

AnswerMemory::Lease::~Lease() {
  const std::size_t used = arena_->SpaceAllocated();
  arena_.reset();
  const std::size_t wanted =
      std::min(std::bit_ceil(std::max(used, kLeast)), kMostKept);
  if (size_ < wanted) {
    block_ = std::make_unique_for_overwrite<char[]>(wanted);
    size_ = wanted;
  }
  const MutexLock lock(memory_->mu_);
  if (memory_->size_ >= size_) return;  // Another call was faster.
  memory_->block_ = std::move(block_);
  memory_->size_ = size_;
}

std::size_t AnswerMemory::kept_bytes() {
  const MutexLock lock(mu_);
  return size_;
}

}  // namespace gradtap::client
