#include "server/http/http_gate.h"

#include <httplib.h>

#include <array>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kApi = "/api/v1/";
constexpr std::string_view kCsv = "/csv/";

constexpr std::string_view kMetrics = "/metrics";

struct PathRight {
  std::string_view path;
  bool prefix;  // And all below it.
  Right right;
  bool of_all_runs;
};

// What is not here, nor a method, wants what most do.
constexpr std::array<PathRight, 6> kPaths = {{
    {"/healthz", false, Right::kNone, false},
    {"/readyz", false, Right::kNone, false},
    // Of the page; they know of no run.
    {"/page.js", false, Right::kNone, false},
    {"/page.css", false, Right::kNone, false},
    {kMetrics, false, Right::kRead, true},
    {"/prometheus/", true, Right::kRead, true},
}};

// "ListRuns" of /api/v1/ListRuns and /csv/ListRuns; empty: neither.
std::string_view MethodOf(std::string_view path) {
  for (const std::string_view head : {kApi, kCsv}) {
    if (path.starts_with(head)) return path.substr(head.size());
  }
  return {};
}

PathRight RightOf(const httplib::Request& request) {
  const std::string_view path = request.path;
  if (const std::string_view name = MethodOf(path); !name.empty()) {
    const MethodRight* const method =
        FindMethod("/gradtap.v1.Query/" + std::string(name));
    if (method != nullptr) {
      return {path, false, method->right, method->of_all_runs};
    }
  }
  for (const PathRight& one : kPaths) {
    if (one.prefix ? path.starts_with(one.path) : path == one.path) return one;
  }
  // The form itself.
  if (path == "/" && request.method == "POST") {
    return {path, false, Right::kNone, false};
  }
  return {path, false, Right::kRead, false};
}

std::string EscapeForHtml(std::string_view text) {
  return absl::StrReplaceAll(std::string(text), {{"&", "&amp;"},
                                                 {"<", "&lt;"},
                                                 {">", "&gt;"},
                                                 {"\"", "&quot;"},
                                                 {"'", "&#39;"}});
}

}  // namespace

const char kSignInPolicy[] =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri "
    "'none'; frame-ancestors 'none'";

absl::Status HttpGate::Admit(const httplib::Request& request) const {
  if (!gate_->asks()) return absl::OkStatus();
  if (open_metrics_ && request.path == kMetrics) return absl::OkStatus();
  const PathRight wanted = RightOf(request);
  const std::optional<std::string> authorization = AuthorizationOf(request);
  return gate_
      ->Admit(authorization, request.path, wanted.right, wanted.of_all_runs)
      .status();
}

absl::StatusOr<Caller> HttpGate::CallerOf(
    const httplib::Request& request) const {
  if (!gate_->asks()) return Caller::Anybody();
  return gate_->Identify(AuthorizationOf(request));
}

absl::StatusOr<std::string> HttpGate::SignIn(
    const std::string& token_untrusted) const {
  const std::string token(absl::StripAsciiWhitespace(token_untrusted));
  const absl::StatusOr<Caller> caller =
      gate_->Admit("Bearer " + token, "the page", Right::kRead, false);
  if (!caller.ok()) return caller.status();
  return absl::StrCat(CookieName(), "=", token,
                      "; Path=/; HttpOnly; SameSite=Strict",
                      tls_ ? "; Secure" : "");
}

// A browser takes a name that begins so only with Secure, and for the whole
// host alone.
const char* HttpGate::CookieName() const {
  return tls_ ? "__Host-gradtap-token" : "gradtap-token";
}

// A header goes before a cookie: a program says what it means.
std::optional<std::string> HttpGate::AuthorizationOf(
    const httplib::Request& request) const {
  if (request.has_header("Authorization")) {
    return request.get_header_value("Authorization");
  }
  const std::string wanted = absl::StrCat(CookieName(), "=");
  const auto [begin, end] = request.headers.equal_range("Cookie");
  for (auto header = begin; header != end; ++header) {
    const std::vector<std::string> cookies =
        absl::StrSplit(header->second, ';');
    for (const std::string& cookie : cookies) {
      const std::string one(absl::StripAsciiWhitespace(cookie));
      if (one.starts_with(wanted)) {
        return "Bearer " + one.substr(wanted.size());
      }
    }
  }
  return std::nullopt;
}

HttpAnswer SignInForm(const absl::Status& why) {
  HttpAnswer answer;
  answer.status = absl::IsPermissionDenied(why) ? 403 : 401;
  answer.content_type = "text/html; charset=utf-8";
  answer.body = absl::StrCat(
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
      "<title>gradtap: sign in</title>\n"
      "<link rel=\"stylesheet\" href=\"/page.css\">\n"
      "<main>\n<form method=\"post\" class=\"empty\">\n<h1>gradtap</h1>\n"
      "<p>This collector asks for a token. Whoever runs it makes one for you:"
      " <code>gradtapd token create --role read</code></p>\n"
      "<p><label>Token <input name=\"token\" type=\"password\" size=\"60\" "
      "autocomplete=\"current-password\" autofocus required></label>\n"
      "<button>Sign in</button></p>\n<p class=\"note\">",
      EscapeForHtml(
          std::string_view(why.message().data(), why.message().size())),
      "</p>\n</form>\n</main>\n</html>\n");
  return answer;
}

}  // namespace gradtap::server
