#include "agent/delivery/grpc_transport.h"

#include <grpc/grpc.h>
#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/bearer_token.h"
#include "core/peer_address.h"
#include "core/socket_folder.h"
#include "gradtap/v1/telemetry.grpc.pb.h"

namespace gradtap::agent {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// The collector sends acknowledgements; with many rejections they grow.
constexpr int kMaxReceiveBytes = 1 << 20;
constexpr int kMaxSendBytes = 4 << 20;
// gRPC looks at the size of a message once it has all of it: whoever answers
// could announce 4 GiB and fill the training program's memory. Beyond so much
// gRPC ends the call.
constexpr std::size_t kMaxHeldBytes = 16u << 20;
// gRPC aborts the process where it finds no file descriptor to begin with; it
// takes 7, and the training program may take some meanwhile.
constexpr std::size_t kFreeDescriptors = 16;
// One wait; Wait() is called again and again.
constexpr std::chrono::seconds kLongestWait{60};

gpr_timespec After(std::chrono::nanoseconds wait) {
  wait = std::clamp<std::chrono::nanoseconds>(wait, std::chrono::nanoseconds(0),
                                              kLongestWait);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(wait.count(), GPR_TIMESPAN));
}

grpc::ChannelArguments ChannelArgs(const GrpcTransportOptions& options) {
  // gRPC would send what is for localhost through a proxy, too.
  const bool use_proxy =
      options.use_proxy && !StaysOnThisMachine(options.collector);
  grpc::ChannelArguments args;
  grpc::ResourceQuota quota("gradtap");
  quota.Resize(kMaxHeldBytes);
  args.SetResourceQuota(quota);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, use_proxy ? 1 : 0);
  // Nothing is shared with the host program's channels, nor with the last try.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // No TXT look-up: a name server must not configure the agent.
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  args.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  args.SetMaxSendMessageSize(kMaxSendBytes);
  return args;
}

// Whether so many file descriptors can be had now.
bool HasFreeDescriptors() {
  std::array<int, kFreeDescriptors> taken{};
  std::size_t count = 0;
  for (; count < taken.size(); ++count) {
    taken[count] = ::eventfd(0, EFD_CLOEXEC);
    if (taken[count] < 0) break;
  }
  for (std::size_t i = 0; i < count; ++i) ::close(taken[i]);
  return count == taken.size();
}

// Everything of one call. Lives until all its operations have come back.
struct Call {
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Telemetry::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<
      grpc::ClientAsyncReaderWriter<v1::AgentMessage, v1::CollectorMessage>>
      stream;
  v1::CollectorMessage incoming;
  grpc::Status status;
  bool writing = false;
  bool read_ended = false;
  bool finishing = false;
};

class GrpcTransport : public Transport {
 public:
  explicit GrpcTransport(GrpcTransportOptions options)
      : options_(std::move(options)), tls_files_(options_.tls_files) {}

  ~GrpcTransport() override {
    if (queue_ != nullptr) Abandon(std::chrono::steady_clock::now());
  }

  void Connect() override {
    if (queue_ == nullptr && !Begin()) {
      LocalClose(absl::ResourceExhaustedError(absl::StrCat(
          "fewer than ", kFreeDescriptors,
          " file descriptors are free: close some, or raise the limit (ulimit "
          "-n)")));
      return;
    }
    call_ = std::make_unique<Call>();
    const auto credentials = Credentials();
    if (credentials == nullptr) {
      LocalClose(absl::FailedPreconditionError(
          "gRPC does not accept the TLS certificate or key"));
      return;
    }
    const absl::StatusOr<std::string> token =
        options_.token_file.empty() ? options_.token
                                    : ReadBearerToken(options_.token_file);
    if (!token.ok()) {
      LocalClose(token.status());
      return;
    }
    if (!token->empty() && !options_.tls) {
      const absl::Status safe =
          CheckSocketFolder(options_.collector, ::geteuid());
      if (!safe.ok()) {
        LocalClose(safe);
        return;
      }
    }
    call_->channel = grpc::CreateCustomChannel(options_.collector, credentials,
                                               ChannelArgs(options_));
    call_->stub = v1::Telemetry::NewStub(call_->channel);
    if (!token->empty() &&
        (options_.tls || StaysOnThisMachine(options_.collector))) {
      call_->context.AddMetadata("authorization",
                                 absl::StrCat("Bearer ", *token));
    }
    call_->stream =
        call_->stub->PrepareAsyncSession(&call_->context, queue_.get());
    call_->stream->StartCall(Tag(kStart));
  }

  void Send(const v1::AgentMessage& message) override {
    if (call_ == nullptr || call_->finishing) return;
    call_->writing = true;
    call_->stream->Write(message, Tag(kWrite));
  }

  void HalfClose() override {
    if (call_ == nullptr || call_->finishing) return;
    call_->writing = true;
    call_->stream->WritesDone(Tag(kWrite));
  }

  void Cancel() override {
    if (call_ != nullptr) call_->context.TryCancel();
  }

  std::optional<TransportEvent> Wait(SteadyTime deadline) override {
    for (;;) {
      if (!local_events_.empty()) {
        TransportEvent event = std::move(local_events_.front());
        local_events_.pop_front();
        return event;
      }
      if (queue_ == nullptr) {  // Nothing can come.
        std::this_thread::sleep_until(std::min(
            deadline, std::chrono::steady_clock::now() + kLongestWait));
        return std::nullopt;
      }
      void* tag = nullptr;
      bool ok = false;
      const auto got = queue_->AsyncNext(
          &tag, &ok, After(deadline - std::chrono::steady_clock::now()));
      if (got != grpc::CompletionQueue::GOT_EVENT) return std::nullopt;
      if (auto event = Handle(tag, ok)) return event;
    }
  }

  void Abandon(SteadyTime deadline) override {
    if (queue_ == nullptr) return;
    Cancel();
    // Each operation comes back broken, and Finish() clears call_.
    while (call_ != nullptr && Wait(deadline)) {
    }
    bool ended = false;
    if (call_ == nullptr) {
      queue_->Shutdown();
      void* tag = nullptr;
      bool ok = false;
      ended =
          queue_->AsyncNext(
              &tag, &ok, After(deadline - std::chrono::steady_clock::now())) ==
          grpc::CompletionQueue::SHUTDOWN;
    }
    if (!ended) {
      // Operations that gRPC has not given back point into these.
      (void)call_.release();
      (void)queue_.release();
    }
    queue_.reset();
  }

 private:
  enum Operation : std::intptr_t { kStart = 1, kRead, kWrite, kFinish };

  static void* Tag(Operation operation) {
    return reinterpret_cast<void*>(static_cast<std::intptr_t>(operation));
  }

  // The first of gRPC in this transport. False: not now.
  bool Begin() {
    if (!HasFreeDescriptors()) return false;
    queue_ = std::make_unique<grpc::CompletionQueue>();
    return true;
  }

  // Null: gRPC does not take them.
  std::shared_ptr<grpc::ChannelCredentials> Credentials() {
    if (!options_.tls) return grpc::InsecureChannelCredentials();
    const TlsFileNames& names = options_.tls_names;
    if (!names.empty()) {
      if (auto files = ReadTlsFiles(names); files.ok()) {
        tls_files_ = *std::move(files);
      }
    }
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = tls_files_.ca_pem;
    ssl.pem_cert_chain = tls_files_.cert_pem;
    ssl.pem_private_key = tls_files_.key_pem;
    return grpc::SslCredentials(ssl);
  }

  void Read() { call_->stream->Read(&call_->incoming, Tag(kRead)); }

  void FinishIfEnded() {
    if (call_->finishing || call_->writing || !call_->read_ended) return;
    call_->finishing = true;
    call_->stream->Finish(&call_->status, Tag(kFinish));
  }

  void LocalClose(absl::Status status) {
    TransportEvent event;
    event.status = std::move(status);
    local_events_.push_back(std::move(event));
    call_.reset();
  }

  std::optional<TransportEvent> Handle(void* tag, bool ok) {
    TransportEvent event;
    switch (static_cast<Operation>(reinterpret_cast<std::intptr_t>(tag))) {
      case kStart:
        if (!ok) {
          call_->read_ended = true;
          FinishIfEnded();
          return std::nullopt;
        }
        Read();
        event.kind = TransportEvent::Kind::kConnected;
        return event;
      case kRead:
        if (!ok) {
          call_->read_ended = true;
          FinishIfEnded();
          return std::nullopt;
        }
        event.kind = TransportEvent::Kind::kMessage;
        event.message.Swap(&call_->incoming);
        Read();
        return event;
      case kWrite:
        // Broken or not: if broken, the read ends too, and tells.
        call_->writing = false;
        FinishIfEnded();
        event.kind = TransportEvent::Kind::kSent;
        return event;
      case kFinish:
        event.kind = TransportEvent::Kind::kClosed;
        event.status = absl::Status(
            static_cast<absl::StatusCode>(call_->status.error_code()),
            call_->status.error_message());
        call_.reset();
        return event;
    }
    return std::nullopt;
  }

  const GrpcTransportOptions options_;
  TlsFiles tls_files_;                            // The last good ones.
  std::unique_ptr<grpc::CompletionQueue> queue_;  // Null: not begun, or over.
  std::unique_ptr<Call> call_;
  std::deque<TransportEvent> local_events_;
};

}  // namespace

std::unique_ptr<Transport> MakeGrpcTransport(GrpcTransportOptions options) {
  return std::make_unique<GrpcTransport>(std::move(options));
}

}  // namespace gradtap::agent
