#include "server/service/health_calls.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/wire.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

namespace gradtap::server {
namespace {

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr std::size_t kMostBytes = 4'096;

// HealthCheckResponse.ServingStatus.
enum Status : std::uint64_t { kServing = 1, kNotServing = 2, kUnknown = 3 };

// HealthCheckRequest.service; none: that was no request.
std::optional<std::string> ServiceOf(const grpc::ByteBuffer& request) {
  grpc::Slice slice;
  if (request.Length() > kMostBytes) return std::nullopt;
  // An empty message may be no slice at all.
  if (request.Length() > 0 && !request.DumpToSingleSlice(&slice).ok()) {
    return std::nullopt;
  }
  wire::Reader reader(
      {reinterpret_cast<const char*>(slice.begin()), slice.size()});
  std::string service;
  while (reader.Next()) {
    if (reader.number() == 1 && reader.type() == wire::Type::kBytes) {
      service = std::string(reader.bytes());
    }
  }
  if (!reader.ok()) return std::nullopt;
  return service;
}

grpc::ByteBuffer Answer(Status status) {
  std::string message;
  wire::AppendVarintField(1, status, &message);
  const grpc::Slice slice(message);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

bool IsHealthMethod(std::string_view path) {
  return path == kCheck || path == kWatch;
}

// All of it is under the lock of all; gRPC reacts to nothing within a call of
// Start... or Finish.
class HealthCalls::Call final : public grpc::ServerGenericBidiReactor {
 public:
  Call(HealthCalls* all, bool watches,
       std::unique_ptr<ClientPlaces::Place> place,
       std::shared_ptr<OpenConnection> connection)
      : all_(all), watches_(watches), place_(std::move(place)) {
    due_.emplace(all->table_, std::move(connection));
    StartRead(&in_);
  }

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    const std::optional<std::string> service =
        ok ? ServiceOf(in_) : std::nullopt;
    in_.Clear();
    if (!service.has_value()) {
      return End({grpc::StatusCode::INVALID_ARGUMENT,
                  "a health check names a service, in at most 4 KiB"});
    }
    is_known_ = service->empty() ||
                std::find(all_->services_.begin(), all_->services_.end(),
                          *service) != all_->services_.end();
    if (watches_) {
      due_.reset();  // It may stay.
      all_->watching_.insert(this);
      return Tell(all_->serving_);
    }
    if (!is_known_) {
      return End({grpc::StatusCode::NOT_FOUND, "there is no such service"});
    }
    if (std::exchange(ended_, true)) return;
    out_ = Answer(StatusIf(all_->serving_));
    StartWriteAndFinish(&out_, grpc::WriteOptions(), grpc::Status::OK);
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    writing_ = false;
    ok ? Tell(all_->serving_) : End(grpc::Status::CANCELLED);
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    End(grpc::Status::CANCELLED);
  }

  void OnDone() override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    {
      MutexLock lock(all_->mu_);
      all_->watching_.erase(this);
    }
    delete this;
  }

  // Of one that watches: what it has not been told yet. Under the lock of all.
  void Tell(bool serving) {
    const Status now = StatusIf(serving);
    if (writing_ || ended_ || said_ == now) return;
    said_ = now;
    writing_ = true;
    out_ = Answer(now);
    StartWrite(&out_);
  }

 private:
  Status StatusIf(bool serving) const {
    if (!is_known_) return kUnknown;
    return serving ? kServing : kNotServing;
  }

  void End(const grpc::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(all_->mu_) {
    if (!std::exchange(ended_, true)) Finish(status);
  }

  HealthCalls* const all_;
  const bool watches_;
  const std::unique_ptr<ClientPlaces::Place> place_;
  std::optional<AnswerToSend> due_;  // Until it is answered for the first time.
  bool is_known_ = false;
  std::optional<Status> said_;
  bool writing_ = false;
  bool ended_ = false;
  grpc::ByteBuffer in_, out_;
};

grpc::ServerGenericBidiReactor* HealthCalls::Open(
    const grpc::GenericCallbackServerContext& context,
    std::unique_ptr<ClientPlaces::Place> place,
    std::shared_ptr<OpenConnection> connection) {
  return new Call(this, context.method() == kWatch, std::move(place),
                  std::move(connection));
}

void HealthCalls::StopServing() {
  MutexLock lock(mu_);
  serving_ = false;
  for (Call* const call : watching_) call->Tell(serving_);
}

}  // namespace gradtap::server
