// Memory that answers are decoded in, kept from one call to the next: an answer
// of ten thousand rows is then no longer 30,000 pieces that malloc has to find
// and to take back.
//
// Layer: client/rpc. This file: std, absl, core, protobuf.

#ifndef GRADTAP_CLIENT_RPC_ANSWER_MEMORY_H_
#define GRADTAP_CLIENT_RPC_ANSWER_MEMORY_H_

#include <google/protobuf/arena.h>

#include <cstddef>
#include <memory>
#include <optional>

#include "core/sync.h"

namespace gradtap::client {

// Thread-safe. Keeps one block, as large as the largest answer so far, at most
// kMostKept bytes.
class AnswerMemory {
 public:
  static constexpr std::size_t kMostKept = std::size_t{8} << 20;

  // An arena of one call, with the kept block if no other call has it.
  class Lease {
   public:
    explicit Lease(AnswerMemory* memory);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    template <typename Message>
    Message* Create() {
      return google::protobuf::Arena::CreateMessage<Message>(&*arena_);
    }

   private:
    AnswerMemory* const memory_;
    std::unique_ptr<char[]> block_;
    std::size_t size_ = 0;
    std::optional<google::protobuf::Arena> arena_;  // Goes before its block.
  };

  // Of the block that waits for the next call.
  std::size_t kept_bytes() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Mutex mu_;
  std::unique_ptr<char[]> block_ ABSL_GUARDED_BY(mu_);
  std::size_t size_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_RPC_ANSWER_MEMORY_H_
