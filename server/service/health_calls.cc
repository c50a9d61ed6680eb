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

grpc::ByteBuffer AnswerOf(Status status) {
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
class HealthCalls::Call final : public RequestCall {
 public:
  Call(HealthCalls* all, bool watches, CallHead head)
      : RequestCall(std::move(head), all->guards_),
        all_(all),
        watches_(watches) {}

  void OnRequest(grpc::ByteBuffer bytes) override
      ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    if (ended_) return;
    const std::optional<std::string> service = ServiceOf(bytes);
    if (!service.has_value()) {
      return EndOnce(absl::InvalidArgumentError(
          "a health check names a service, in at most 4 KiB"));
    }
    is_known_ = service->empty() ||
                std::find(all_->services_.begin(), all_->services_.end(),
                          *service) != all_->services_.end();
    if (watches_) {
      all_->watching_.insert(this);
      return Tell(all_->serving_);
    }
    if (!is_known_) {
      return EndOnce(absl::NotFoundError("there is no such service"));
    }
    ended_ = true;
    RequestCall::Answer(AnswerOf(StatusIf(all_->serving_)));
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    writing_ = false;
    ok ? Tell(all_->serving_) : EndOnce(Gone());
  }

  // Of one that watches nothing else tells that its client has gone.
  void OnCancel() override ABSL_LOCKS_EXCLUDED(all_->mu_) {
    MutexLock lock(all_->mu_);
    if (all_->watching_.count(this) != 0) EndOnce(Gone());
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
    out_ = AnswerOf(now);
    StartWrite(&out_);
  }

 private:
  Status StatusIf(bool serving) const {
    if (!is_known_) return kUnknown;
    return serving ? kServing : kNotServing;
  }

  static absl::Status Gone() {
    return absl::CancelledError("the client has gone");
  }

  void EndOnce(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(all_->mu_) {
    if (!std::exchange(ended_, true)) End(status);
  }

  HealthCalls* const all_;
  const bool watches_;
  bool is_known_ = false;
  std::optional<Status> said_;
  bool writing_ = false;
  bool ended_ = false;
  grpc::ByteBuffer out_;
};

grpc::ServerGenericBidiReactor* HealthCalls::Open(CallHead head,
                                                  std::string_view path) {
  return new Call(this, path == kWatch, std::move(head));
}

void HealthCalls::StopServing() {
  MutexLock lock(mu_);
  serving_ = false;
  for (Call* const call : watching_) call->Tell(serving_);
}

}  // namespace gradtap::server
