// A real gRPC server in front of a model collector, and a few peers that are
// none.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_TEST_SERVER_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_TEST_SERVER_H_

#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "agent/delivery/model_collector.h"
#include "core/sync.h"
#include "gradtap/v1/telemetry.grpc.pb.h"

namespace gradtap::testing {

// The model outlives restarts, as a store does.
class TestServer : private v1::Telemetry::Service {
 public:
  enum class Mode {
    kServe,
    kReject,     // For good.
    kNeverAck,   // Reads everything, and says Welcome alone.
    kNeverRead,  // Says Welcome and reads nothing more.
  };

  explicit TestServer(Mode mode = Mode::kServe) : mode_(mode) {}
  ~TestServer() override { Stop(); }

  // On 127.0.0.1; port 0 picks a free one.
  void Start(int port = 0,
             std::shared_ptr<grpc::ServerCredentials> credentials =
                 grpc::InsecureServerCredentials()) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), credentials,
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      throw std::runtime_error("the test server does not start");
    }
  }

  // Breaks all calls at once.
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Not while a call may be open.
  const ModelCollector& collector() const { return collector_; }
  int byes() {
    MutexLock lock(mu_);
    return collector_.byes;
  }
  // Metadata "authorization" of the last call.
  std::string authorization() {
    MutexLock lock(mu_);
    return authorization_;
  }

 private:
  using Stream =
      grpc::ServerReaderWriter<v1::CollectorMessage, v1::AgentMessage>;

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override {
    {
      MutexLock lock(mu_);
      const auto found = context->client_metadata().find("authorization");
      authorization_ =
          found == context->client_metadata().end()
              ? ""
              : std::string(found->second.data(), found->second.size());
      collector_.Open();
    }
    v1::AgentMessage message;
    while (stream->Read(&message)) {
      if (mode_ == Mode::kReject) {
        v1::CollectorMessage reject;
        reject.mutable_reject()->set_code(v1::Reject::CODE_VERSION);
        reject.mutable_reject()->set_detail("too old");
        stream->Write(reject);
        return grpc::Status::OK;
      }
      ModelCollector::Reply reply;
      {
        MutexLock lock(mu_);
        if (mode_ == Mode::kServe || message.has_hello()) {
          reply = collector_.OnMessage(message);
        }
      }
      for (const auto& answer : reply.messages) stream->Write(answer);
      if (reply.close) {
        return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, reply.close_reason);
      }
      if (mode_ == Mode::kNeverRead) {
        while (!context->IsCancelled()) ::usleep(5'000);
        break;
      }
    }
    return grpc::Status::OK;
  }

  const Mode mode_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  Mutex mu_;
  ModelCollector collector_;
  std::string authorization_ ABSL_GUARDED_BY(mu_);
};

// A port that is bound, and answers connections with nothing, or with `noise`.
class RawListener {
 public:
  RawListener() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (fd_ < 0 ||
        ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(fd_, 16) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no socket for the test");
    }
    port_ = ntohs(address.sin_port);
  }
  ~RawListener() { Close(); }
  RawListener(const RawListener&) = delete;
  RawListener& operator=(const RawListener&) = delete;

  // Ends when Close() is called.
  void AnswerWith(const std::string& noise) {
    for (;;) {
      const int peer = ::accept(fd_, nullptr, nullptr);
      if (peer < 0) return;
      (void)!::write(peer, noise.data(), noise.size());
      ::close(peer);
    }
  }
  void Close() {
    if (fd_ < 0) return;
    ::shutdown(fd_, SHUT_RDWR);
    ::close(std::exchange(fd_, -1));
  }

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int fd_ = -1;
  int port_ = 0;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_TEST_SERVER_H_
