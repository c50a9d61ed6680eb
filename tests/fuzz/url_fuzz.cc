// What a browser or a script may put into a URL or a body: the parameters of a
// query, as fields of its request (server/http).

#include <google/protobuf/util/json_util.h>

#include "fuzz/fuzz.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/request_fields.h"
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

}  // namespace

void Try(std::string_view input) {
  server::UrlParameters parameters;
  server::AddParameters(input, &parameters);
  TryRequest<v1::GetSeriesRequest>(parameters);
  TryRequest<v1::GetSnapshotRequest>(parameters);
  TryRequest<v1::GetHeatMapRequest>(parameters);
  TryRequest<v1::ListRunsRequest>(parameters);
  v1::GetSeriesRequest request;
  static_cast<void>(google::protobuf::util::JsonStringToMessage(
      std::string(input), &request));
}

std::vector<std::string> Seeds() {
  return {"run=mnist&ranks=0&ranks=1&steps.first=100&statistics=grad.l2",
          "runs=a&match=%5Efc&max_points=2000&merged=true",
          "run=%00%ff%&&=&=x&a==b", "role=grad&role=ROLE_WEIGHT&top=10",
          "{\"runs\":[\"a\"],\"statistics\":[\"grad.l2\"],\"maxPoints\":7}"};
}

}  // namespace gradtap::fuzz
