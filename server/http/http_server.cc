#include "server/http/http_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/sync.h"
#include "server/dashboard/embedded_page.h"
#include "server/http/http_api.h"
#include "server/http/http_connection.h"
#include "server/http/http_gate.h"
#include "server/http/http_threads.h"
#include "server/http/live_routes.h"
#include "server/http/metrics_page.h"
#include "server/http/prometheus_api.h"
#include "server/http/put_answer.h"
#include "server/http/request_parts.h"

namespace gradtap::server {
namespace {

// Why each: server/http/README.md, "Limits".
constexpr std::chrono::seconds kIdleThread{10};
// How long answers that are under way have at the end.
constexpr std::chrono::seconds kLastAnswers{2};

constexpr std::chrono::milliseconds kMetricsTime{500};

// Of CSV: what a spreadsheet would take for a formula gets an apostrophe.
constexpr char kSpreadsheet[] = "spreadsheet";

constexpr char kHealthPath[] = "/healthz";
constexpr char kReadyPath[] = "/readyz";
constexpr char kApiPath[] = "/api/v1/";
constexpr char kPrometheusPath[] = "/prometheus/api/v1/";
constexpr char kForm[] = "application/x-www-form-urlencoded";

constexpr char kReferrerHeader[] = "Referrer-Policy";
constexpr char kPolicyHeader[] = "Content-Security-Policy";
// The page has what it is made of from here, asks here, and writes no markup.
constexpr char kPagePolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src "
    "'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'";

void PutText(int status, const std::string& text, httplib::Response* response) {
  response->status = status;
  response->set_content(text + "\n", "text/plain; charset=utf-8");
}

// The library with connections of our own.
class Library final : public httplib::Server {
 public:
  Library(HttpConnections* connections, Certificates* certificates)
      : connections_(connections), certificates_(certificates) {}

 private:
  bool process_and_close_socket(socket_t socket) override {
    HttpConnection connection(
        socket, connections_,
        certificates_ == nullptr ? nullptr : certificates_->Current()->context);
    if (!connection.Begin() || !connection.Handshake()) return false;
    bool closed = false;
    // Newer versions of the library are told the addresses.
    const auto process = [&](auto& stream) {
      constexpr bool kLast = true;
      if constexpr (requires {
                      process_request(stream, kLast, closed, nullptr);
                    }) {
        return process_request(stream, kLast, closed, nullptr);
      } else {
        std::string remote, local;
        int remote_port = 0, local_port = 0;
        stream.get_remote_ip_and_port(remote, remote_port);
        stream.get_local_ip_and_port(local, local_port);
        return process_request(stream, remote, remote_port, local, local_port,
                               kLast, closed, nullptr);
      }
    };
    try {
      return connection.ReadHead() && process(connection);
    } catch (const std::exception&) {  // Out of memory, most likely.
      return false;
    }
  }

  HttpConnections* const connections_;
  Certificates* const certificates_;  // Null: in the clear.
};

int ListenOnce(int socket) {
  const int on = 1;
  return ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpOptions options, QueryBackend* backend)
      : options_(std::move(options)),
        backend_(backend),
        gate_(options_.gate, options_.certificates != nullptr,
              options_.open_metrics),
        api_(backend, options_.gate),
        prometheus_(backend),
        live_(backend, &gate_, options_.max_live_streams, options_.heartbeat),
        connections_(options_.connections, backend->environment().guards),
        server_(&connections_, options_.certificates) {
    backend->CountWatches([this] { return live_.open(); });
  }
  ~Impl() { Shutdown(); }

  absl::Status Start() {
    Configure();
    AddRoutes();
    const ListenAddress& listen = options_.listen;
    int port = listen.port;
    if (port == 0) {
      port = server_.bind_to_any_port(listen.host);
    } else if (!server_.bind_to_port(listen.host, port)) {
      port = -1;
    }
    if (port <= 0) {
      return absl::UnavailableError(absl::StrCat(
          "cannot listen on ", listen.ToString(), ": ", WhyNotListening(listen),
          "; stop what uses it, or choose another with --http-listen (port 0: "
          "a free one, off: none)"));
    }
    options_.listen.port = static_cast<std::uint16_t>(port);
    thread_ = std::thread([this] {
      server_.listen_after_bind();
      ended_ = true;
    });
    return absl::OkStatus();
  }

  void BeginShutdown() {
    stopping_ = true;
    live_.Stop();
  }

  void Shutdown() {
    BeginShutdown();
    if (!thread_.joinable()) return;
    connections_.AwaitNone(std::chrono::steady_clock::now() + kLastAnswers);
    // stop() is lost on a server that does not run yet.
    while (!server_.is_running() && !ended_) std::this_thread::yield();
    server_.stop();
    connections_.EndAll();
    thread_.join();
  }

  const ListenAddress& address() const { return options_.listen; }

 private:
  void Configure() {
    server_.new_task_queue = [this] {
      return new HttpThreads(options_.max_threads, kIdleThread);
    };
    server_.set_socket_options(ListenOnce);
    server_.set_tcp_nodelay(true);
    server_.set_payload_max_length(kMaxFormBytes);
    server_.set_default_headers({
        {"Cache-Control", "no-store"},
        {kPolicyHeader, "default-src 'none'; frame-ancestors 'none'"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"X-Content-Type-Options", "nosniff"},
        {kReferrerHeader, "no-referrer"},
    });
    server_.set_post_routing_handler(
        [](const httplib::Request&, httplib::Response&) {
          HttpConnection* const connection = HttpConnection::Current();
          if (connection != nullptr) connection->EndRequest();
        });
  }

  void AddRoutes() {
    using httplib::Request;
    using httplib::Response;
    server_.set_pre_routing_handler([this](const Request& in, Response& out) {
      // Or the library cuts answers into the parts that are asked for, as many
      // as a header can hold.
      Own(in).ranges.clear();
      OfferGzipAlone(&Own(in));
      absl::Status status = CheckRequest(in, options_.names);
      if (status.ok()) {
        status = gate_.Admit(in);
        if (status.ok() && BodyBytes(in) > MostBodyBytes(in)) {
          PutTooLong(in, &out);
          return httplib::Server::HandlerResponse::Handled;
        }
        if (status.ok()) return WithinRate(in, &out);
        if (in.path == "/") {
          PutSignIn(status, in, &out);
          return httplib::Server::HandlerResponse::Handled;
        }
      }
      Put(ToHttpAnswer(status), in, &out);
      return httplib::Server::HandlerResponse::Handled;
    });
    server_.set_exception_handler([](const Request& in, Response& out,
                                     std::exception_ptr) {
      Put(ToHttpAnswer(absl::InternalError("the request failed")), in, &out);
    });
    server_.set_error_handler([this](const Request& in, Response& out) {
      if (!out.body.empty()) return;
      if (out.status == 413) return PutTooLong(in, &out);
      Put(LibraryRefusal(out.status, in.path), in, &out);
    });
    AddPage();
    server_.Get(kHealthPath, [](const Request&, Response& out) {
      PutText(200, "ok", &out);
    });
    server_.Get(kReadyPath, [this](const Request&, Response& out) {
      if (stopping_) return PutText(503, "shutting down", &out);
      PutText(200, "ok", &out);
    });
    server_.Get("/metrics", [this](const Request& in, Response& out) {
      Put(Metrics(), in, &out);
    });
    server_.Get(
        std::string(kApiPath) + "Watch",
        [this](const Request& in, Response& out) { live_.Watch(in, &out); });
    server_.Get(std::string(kApiPath) + "WatchAlerts",
                [this](const Request& in, Response& out) {
                  live_.WatchAlerts(in, &out);
                });
    server_.Get("/csv/([A-Za-z]+)", [this](const Request& in, Response& out) {
      ServeCsv(in, &out);
    });
    const std::string methods = std::string(kApiPath) + "([A-Za-z]+)";
    server_.Get(methods, [this](const Request& in, Response& out) {
      Put(Serve(in, false), in, &out);
    });
    server_.Post(methods, [this](const Request& in, Response& out) {
      Put(Serve(in, true), in, &out);
    });
    AddPrometheusRoutes();
  }

  const Guards& guards() const { return backend_->environment().guards; }

  static std::size_t MostBodyBytes(const httplib::Request& in) {
    return absl::StartsWith(in.path, kPrometheusPath) ? kMaxFormBytes
                                                      : kMaxJsonBytes;
  }

  void PutTooLong(const httplib::Request& in, httplib::Response* out) {
    guards().Refused(Limit::kRequestBytes);
    HttpAnswer answer = ToHttpAnswer(absl::InvalidArgumentError(
        absl::StrCat("the body is longer than ", MostBodyBytes(in), " bytes")));
    answer.status = 413;
    Put(std::move(answer), in, out);
  }

  // Of the request that this thread serves.
  static std::string Peer() {
    const HttpConnection* const connection = HttpConnection::Current();
    return connection == nullptr ? "" : connection->peer();
  }

  // Whether its client has gone: for others, while this thread waits for them.
  static Cancelled Gone() {
    const HttpConnection* const connection = HttpConnection::Current();
    return
        [connection] { return connection != nullptr && connection->HasGone(); };
  }

  // Whether the collector is well everybody may ask as often as they like.
  httplib::Server::HandlerResponse WithinRate(const httplib::Request& in,
                                              httplib::Response* out) {
    using Response = httplib::Server::HandlerResponse;
    if (in.path == kHealthPath || in.path == kReadyPath) {
      return Response::Unhandled;
    }
    const absl::StatusOr<Caller> caller = gate_.CallerOf(in);
    std::chrono::nanoseconds wait{0};
    const absl::Status status =
        TakeRequest(guards(), caller.ok() ? *caller : Caller::Anybody(), Peer(),
                    false, &wait);
    if (status.ok()) return Response::Unhandled;
    HttpAnswer answer = ToHttpAnswer(status);
    answer.retry_after_s = RetryAfterSeconds(wait);
    Put(std::move(answer), in, out);
    return Response::Handled;
  }

  // A form longer than 8 KiB is refused by the library, unless the handler
  // reads the body itself.
  void AddPrometheusRoutes() {
    // Not "/:" in it, which newer versions of the library take for a parameter.
    const std::string path =
        std::string(kPrometheusPath) + "([A-Za-z0-9_:./-]+)";
    server_.Get(path,
                [this](const httplib::Request& in, httplib::Response& out) {
                  Put(ServePrometheus(in, ParametersOf(in)), in, &out);
                });
    server_.Post(
        path, [this](const httplib::Request& in, httplib::Response& out,
                     const httplib::ContentReader& read) {
          std::string form;
          read([&form](const char* data, std::size_t size) {
            form.append(data, size);
            return form.size() <= kMaxFormBytes;
          });
          if (!form.empty() && !HasType(in, kForm)) {
            HttpAnswer answer = ToHttpAnswer(absl::InvalidArgumentError(
                absl::StrCat("a POST takes a form: Content-Type: ", kForm)));
            answer.status = 415;
            return Put(std::move(answer), in, &out);
          }
          const absl::Status status = CheckParameters(form);
          if (!status.ok()) return Put(ToHttpAnswer(status), in, &out);
          UrlParameters parameters = ParametersOf(in);
          AddParameters(form, &parameters);
          Put(ServePrometheus(in, std::move(parameters)), in, &out);
        });
  }

  HttpAnswer ServePrometheus(const httplib::Request& in,
                             UrlParameters parameters) {
    const absl::StatusOr<Caller> caller = gate_.CallerOf(in);
    if (!caller.ok()) return ToHttpAnswer(caller.status());
    return prometheus_.Serve({in.matches[1], std::move(parameters),
                              ClientName(*caller, Peer()), Gone()});
  }

  void PutSignIn(const absl::Status& why, const httplib::Request& in,
                 httplib::Response* out) {
    out->headers.erase(kPolicyHeader);
    out->set_header(kPolicyHeader, kSignInPolicy);
    // Or the browser does not say whose form it is.
    out->headers.erase(kReferrerHeader);
    out->set_header(kReferrerHeader, "same-origin");
    Put(SignInForm(why), in, out);
  }

  // The form posts to where it was shown, and comes back there.
  void SignIn(const httplib::Request& in, httplib::Response* out) {
    UrlParameters form;
    if (HasType(in, kForm) && CheckParameters(in.body).ok()) {
      AddParameters(in.body, &form);
    }
    const auto token = form.find("token");
    const absl::StatusOr<std::string> cookie =
        gate_.SignIn(token == form.end() ? "" : token->second);
    if (!cookie.ok()) return PutSignIn(cookie.status(), in, out);
    out->status = 303;
    out->set_header("Location", in.target);
    out->set_header("Set-Cookie", *cookie);
  }

  void AddPage() {
    if (options_.gate->asks()) {
      server_.Post("/", [this](const httplib::Request& in,
                               httplib::Response& out) { SignIn(in, &out); });
    }
    for (const PageFile& file : EmbeddedPage()) {
      server_.Get(absl::StrReplaceAll(std::string(file.path), {{".", "\\."}}),
                  [&file](const httplib::Request& in, httplib::Response& out) {
                    HttpAnswer answer;
                    answer.content_type = std::string(file.content_type);
                    answer.body = std::string(file.bytes);
                    // The library would send both.
                    out.headers.erase(kPolicyHeader);
                    out.set_header(kPolicyHeader, kPagePolicy);
                    Put(std::move(answer), in, &out);
                  });
    }
  }

  // One scrape at a time; what is as good as new serves the next one, too.
  HttpAnswer Metrics() {
    const MutexLock lock(metrics_mu_);
    const auto now = std::chrono::steady_clock::now();
    if (now - metrics_made_ > kMetricsTime) {
      metrics_ = MakeMetrics();
      metrics_made_ = now;
    }
    return metrics_;
  }

  HttpAnswer MakeMetrics() {
    HttpAnswer answer;
    answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    const absl::Status status = backend_->Run(
        "Metrics", /*client=*/"metrics", [] { return false; },
        [&](const Cancelled& cancelled) {
          absl::StatusOr<std::string> page = MetricsPage(
              backend_, options_.metrics, MetricsLimits(), cancelled);
          if (page.ok()) answer.body = *std::move(page);
          return page.status();
        });
    return status.ok() ? answer : ToHttpAnswer(status);
  }

  HttpAnswer Serve(const httplib::Request& in, bool post) {
    // Nor may a form of another site, which asks nobody before it is sent.
    if (post && !HasType(in, "application/json")) {
      HttpAnswer answer = ToHttpAnswer(absl::InvalidArgumentError(
          "a POST takes JSON: Content-Type: application/json"));
      answer.status = 415;
      return answer;
    }
    absl::StatusOr<Caller> caller = gate_.CallerOf(in);
    if (!caller.ok()) return ToHttpAnswer(caller.status());
    ApiCall call;
    call.client = ClientName(*caller, Peer());
    call.gone = Gone();
    call.caller = *std::move(caller);
    call.method = in.matches[1];
    call.post = post;
    call.parameters = ParametersOf(in);
    call.body = in.body;
    if (absl::StrContains(in.get_header_value("Accept"),
                          "application/x-protobuf")) {
      call.form = AnswerForm::kProtobuf;
    }
    return api_.Serve(call);
  }

  void ServeCsv(const httplib::Request& in, httplib::Response* out) {
    absl::StatusOr<Caller> caller = gate_.CallerOf(in);
    if (!caller.ok()) return Put(ToHttpAnswer(caller.status()), in, out);
    ApiCall call;
    call.client = ClientName(*caller, Peer());
    call.gone = Gone();
    call.caller = *std::move(caller);
    call.method = in.matches[1];
    call.form = AnswerForm::kCsv;
    call.parameters = ParametersOf(in);
    const auto guard = call.parameters.find(kSpreadsheet);
    if (guard != call.parameters.end()) {
      if (!absl::SimpleAtob(guard->second, &call.csv.spreadsheet)) {
        return Put(ToHttpAnswer(absl::InvalidArgumentError(
                       "spreadsheet is true or false")),
                   in, out);
      }
      call.parameters.erase(kSpreadsheet);
    }
    Put(api_.Serve(call), in, out);
  }

  HttpOptions options_;
  QueryBackend* const backend_;
  const HttpGate gate_;
  const HttpApi api_;
  const PrometheusApi prometheus_;
  LiveRoutes live_;
  Mutex metrics_mu_;
  HttpAnswer metrics_ ABSL_GUARDED_BY(metrics_mu_);
  std::chrono::steady_clock::time_point metrics_made_
      ABSL_GUARDED_BY(metrics_mu_);
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};  // It listens no more.
  HttpConnections connections_;
  Library server_;
  std::thread thread_;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    HttpOptions options, QueryBackend* backend) {
  auto impl = std::make_unique<Impl>(std::move(options), backend);
  absl::Status status = impl->Start();
  if (!status.ok()) return status;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

void HttpServer::BeginShutdown() { impl_->BeginShutdown(); }
void HttpServer::Shutdown() { impl_->Shutdown(); }
const ListenAddress& HttpServer::address() const { return impl_->address(); }

}  // namespace gradtap::server
