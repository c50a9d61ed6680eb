#include "server/http/http_api.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/names.h"
#include "gradtap/v1/query.pb.h"
#include "proto/text/answer_csv.h"
#include "proto/text/json_mapping.h"
#include "proto/text/json_writer.h"
#include "server/http/answer_text.h"
#include "server/http/query_wait.h"
#include "server/service/query_methods.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

constexpr char kJson[] = "application/json";
constexpr char kProtobuf[] = "application/x-protobuf";
constexpr char kCsv[] = "text/csv; charset=utf-8; header=present";

struct Code {
  absl::StatusCode code;
  const char* name;
  int http;
};

constexpr std::array<Code, 13> kCodes = {{
    {absl::StatusCode::kInvalidArgument, "INVALID_ARGUMENT", 400},
    {absl::StatusCode::kOutOfRange, "OUT_OF_RANGE", 400},
    {absl::StatusCode::kUnauthenticated, "UNAUTHENTICATED", 401},
    {absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED", 403},
    {absl::StatusCode::kNotFound, "NOT_FOUND", 404},
    {absl::StatusCode::kUnimplemented, "UNIMPLEMENTED", 405},
    {absl::StatusCode::kAlreadyExists, "ALREADY_EXISTS", 409},
    {absl::StatusCode::kFailedPrecondition, "FAILED_PRECONDITION", 409},
    {absl::StatusCode::kResourceExhausted, "RESOURCE_EXHAUSTED", 429},
    {absl::StatusCode::kCancelled, "CANCELLED", 499},
    {absl::StatusCode::kUnavailable, "UNAVAILABLE", 503},
    {absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED", 504},
    {absl::StatusCode::kDataLoss, "DATA_LOSS", 500},
}};

// Text that has been escaped for terminals as a JSON string.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

template <typename Message>
constexpr bool kHasCsv = std::is_same_v<Message, v1::GetSeriesResponse> ||
                         std::is_same_v<Message, v1::GetSnapshotResponse>;

template <typename Message>
absl::Status Write(const Message& message, const ApiCall& call,
                   HttpAnswer* answer) {
  if (call.form == AnswerForm::kProtobuf) {
    const std::size_t bytes = message.ByteSizeLong();
    if (bytes > kSmallAnswer) {
      absl::Status room = answer->held->Grow(bytes);
      if (!room.ok()) return room;
    }
    answer->content_type = kProtobuf;
    answer->body = message.SerializeAsString();
    return absl::OkStatus();
  }
  AnswerText text(answer);
  if constexpr (kHasCsv<Message>) {
    if (call.form == AnswerForm::kCsv) {
      answer->content_type = kCsv;
      WriteCsv(message, call.csv,
               [&text](const std::string& row) { return text.Add(row); });
      return text.Finish();
    }
  }
  answer->content_type = kJson;
  WriteJson(message,
            [&text](std::string_view piece) { return text.Add(piece); });
  return text.Finish();
}

// By the backend.
template <typename Request, typename Response>
absl::Status Make(QueryBackend* backend, const ApiCall& call,
                  const Request& request, const Cancelled& cancelled,
                  Response* response, HttpAnswer* answer) {
  const MakingAnswer making(answer->held.get());
  absl::Status status = Answer(backend, request, cancelled, response);
  if (status.ok()) {
    KeepOwn(call.caller, response);
  } else {
    status = WithOwnRuns(call.caller, *backend->environment().store, status);
  }
  // As a message it takes half as much again as its bytes.
  AnswerWork message;
  if (status.ok()) status = message.Reach(response->ByteSizeLong() * 3 / 2);
  if (status.ok()) status = Write(*response, call, answer);
  return IsForWantOfRoom(status) ? absl::UnavailableError(status.message())
                                 : status;
}

template <typename Request, typename Response>
absl::Status Serve(const char* method, QueryBackend* backend, Gate* gate,
                   const ApiCall& call, HttpAnswer* answer) {
  google::protobuf::Arena arena;
  auto* request = google::protobuf::Arena::CreateMessage<Request>(&arena);
  absl::Status status = SetFields(call.parameters, request);
  if (status.ok() && !call.body.empty()) status = FromJson(call.body, request);
  if (status.ok()) status = CheckRuns(gate, call.caller, *request);
  if (!status.ok()) return status;
  answer->held = std::make_shared<HeldAnswer>(
      backend->environment().guards.answers, call.client);
  return backend->Run(
      method, call.client, LookForClient(call.gone),
      [&](const Cancelled& cancelled) {
        auto* response =
            google::protobuf::Arena::CreateMessage<Response>(&arena);
        // With its text, so that no more are written at a time than are made.
        return Make(backend, call, *request, cancelled, response, answer);
      });
}

struct ApiMethod {
  const char* name;
  bool changes;
  bool has_csv;
  absl::Status (*serve)(const char* method, QueryBackend* backend, Gate* gate,
                        const ApiCall& call, HttpAnswer* answer);
};

template <typename Request, typename Response>
constexpr ApiMethod Reads(const char* name) {
  return {name, false, kHasCsv<Response>, &Serve<Request, Response>};
}
template <typename Request, typename Response>
constexpr ApiMethod Changes(const char* name) {
  return {name, true, false, &Serve<Request, Response>};
}

constexpr std::array<ApiMethod, 17> kMethods = {
    Reads<v1::ListRunsRequest, v1::ListRunsResponse>("ListRuns"),
    Reads<v1::GetRunRequest, v1::GetRunResponse>("GetRun"),
    Reads<v1::ListParametersRequest, v1::ListParametersResponse>(
        "ListParameters"),
    Reads<v1::GetSeriesRequest, v1::GetSeriesResponse>("GetSeries"),
    Reads<v1::GetSnapshotRequest, v1::GetSnapshotResponse>("GetSnapshot"),
    Reads<v1::GetHeatMapRequest, v1::GetHeatMapResponse>("GetHeatMap"),
    Reads<v1::GetHistogramsRequest, v1::GetHistogramsResponse>("GetHistograms"),
    Reads<v1::GetTopRequest, v1::GetTopResponse>("GetTop"),
    Reads<v1::CompareRunsRequest, v1::CompareRunsResponse>("CompareRuns"),
    Reads<v1::ListGapsRequest, v1::ListGapsResponse>("ListGaps"),
    Changes<v1::DeleteRunRequest, v1::DeleteRunResponse>("DeleteRun"),
    Changes<v1::PinRunRequest, v1::PinRunResponse>("PinRun"),
    Reads<v1::GetStatusRequest, v1::GetStatusResponse>("GetStatus"),
    Reads<v1::ListAlertsRequest, v1::ListAlertsResponse>("ListAlerts"),
    Reads<v1::GetHealthRequest, v1::GetHealthResponse>("GetHealth"),
    Reads<v1::GetFirstBadRequest, v1::GetFirstBadResponse>("GetFirstBad"),
    Reads<v1::TestRulesRequest, v1::TestRulesResponse>("TestRules"),
};

absl::Status ServeCall(QueryBackend* backend, Gate* gate, const ApiCall& call,
                       HttpAnswer* answer) {
  const auto* method = std::find_if(
      kMethods.begin(), kMethods.end(),
      [&call](const ApiMethod& known) { return call.method == known.name; });
  if (method == kMethods.end()) {
    return absl::NotFoundError(
        absl::StrCat("no method '", EscapeForTerminal(call.method),
                     "'; there are ", absl::StrJoin(HttpApi::Methods(), ", ")));
  }
  if (call.form == AnswerForm::kCsv && !method->has_csv) {
    return absl::NotFoundError(
        absl::StrCat(method->name,
                     " has no CSV: there is that of GetSeries and GetSnapshot; "
                     "/api/v1/",
                     method->name, " has JSON"));
  }
  if (method->changes && !call.post) {
    answer->allow = "POST";
    return absl::UnimplementedError(
        absl::StrCat(method->name, " changes what is stored: POST it"));
  }
  if (call.post && !call.parameters.empty()) {
    return absl::InvalidArgumentError(
        "a POST has its request in the body, as JSON, and nothing in the URL");
  }
  return method->serve(method->name, backend, gate, call, answer);
}

}  // namespace

HttpAnswer ToHttpAnswer(const absl::Status& status) {
  Code code = {status.code(), "INTERNAL", 500};
  for (const Code& known : kCodes) {
    if (known.code == status.code()) code = known;
  }
  HttpAnswer answer;
  answer.status = code.http;
  answer.content_type = kJson;
  answer.body = absl::StrCat(
      "{\"code\":\"", code.name, "\",\"message\":",
      Quoted(EscapeForTerminal(std::string(status.message()))), "}\n");
  if (code.http == 503) answer.retry_after_s = 1;
  return answer;
}

HttpAnswer LibraryRefusal(int status, const std::string& path_untrusted) {
  std::string text;
  switch (status) {
    case 404:
      text = absl::StrCat("nothing is at '",
                          EscapeForTerminal(path_untrusted.substr(0, 100)),
                          "'; /api/v1/METHOD has the queries");
      break;
    default:
      text = "the request is not one that this server understands";
  }
  HttpAnswer answer =
      ToHttpAnswer(status == 404 ? absl::NotFoundError(text)
                                 : absl::InvalidArgumentError(text));
  answer.status = status;
  return answer;
}

HttpAnswer HttpApi::Serve(const ApiCall& call) const {
  HttpAnswer answer;
  const absl::Status status = ServeCall(backend_, gate_, call, &answer);
  if (status.ok()) return answer;
  HttpAnswer refused = ToHttpAnswer(status);
  refused.allow = answer.allow;
  return refused;
}

std::vector<std::string> HttpApi::Methods() {
  std::vector<std::string> names;
  for (const ApiMethod& method : kMethods) names.emplace_back(method.name);
  return names;
}

}  // namespace gradtap::server
