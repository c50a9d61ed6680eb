// An agent's side of a session, one message at a time.

#ifndef GRADTAP_TESTS_SERVER_INGEST_SESSION_CLIENT_H_
#define GRADTAP_TESTS_SERVER_INGEST_SESSION_CLIENT_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/ingest/batch_builder.h"

namespace gradtap::server::testing {

// What an agent does, one message at a time. The deadline of the call makes a
// hang a failure.
class Client {
 public:
  explicit Client(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::Telemetry::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
    stream_ = stub_->Session(&context_);
  }

  static v1::Hello MakeHello(std::uint32_t rank = 0) {
    v1::Hello hello;
    hello.set_protocol_version(1);
    hello.set_run("run");
    hello.set_launch("launch");
    hello.set_rank(rank);
    hello.set_world_size(rank + 1);
    hello.set_process_nonce(std::string(16, 'n'));
    hello.set_start_time_unix_ns(1);
    return hello;
  }

  bool SendHello(const v1::Hello& hello) {
    v1::AgentMessage message;
    *message.mutable_hello() = hello;
    return stream_->Write(message);
  }
  bool Send(const BuiltBatch& batch) {
    v1::AgentMessage message;
    message.mutable_batch()->set_first_seq(batch.first_seq);
    message.mutable_batch()->set_record_count(batch.record_count);
    message.mutable_batch()->set_frame(batch.frame);
    return stream_->Write(message);
  }
  bool SendHeartbeat() {
    v1::AgentMessage message;
    message.mutable_heartbeat()->set_steps_seen(1);
    return stream_->Write(message);
  }
  // An empty message if the call has ended.
  v1::CollectorMessage Read() {
    v1::CollectorMessage message;
    if (!stream_->Read(&message)) message.Clear();
    return message;
  }
  v1::Welcome Greet(const v1::Hello& hello = MakeHello()) {
    SendHello(hello);
    const v1::CollectorMessage message = Read();
    EXPECT_TRUE(message.has_welcome()) << message.DebugString();
    return message.welcome();
  }
  // Reads acks until one covers `seq`; all rejections on the way.
  std::vector<v1::Rejection> WaitForAck(std::uint64_t seq) {
    std::vector<v1::Rejection> rejected;
    for (;;) {
      const v1::CollectorMessage message = Read();
      if (!message.has_ack()) {
        ADD_FAILURE() << "no ack: " << message.DebugString();
        return rejected;
      }
      EXPECT_LE(message.ack().durable_seq(), seq);
      EXPECT_GT(message.ack().credit_bytes(), 0U);
      rejected.insert(rejected.end(), message.ack().rejected().begin(),
                      message.ack().rejected().end());
      if (message.ack().durable_seq() == seq) return rejected;
    }
  }
  grpc::Status Leave() {
    v1::AgentMessage message;
    message.mutable_bye()->set_reason("done");
    stream_->Write(message);
    stream_->WritesDone();
    return Finish();
  }
  grpc::Status Finish() {
    v1::CollectorMessage rest;
    while (stream_->Read(&rest)) {
    }
    return stream_->Finish();
  }
  void Cancel() { context_.TryCancel(); }

 private:
  std::unique_ptr<v1::Telemetry::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AgentMessage, v1::CollectorMessage>>
      stream_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_INGEST_SESSION_CLIENT_H_
