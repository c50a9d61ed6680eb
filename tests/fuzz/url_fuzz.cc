// What a browser or a script may put into a URL or a body: the parameters of a
// query, as fields of its request; a time; the head of a request, and its
// headers (server/http).

#include <google/protobuf/util/json_util.h>
#include <httplib.h>

#include <algorithm>
#include <utility>

#include "fuzz/fuzz.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/prometheus_time.h"
#include "server/http/request_fields.h"
#include "server/http/request_guard.h"
#include "server/http/request_head.h"
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

using HeadState = server::RequestHead::State;

// Of a head that comes in pieces of so many bytes.
HeadState Read(std::string_view text, std::size_t piece,
               server::RequestHead* head) {
  HeadState state = HeadState::kMore;
  while (state == HeadState::kMore && !text.empty()) {
    state = head->Add(text.substr(0, piece));
    text.remove_prefix(std::min(piece, text.size()));
  }
  return state;
}

// What any reader takes for the same head, whatever it passes over.
void RequirePlain(std::string_view text) {
  Require(text.size() >= 4, "a head has a line and an end");
  std::size_t lengths = 0;
  bool first = true;
  for (;;) {
    const std::size_t end = text.find('\n');
    Require(end != std::string_view::npos && end > 0 && text[end - 1] == '\r',
            "a line ends with CR LF");
    const std::string line(text.substr(0, end - 1));
    text.remove_prefix(end + 1);
    Require(line.find_first_of(std::string("\r\0", 2)) == std::string::npos,
            "a line has no end within");
    if (!std::exchange(first, false)) {
      if (line.empty()) break;
      const std::size_t colon = line.find(':');
      Require(colon != std::string::npos, "a header has a name");
      Require(line.substr(0, colon).find_first_of(" \t") == std::string::npos,
              "a header's name has no space");
      const std::string name = "content-length";
      lengths += colon == name.size() &&
                 std::equal(name.begin(), name.end(), line.begin(),
                            [](char a, char b) { return a == (b | 0x20); });
    }
  }
  Require(lengths <= 1, "a request has one length");
}

void TryHead(std::string_view text) {
  server::RequestHead whole, slow;
  const HeadState state = Read(text, text.size(), &whole);
  const std::size_t piece = 1 + text.size() % 7;
  Require(Read(text, piece, &slow) == state, "pieces make no difference");
  if (state == HeadState::kRefused) {
    Require(whole.status() == slow.status(), "a head is refused in one way");
    Require(!whole.message().empty(), "an error says what");
  } else if (state == HeadState::kWhole) {
    const std::string head = slow.TakeText();
    Require(text.starts_with(head), "nothing is lost or added");
    Require(text.size() == head.size() || head.size() % piece == 0,
            "a head is taken when it is whole");
    RequirePlain(head);
  }
}

// Lines: the method, what it is for, headers; as the library hands them over.
void TryHeaders(std::string_view text) {
  const auto take_until = [&text](char end) {
    const std::size_t at = std::min(text.find(end), text.size());
    const std::string taken(text.substr(0, at));
    text.remove_prefix(std::min(at + 1, text.size()));
    return taken;
  };
  httplib::Request request;
  request.method = take_until(' ');
  request.target = take_until('\n');
  request.path = request.target.substr(0, request.target.find('?'));
  while (!text.empty()) {
    std::string name = take_until(':');
    request.headers.emplace(std::move(name), take_until('\n'));
  }
  const absl::Status status = server::CheckRequest(request, {"gradtap.lan"});
  Require(status.ok() || status.code() == absl::StatusCode::kInvalidArgument ||
              status.code() == absl::StatusCode::kPermissionDenied,
          "a request is let in, or it is said why not");
  Require(!status.ok() || request.get_header_value_count("Host") == 1,
          "a request has one host");
  static_cast<void>(server::HasType(request, "application/json"));
  server::OfferGzipAlone(&request);
  Require(request.get_header_value_count("Accept-Encoding") <= 1,
          "gzip is offered alone");
  static_cast<void>(server::ParametersOf(request));
}

}  // namespace

void Try(std::string_view input) {
  server::UrlParameters parameters;
  server::AddParameters(input, &parameters);
  TryRequest<v1::GetSeriesRequest>(parameters);
  TryRequest<v1::GetSnapshotRequest>(parameters);
  TryRequest<v1::GetHeatMapRequest>(parameters);
  TryRequest<v1::ListRunsRequest>(parameters);
  TryRequest<v1::ListParametersRequest>(parameters);
  TryRequest<v1::GetHistogramsRequest>(parameters);
  TryRequest<v1::WatchRequest>(parameters);
  TryHead(input);
  TryHeaders(input);
  TryOrigin(std::string(input));
  const auto time = server::ParsePrometheusTime(std::string(input));
  Require(
      time.ok() || time.status().code() == absl::StatusCode::kInvalidArgument,
      "a time is good or named");
  const auto step = server::ParsePrometheusStep(std::string(input));
  Require(step.ok()
              ? *step > 0
              : step.status().code() == absl::StatusCode::kInvalidArgument,
          "a step is above 0 or named");
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
          "GET /api/v1/ListRuns?state=running#x\nHost:localhost:7318\n"
          "Origin:http://localhost:7318\nAccept-Encoding:br, gzip\n",
          "POST /\nHost:[::1]\nContent-Length:0\n"
          "Content-Type: application/json; charset=utf-8\n"
          "Sec-Fetch-Site:cross-site\nSec-Fetch-Mode:navigate\n"
          "Sec-Fetch-Dest:iframe\n",
          "GET /\nHost:a\nHost:b\n",
          "PUT /\nHost:a\n",
          "GET /\nTransfer-Encoding:chunked\n",
          "GET /api/v1/ListRuns HTTP/1.1\r\nHost: localhost:7318\r\n"
          "Accept: */*\r\n\r\n",
          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
          "POST / HTTP/1.1\r\nContent-Length: 2abc\r\n\r\n{}",
          "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
          "GET /" + std::string(600, 'a'),
          "state=finished",
          "state=no",
          "tags=x",
          "kinds=buffer&kinds=KIND_PARAMETER",
          "role=grad_local",
          "after_ordinal=7",
          "after_ordinal=-7",
          "since_unix_ns=-1&until_unix_ns=x",
          "run=%ff",
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
