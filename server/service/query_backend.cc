#include "server/service/query_backend.h"

#include <exception>
#include <future>
#include <limits>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/match_limit.h"
#include "server/limits/answer_room.h"

namespace gradtap::server {
namespace {

// Only memory that is not there is expected to throw.
absl::Status TryTask(const QueryBackend::Task& task,
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

std::uint32_t MostOfAClient(const QueryBackendOptions& options) {
  return options.max_queued - options.max_queued / 4;
}

absl::Status TookTooLong(std::chrono::nanoseconds most) {
  return absl::DeadlineExceededError(absl::StrCat(
      "the query took longer than ",
      std::chrono::duration<double>(most).count(),
      " s, the limit of one query; ask for less (--steps A:B, --match)"));
}

}  // namespace

QueryBackend::QueryBackend(QueryEnvironment environment,
                           const QueryBackendOptions& options)
    : options_(options),
      environment_(std::move(environment)),
      // How many wait in all the pool knows.
      places_("queries that wait", std::numeric_limits<std::uint32_t>::max(),
              MostOfAClient(options)) {
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

void QueryBackend::Submit(const char* method, const std::string& client,
                          Cancelled gone, Task task, Done done) {
  const auto arrived = std::chrono::steady_clock::now();
  const auto finish = [this, method, arrived,
                       done = std::move(done)](const absl::Status& status) {
    meter_.Ended(method, arrived, std::chrono::steady_clock::now(),
                 status.ok());
    done(status);
  };
  if (stopping_) return finish(ShuttingDown());
  auto place = places_.Take(client);
  if (!place.ok()) {
    environment_.guards.Refused(Limit::kWaitingQueries);
    return finish(absl::ResourceExhaustedError(absl::StrCat(
        MostOfAClient(options_), " of the ", options_.max_queued,
        " queries that may wait are yours, as many as one client may have; try "
        "again when one is answered")));
  }
  const bool queued = pool_->TrySubmit(
      [this, finish, gone = std::move(gone), task = std::move(task),
       place =
           std::shared_ptr<ClientPlaces::Place>(*std::move(place))]() mutable {
        place = nullptr;  // It waits no more.
        ++running_;
        const absl::Status status = RunTask(task, gone);
        if (absl::IsDeadlineExceeded(status) ||
            (absl::IsResourceExhausted(status) && !IsForWantOfRoom(status))) {
          environment_.guards.Refused(Limit::kQueryWork);
        }
        --running_;  // Before its caller has the answer, and may ask again.
        finish(status);
      });
  if (!queued) {
    environment_.guards.Refused(Limit::kWaitingQueries);
    finish(absl::ResourceExhaustedError(
        absl::StrCat(options_.max_queued,
                     " queries wait already, the limit of this collector; try "
                     "again")));
  }
}

absl::Status QueryBackend::RunTask(const Task& task,
                                   const Cancelled& gone) const {
  const auto end = std::chrono::steady_clock::now() + options_.max_time;
  const auto late = [end] { return std::chrono::steady_clock::now() >= end; };
  const auto over = [&] { return stopping_ || gone() || late(); };
  MatchLimit matching(options_.max_match_time, over);
  const auto give_up = [&] { return !matching.status().ok() || over(); };
  // It may have gone while the query waited for its turn.
  absl::Status status = gone() ? absl::CancelledError("the caller has gone")
                               : TryTask(task, give_up);
  // What it made of names that were not matched any more is no answer.
  if (!matching.status().ok()) status = matching.status();
  if (!absl::IsCancelled(status)) return status;
  if (stopping_) return ShuttingDown();
  return late() ? TookTooLong(options_.max_time) : status;
}

absl::Status QueryBackend::Run(const char* method, const std::string& client,
                               Cancelled gone, Task task) {
  std::promise<absl::Status> answered;
  std::future<absl::Status> answer = answered.get_future();
  Submit(
      method, client, std::move(gone), std::move(task),
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
