// Messages of unary calls, whose requests are bytes (request_bytes.h), each
// answer in an arena of its own: one of ten thousand rows takes and frees some
// blocks of memory in the place of 30,000 pieces. What an answer takes
// (../limits/answer_room.h) it takes as long.
//
// Layer: server/service. This file: std, limits; grpc, protobuf.

#ifndef GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_
#define GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_

#include <google/protobuf/arena.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/message_allocator.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "server/limits/answer_room.h"
#include "server/limits/connection_table.h"

namespace gradtap::server {

// Thread-safe. Must outlive the server.
template <typename Response>
class ArenaMessages final
    : public grpc::MessageAllocator<grpc::ByteBuffer, Response> {
 public:
  class Holder final : public grpc::MessageHolder<grpc::ByteBuffer, Response> {
   public:
    Holder() : arena_(Options()) {
      this->set_request(&request_);
      this->set_response(
          google::protobuf::Arena::CreateMessage<Response>(&arena_));
    }
    void Release() override { delete this; }

    // What the answer takes until it has been sent. Once, before Held().
    void Hold(AnswerRoom* room, std::string client) {
      held_.emplace(room, std::move(client));
    }
    HeldAnswer* held() { return &*held_; }
    // It is made, and leaves over that connection. Once.
    void Send(ConnectionTable* table,
              std::shared_ptr<OpenConnection> connection) {
      to_send_.emplace(table, std::move(connection));
    }

   private:
    // Blocks grow twofold, from a small answer's size.
    static google::protobuf::ArenaOptions Options() {
      google::protobuf::ArenaOptions options;
      options.start_block_size = std::size_t{4} << 10;
      options.max_block_size = std::size_t{256} << 10;
      return options;
    }

    grpc::ByteBuffer request_;
    google::protobuf::Arena arena_;
    std::optional<HeldAnswer> held_;
    std::optional<AnswerToSend> to_send_;
  };

  grpc::MessageHolder<grpc::ByteBuffer, Response>* AllocateMessages() override {
    return new Holder;
  }

  // Of a method that has this for its allocator.
  static Holder* Of(grpc::CallbackServerContext* context) {
    return static_cast<Holder*>(context->GetRpcAllocatorState());
  }
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_ARENA_MESSAGES_H_
