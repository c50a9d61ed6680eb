#include "server/service/query_backend.h"

#include <exception>
#include <future>
#include <new>
#include <utility>

#include "server/limits/answer_room.h"

namespace gradtap::server {
namespace {

// Only memory that is not there is expected to throw.
absl::Status RunTask(const QueryBackend::Task& task,
                     const Cancelled& cancelled) {
  try {
    return task(cancelled);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        "out of memory; ask for less (--steps A:B, --points N, --match)");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

absl::Status ShuttingDown() {
  return absl::UnavailableError("the collector is shutting down");
}

}  // namespace

QueryBackend::QueryBackend(QueryEnvironment environment,
                           const QueryBackendOptions& options)
    : environment_(std::move(environment)) {
  environment_.open_watches = [this] {
    std::uint32_t open = 0;
    for (const auto& watches : watches_) open += watches();
    return open;
  };
  environment_.calls = [this] {
    CallsFigures calls;
    calls.methods = meter_.Figures(std::chrono::steady_clock::now());
    calls.running = running_;
    calls.waiting = static_cast<std::uint32_t>(pool_->queued());
    return calls;
  };
  pool_ = std::make_unique<WorkerPool>(options.threads, options.max_queued);
}

QueryBackend::~QueryBackend() = default;

void QueryBackend::Submit(const char* method, Cancelled gone, Task task,
                          Done done) {
  const auto arrived = std::chrono::steady_clock::now();
  const auto finish = [this, method, arrived,
                       done = std::move(done)](const absl::Status& status) {
    meter_.Ended(method, arrived, std::chrono::steady_clock::now(),
                 status.ok());
    done(status);
  };
  if (stopping_) return finish(ShuttingDown());
  const bool queued = pool_->TrySubmit(
      [this, finish, gone = std::move(gone), task = std::move(task)] {
        ++running_;
        absl::Status status =
            RunTask(task, [this, &gone] { return stopping_ || gone(); });
        if (absl::IsResourceExhausted(status) && !IsForWantOfRoom(status)) {
          environment_.guards.Refused(Limit::kQueryWork);
        }
        --running_;  // Before its caller has the answer, and may ask again.
        if (stopping_ && absl::IsCancelled(status)) status = ShuttingDown();
        finish(status);
      });
  if (!queued) {
    environment_.guards.Refused(Limit::kWaitingQueries);
    finish(absl::ResourceExhaustedError(
        "too many queries are waiting; try again"));
  }
}

absl::Status QueryBackend::Run(const char* method, Cancelled gone, Task task) {
  std::promise<absl::Status> answered;
  std::future<absl::Status> answer = answered.get_future();
  Submit(
      method, std::move(gone), std::move(task),
      [&answered](const absl::Status& status) { answered.set_value(status); });
  return answer.get();
}

void QueryBackend::Stop() { stopping_ = true; }

void QueryBackend::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  pool_->WaitIdle(deadline);
}

void QueryBackend::CountWatches(std::function<std::uint32_t()> open) {
  watches_.push_back(std::move(open));
}

}  // namespace gradtap::server
