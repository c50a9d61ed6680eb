// What a browser or a script may put into a URL or a body: the parameters of a
// query, as fields of its request; a time; headers (server/http).

#include <google/protobuf/util/json_util.h>

#include "fuzz/fuzz.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/prometheus_time.h"
#include "server/http/request_fields.h"
#include "server/http/request_guard.h"
#include "server/http/request_parts.h"

namespace gradtap::fuzz {
namespace {

template <typename Request>
void TryRequest(const server::UrlParameters& parameters) {
  Request request;
  const absl::Status status = server::SetFields(parameters, &request);
  Require(status.ok() || status.code() == absl::StatusCode::kInvalidArgument,
          "a parameter is good or named");
  if (!status.ok()) {
    Require(!status.message().empty(), "an error says what");
    return;
  }
  std::string json;
  Require(google::protobuf::util::MessageToJsonString(request, &json).ok(),
          "a request that was accepted is text");
}

// The text is the host, the origin, or both.
void TryOrigin(const std::string& text) {
  for (const char* origin : {"", "http://localhost:7318"}) {
    server::RequestOrigin request;
    request.host = text;
    if (*origin != '\0') request.origin = origin;
    const absl::Status status = server::CheckOrigin(request, {"gradtap.lan"});
    Require(status.ok() || status.code() == absl::StatusCode::kPermissionDenied,
            "a host is known or not");
    Require(!status.ok() || *origin == '\0' || text == "localhost:7318",
            "a page of another site is refused");
  }
}

}  // namespace

void Try(std::string_view input) {
  server::UrlParameters parameters;
  server::AddParameters(input, &parameters);
  TryRequest<v1::GetSeriesRequest>(parameters);
  TryRequest<v1::GetSnapshotRequest>(parameters);
  TryRequest<v1::GetHeatMapRequest>(parameters);
  TryRequest<v1::ListRunsRequest>(parameters);
  TryOrigin(std::string(input));
  const auto time = server::ParsePrometheusTime(std::string(input));
  Require(
      time.ok() || time.status().code() == absl::StatusCode::kInvalidArgument,
      "a time is good or named");
  constexpr std::int64_t kFar = 9'000'000'000'000'000;
  Require(!time.ok() || (*time > -kFar - 1 && *time < kFar + 1),
          "two times have a distance");
  v1::GetSeriesRequest request;
  static_cast<void>(google::protobuf::util::JsonStringToMessage(
      std::string(input), &request));
}

std::vector<std::string> Seeds() {
  return {"run=mnist&ranks=0&ranks=1&steps.first=100&statistics=grad.l2",
          "runs=a&match=%5Efc&max_points=2000&merged=true",
          "run=%00%ff%&&=&=x&a==b",
          "runs=a&runs=b&run=c&run=d",
          "merged=maybe&steps.last=-1&max_points=99999999999",
          "histogram.bins=1&steps=7&page_token=x",
          "top=0.5&alpha=1e999",
          "[::1]:7318",
          "127.0.0.1",
          "gradtap.lan:80",
          "a.localhost",
          "1700000000.25",
          "2023-11-14T23:13:20.5+01:00",
          "290000000-01-01T00:00:00Z",
          "role=grad&role=ROLE_WEIGHT&top=10",
          "{\"runs\":[\"a\"],\"statistics\":[\"grad.l2\"],\"maxPoints\":7}"};
}

}  // namespace gradtap::fuzz
