#include "server/http/alert_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/text/json_mapping.h"
#include "server/health/health_watch.h"
#include "server/query/run_view.h"

namespace gradtap::server {

absl::StatusOr<std::unique_ptr<AlertStream>> AlertStream::Open(
    QueryBackend* backend, ClientPlaces* places,
    const std::atomic<bool>* stopping, const v1::WatchAlertsRequest& request,
    const std::string& client) {
  if (backend->health() == nullptr) {
    return absl::FailedPreconditionError("this collector evaluates no rules");
  }
  std::unique_ptr<AlertStream> stream(
      new AlertStream(backend, stopping, request));
  if (absl::Status s = stream->Check(); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<ClientPlaces::Place>> place =
      places->Take(client);
  if (!place.ok()) return place.status();
  stream->place_ = *std::move(place);
  return stream;
}

AlertStream::AlertStream(QueryBackend* backend,
                         const std::atomic<bool>* stopping,
                         const v1::WatchAlertsRequest& request)
    : backend_(backend),
      log_(&backend->health()->log()),
      stopping_(stopping),
      run_(request.run()),
      cursor_(log_, request) {}

absl::Status AlertStream::Check() const {
  if (*stopping_) {
    return absl::UnavailableError("the collector is shutting down");
  }
  if (run_.empty()) return absl::OkStatus();
  return OpenRun(*backend_->environment().store, run_).status();
}

absl::StatusOr<LiveStream::Text> AlertStream::Next(
    std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  v1::WatchAlertsResponse message;
  for (;;) {
    // Before looking: what comes in between is not waited for.
    const std::uint64_t wakes = log_->wakes();
    const std::uint64_t change = log_->change();
    if (absl::Status s = Check(); !s.ok()) return s;
    if (cursor_.Next(&message)) break;
    if (std::chrono::steady_clock::now() >= until) return Text();
    log_->Wait(change, wakes, until);
  }
  absl::StatusOr<std::string> json = ToJson(message, JsonLayout::kOneLine);
  if (!json.ok()) return json.status();
  // It ends with a line end: an event ends with an empty line.
  return std::make_shared<const std::string>(absl::StrCat(
      message.change() == 0 ? "" : absl::StrCat("id: ", message.change(), "\n"),
      "data: ", *json, "\n"));
}

}  // namespace gradtap::server
