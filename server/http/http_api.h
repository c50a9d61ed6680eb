// The queries as JSON: what stands behind /api/v1/METHOD.
//
// Layer: server/http. This file: std, absl, service's backend; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_HTTP_API_H_
#define GRADTAP_SERVER_HTTP_HTTP_API_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/csv.h"
#include "server/auth/gate.h"
#include "server/http/request_fields.h"
#include "server/limits/answer_room.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

struct HttpAnswer {
  int status = 200;
  std::string content_type;
  std::string body;
  // Not empty: the body, which is too large for one.
  std::deque<std::string> pieces;
  std::shared_ptr<HeldAnswer> held;  // What it takes; null: that is not known.
  std::string allow;                 // The method that is; empty: not said.
  int retry_after_s = 0;             // 0: not said.
};

// What a status is in HTTP, with a body that says it in JSON:
// {"code":"NOT_FOUND","message":"..."}.
HttpAnswer ToHttpAnswer(const absl::Status& status);

// What the HTTP library refused by itself, without a word: with that status, of
// HTTP, a request for `path_untrusted`.
HttpAnswer LibraryRefusal(int status, const std::string& path_untrusted);

enum class AnswerForm {
  kJson,
  kProtobuf,  // The message's own bytes.
  kCsv,       // Of GetSeries and GetSnapshot.
};

struct ApiCall {
  std::string method;  // "GetSeries".
  bool post = false;
  UrlParameters parameters;
  std::string body;  // Of a POST: the request as JSON; empty is {}.
  AnswerForm form = AnswerForm::kJson;
  CsvOptions csv;
  Caller caller = Caller::Anybody();
  // Who shares the room for answers, and the places of queries that wait.
  std::string client;
  // Whether whoever asks has gone; asked by the backend's threads. Empty: that
  // is not known.
  Cancelled gone;
};

// Thread-safe.
class HttpApi {
 public:
  // Both must outlive it. `gate`: which runs a caller may read.
  explicit HttpApi(QueryBackend* backend, Gate* gate = Gate::Open())
      : backend_(backend), gate_(gate) {}

  // Runs on the backend, and waits. A GET takes its request from the URL's
  // parameters, a POST from its body; what changes something is POST alone.
  HttpAnswer Serve(const ApiCall& call) const;

  static std::vector<std::string> Methods();

 private:
  QueryBackend* const backend_;
  Gate* const gate_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_API_H_
