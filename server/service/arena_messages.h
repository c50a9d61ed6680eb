// Messages of unary calls, each call's in an arena of its own: an answer of ten
// thousand rows takes and frees some blocks of memory in the place of 30,000
// pieces.
//
// Layer: server/service. This file: grpc, protobuf.

#ifndef GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_
#define GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_

#include <google/protobuf/arena.h>
#include <grpcpp/support/message_allocator.h>

#include <cstddef>

namespace gradtap::server {

// Thread-safe. Must outlive the server.
template <typename Request, typename Response>
class ArenaMessages final : public grpc::MessageAllocator<Request, Response> {
 public:
  grpc::MessageHolder<Request, Response>* AllocateMessages() override {
    return new Holder;
  }

 private:
  class Holder final : public grpc::MessageHolder<Request, Response> {
   public:
    Holder() : arena_(Options()) {
      this->set_request(
          google::protobuf::Arena::CreateMessage<Request>(&arena_));
      this->set_response(
          google::protobuf::Arena::CreateMessage<Response>(&arena_));
    }
    void Release() override { delete this; }

   private:
    // Blocks grow twofold, from a small answer's size.
    static google::protobuf::ArenaOptions Options() {
      google::protobuf::ArenaOptions options;
      options.start_block_size = std::size_t{4} << 10;
      options.max_block_size = std::size_t{256} << 10;
      return options;
    }

    google::protobuf::Arena arena_;
  };
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_
