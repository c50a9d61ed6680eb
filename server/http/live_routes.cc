#include "server/http/live_routes.h"

#include <httplib.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gradtap/v1/alert.pb.h"
#include "gradtap/v1/query.pb.h"
#include "server/health/health_watch.h"
#include "server/http/alert_stream.h"
#include "server/http/http_api.h"
#include "server/http/http_connection.h"
#include "server/http/put_answer.h"
#include "server/http/request_parts.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// How often a live stream without an event looks whether its reader is there.
constexpr std::chrono::milliseconds kLookForReader{500};
// Until then a stream that cannot be opened is answered with its status.
constexpr std::chrono::seconds kFirstEvent{10};

// What a browser that was cut off has seen last.
std::optional<std::uint64_t> LastSeen(const httplib::Request& in) {
  std::uint64_t seen = 0;
  if (!absl::SimpleAtoi(in.get_header_value("Last-Event-ID"), &seen)) {
    return std::nullopt;
  }
  return seen;
}

// Whose the request is that this thread serves.
std::string ClientOfThis(const Caller& caller) {
  const HttpConnection* const connection = HttpConnection::Current();
  return ClientName(caller, connection == nullptr ? "" : connection->peer());
}

void Renew() {
  if (HttpConnection* const connection = HttpConnection::Current()) {
    connection->RenewAnswer();
  }
}

// What this thread sends.
void GoesOnWhile(std::function<bool()> may) {
  if (HttpConnection* const connection = HttpConnection::Current()) {
    connection->GoesOnWhile(std::move(may));
  }
}

}  // namespace

LiveRoutes::LiveRoutes(QueryBackend* backend, const HttpGate* gate,
                       std::uint32_t max_streams,
                       std::chrono::milliseconds heartbeat)
    : backend_(backend),
      gate_(gate),
      heartbeat_(heartbeat),
      places_("live streams", max_streams, max_streams - max_streams / 4),
      hub_(backend, &places_) {}

void LiveRoutes::Stop() {
  stopping_ = true;
  hub_.Stop();
  if (backend_->health() != nullptr) backend_->health()->log().Wake();
}

// Fills *request; who asks, if they may.
template <typename Request>
absl::StatusOr<Caller> LiveRoutes::MayWatch(const httplib::Request& in,
                                            Request* request) {
  absl::Status status = SetFields(ParametersOf(in), request);
  if (!status.ok()) return status;
  absl::StatusOr<Caller> caller = gate_->CallerOf(in);
  if (!caller.ok()) return caller;
  status = CheckRuns(gate_->gate(), *caller, *request);
  if (!status.ok()) return status;
  return caller;
}

void LiveRoutes::Watch(const httplib::Request& in, httplib::Response* out) {
  v1::WatchRequest request;
  absl::StatusOr<Caller> caller = MayWatch(in, &request);
  if (const auto seen = LastSeen(in)) request.set_after_ordinal(*seen);
  if (!caller.ok()) return Put(ToHttpAnswer(caller.status()), in, out);
  PutStream(hub_.Open(request, ClientOfThis(*caller), kFirstEvent),
            *std::move(caller), in, out);
}

void LiveRoutes::WatchAlerts(const httplib::Request& in,
                             httplib::Response* out) {
  v1::WatchAlertsRequest request;
  absl::StatusOr<Caller> caller = MayWatch(in, &request);
  if (const auto seen = LastSeen(in)) request.set_after_change(*seen);
  if (!caller.ok()) return Put(ToHttpAnswer(caller.status()), in, out);
  PutStream(AlertStream::Open(backend_, &places_, &stopping_, request,
                              ClientOfThis(*caller)),
            *std::move(caller), in, out);
}

void LiveRoutes::PutStream(absl::StatusOr<std::shared_ptr<LiveStream>> stream,
                           Caller caller, const httplib::Request& in,
                           httplib::Response* out) {
  if (!stream.ok()) {
    HttpAnswer answer = ToHttpAnswer(
        WithOwnRuns(caller, *backend_->environment().store, stream.status()));
    if (absl::IsResourceExhausted(stream.status())) {
      backend_->environment().guards.Refused(Limit::kLiveStreams);
      answer.status = 503;
      answer.retry_after_s = kRetrySeconds;
    }
    return Put(std::move(answer), in, out);
  }
  Renew();
  GoesOnWhile(
      [gate = gate_->gate(), caller] { return gate->Recheck(caller).ok(); });
  out->set_chunked_content_provider(
      "text/event-stream",
      [this, stream = *std::move(stream), caller = std::move(caller)](
          std::size_t, httplib::DataSink& sink) {
        return SendNext(stream.get(), caller, &sink);
      });
}

// What comes within a heartbeat; null: nothing has. A page that is left gives
// its stream back within kLookForReader.
absl::StatusOr<LiveStream::Text> LiveRoutes::NextOf(
    LiveStream* stream, const Caller& caller) const {
  const auto until = std::chrono::steady_clock::now() + heartbeat_;
  for (;;) {
    const absl::Status may = gate_->gate()->Recheck(caller);
    if (!may.ok()) return may;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    absl::StatusOr<LiveStream::Text> text =
        stream->Next(std::min(left, kLookForReader));
    if (!text.ok() || *text != nullptr || left <= kLookForReader) return text;
    const HttpConnection* const connection = HttpConnection::Current();
    if (connection != nullptr && connection->HasGone()) {
      return absl::CancelledError("the reader has gone");
    }
  }
}

// False: the connection is done for.
bool LiveRoutes::SendNext(LiveStream* stream, const Caller& caller,
                          httplib::DataSink* sink) const {
  const absl::StatusOr<LiveStream::Text> text = NextOf(stream, caller);
  if (absl::IsCancelled(text.status())) return false;
  Renew();
  if (!text.ok()) {
    GoesOnWhile(nullptr);  // Who may have no more is told so.
    const std::string last = absl::StrCat(
        "event: error\ndata: ", ToHttpAnswer(text.status()).body, "\n");
    sink->write(last.data(), last.size());
    sink->done();
    return true;
  }
  static constexpr std::string_view kStillHere = ":\n\n";
  const std::string_view bytes =
      *text == nullptr ? kStillHere : std::string_view(**text);
  return sink->write(bytes.data(), bytes.size());
}

}  // namespace gradtap::server
