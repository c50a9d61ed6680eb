// Who sends a request, and whether they may; and how a browser brings a token.
//
// A program sends "Authorization: Bearer TOKEN". A browser gets a form instead
// of the page, posts the token to the page's own address, and has it in a
// cookie from then on: one that no script sees (HttpOnly), that no page of
// another site sends (SameSite=Strict), and that goes when the browser does.
//
// Layer: server/http. This file: std, absl, auth; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_HTTP_GATE_H_
#define GRADTAP_SERVER_HTTP_HTTP_GATE_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/auth/gate.h"
#include "server/http/http_api.h"

namespace httplib {
struct Request;
}  // namespace httplib

namespace gradtap::server {

// Pure but for the gate. Thread-safe.
class HttpGate {
 public:
  // `tls`: browsers reach it over TLS, and keep the cookie for that.
  HttpGate(Gate* gate, bool tls) : gate_(gate), tls_(tls) {}

  Gate* gate() const { return gate_; }

  // As Gate::Admit(), for what the path is.
  absl::Status Admit(const httplib::Request& request) const;
  // As Gate::Identify(): whose a request is that Admit() has let in.
  absl::StatusOr<Caller> CallerOf(const httplib::Request& request) const;

  // Of the form's token: what the cookie is set to, or why it is not.
  absl::StatusOr<std::string> SignIn(const std::string& token_untrusted) const;

 private:
  std::optional<std::string> AuthorizationOf(
      const httplib::Request& request) const;
  const char* CookieName() const;

  Gate* const gate_;
  const bool tls_;
};

// The form, and why it is shown.
HttpAnswer SignInForm(const absl::Status& why);
// What a browser may do with it.
extern const char kSignInPolicy[];

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_GATE_H_
