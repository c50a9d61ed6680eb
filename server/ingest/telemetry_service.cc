// gradtap.v1.Telemetry: the service, the clockwork behind its sessions, and
// what the query side may know of them (ingest.h).

#include <grpcpp/grpcpp.h>

#include <memory>
#include <thread>

#include "core/sync.h"
#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/auth/grpc_door.h"
#include "server/ingest/ingest.h"
#include "server/ingest/session_call.h"

namespace gradtap::server {
namespace {

// How often sessions look whether their peer has been silent for too long.
constexpr std::chrono::milliseconds kTick{500};

class TelemetryService final
    : public v1::Telemetry::WithRawCallbackMethod_Session<
          v1::Telemetry::Service> {
 public:
  explicit TelemetryService(IngestShared* shared) : shared_(shared) {}

  SessionReactor* Session(grpc::CallbackServerContext* context) override {
    const Guards& guards = shared_->limits.guards;
    return SessionCall::Start(shared_,
                              CallerOf(shared_->gate, guards, *context, true),
                              context, ConnectionOf(guards, *context));
  }

 private:
  IngestShared* const shared_;
};

class GrpcIngest final : public Ingest {
 public:
  GrpcIngest(Store* store, const Clock* clock, const IngestLimits& limits,
             Gate* gate)
      : shared_(store, clock, limits, gate), service_(&shared_) {
    ticker_ = std::thread([this] { Tick(); });
  }

  ~GrpcIngest() override {
    {
      MutexLock lock(mu_);
      stopping_ = true;
      stop_.NotifyAll();
    }
    ticker_.join();
  }

  grpc::Service* service() override { return &service_; }

  bool IsConnected(StreamId stream) const override {
    return shared_.live.LastSeenUnixNanos(stream).has_value();
  }

  std::uint32_t open_sessions() const override { return shared_.live.size(); }

  std::optional<std::int64_t> LastSeenUnixNanos(
      StreamId stream) const override {
    return shared_.live.LastSeenUnixNanos(stream);
  }

  std::uint64_t batches() const override { return shared_.batches; }

  void Drain(std::chrono::steady_clock::time_point deadline) override {
    shared_.live.BeginDrain();
    for (const auto& call : shared_.live.Calls()) call->Drain();
    shared_.live.WaitUntilEmpty(deadline);
  }

 private:
  void Tick() {
    for (;;) {
      {
        MutexLock lock(mu_);
        const auto next = std::chrono::steady_clock::now() + kTick;
        while (!stopping_ && stop_.WaitUntil(mu_, next)) {
        }
        if (stopping_) return;
      }
      for (const auto& call : shared_.live.Calls()) call->Tick();
    }
  }

  IngestShared shared_;
  TelemetryService service_;

  Mutex mu_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread ticker_;
};

}  // namespace

std::unique_ptr<Ingest> Ingest::Create(Store* store, const Clock* clock,
                                       IngestLimits limits, Gate* gate) {
  return std::make_unique<GrpcIngest>(store, clock, limits, gate);
}

}  // namespace gradtap::server
