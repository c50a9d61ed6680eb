#include "server/auth/grpc_door.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace gradtap::server {
namespace {

constexpr std::string_view kAuthorization = "authorization";

std::string_view ViewOf(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)),
          GRPC_SLICE_LENGTH(slice)};
}

// gRPC's C++ layer has no credentials that ask for a certificate at each
// handshake; its C layer has (the one that C++ stands on, the same in the
// releases that Debian 12, 13 and forky have).
class DoorCredentials final : public grpc::ServerCredentials {
 public:
  DoorCredentials(DoorKind kind, Certificates* certificates, Gate* gate)
      : certificates_(certificates), gate_(gate) {
    switch (kind) {
      case DoorKind::kTls:
        credentials_ = MakeTls();
        break;
      case DoorKind::kUnix:
        credentials_ = grpc_local_server_credentials_create(UDS);
        break;
      case DoorKind::kLoopback:
      case DoorKind::kPlain:
        credentials_ = grpc_local_server_credentials_create(LOCAL_TCP);
        break;
    }
    if (gate->asks()) {
      grpc_server_credentials_set_auth_metadata_processor(
          credentials_, {&DoorCredentials::Process, [](void*) {}, this});
    }
  }

  ~DoorCredentials() override { grpc_server_credentials_release(credentials_); }

  // The gate is the only one.
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*other*/) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* MakeTls() {
    const auto wanted =
        certificates_->wants_client_certificates()
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            wanted, &DoorCredentials::Fetch, this));
  }

  // At each handshake; gRPC holds a lock of its own meanwhile.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto* const door = static_cast<DoorCredentials*>(self);
    const auto current = door->certificates_->Current();
    if (current->generation == door->fetched_) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair = {current->key_pem.c_str(),
                                             current->cert_pem.c_str()};
    // It wants an authority for clients even where none is asked for one.
    const std::string& roots = current->client_ca_pem.empty()
                                   ? current->cert_pem
                                   : current->client_ca_pem;
    *config =
        grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    door->fetched_ = current->generation;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  // Of each call, before it reaches a service. Nothing is taken off it.
  static void Process(void* self, grpc_auth_context* /*context*/,
                      const grpc_metadata* metadata, std::size_t count,
                      grpc_process_auth_metadata_done_cb done,
                      void* user_data) {
    std::string_view path;
    std::optional<std::string_view> authorization;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string_view key = ViewOf(metadata[i].key);
      if (key == ":path") path = ViewOf(metadata[i].value);
      if (key == kAuthorization) authorization = ViewOf(metadata[i].value);
    }
    const absl::StatusOr<Caller> caller =
        static_cast<DoorCredentials*>(self)->gate_->AdmitMethod(authorization,
                                                                path);
    const std::string message(caller.status().message());
    done(user_data, nullptr, 0, nullptr, 0,
         static_cast<grpc_status_code>(caller.status().code()),
         caller.ok() ? nullptr : message.c_str());
  }

  Certificates* const certificates_;
  Gate* const gate_;
  std::uint64_t fetched_ = 0;  // The generation that gRPC has.
  grpc_server_credentials* credentials_ = nullptr;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeCredentials(
    DoorKind kind, Certificates* certificates, Gate* gate) {
  if (kind != DoorKind::kTls && !gate->asks()) {
    return grpc::InsecureServerCredentials();
  }
  return std::make_shared<DoorCredentials>(kind, certificates, gate);
}

void CountRefusal(const Guards& guards, bool shut, OpenConnection* connection) {
  if (connection == nullptr ||
      !connection->RefusedAgain(std::chrono::steady_clock::now())) {
    return;
  }
  if (shut) {
    guards.connections->EndAndShut(*connection);
  } else {
    guards.connections->End(*connection);
  }
}

absl::StatusOr<Caller> CallerOf(Gate* gate, const Guards& guards,
                                const grpc::ServerContextBase& context,
                                bool session) {
  std::optional<std::string_view> authorization;
  if (gate->asks()) {
    const auto& metadata = context.client_metadata();
    const auto [begin, end] = metadata.equal_range(
        grpc::string_ref(kAuthorization.data(), kAuthorization.size()));
    for (auto it = begin; it != end; ++it) {
      authorization.emplace(it->second.data(), it->second.size());
    }
  }
  absl::StatusOr<Caller> caller = gate->Identify(authorization);
  if (!caller.ok()) return caller;
  const absl::Status often =
      TakeRequest(guards, *caller, context.peer(), session);
  const auto connection = ConnectionOf(guards, context);
  if (connection != nullptr) connection->Took(0);
  if (often.ok()) return caller;
  // Where nobody is asked for a token the address is the client.
  CountRefusal(guards, caller->id.empty(), connection.get());
  return often;
}

std::shared_ptr<OpenConnection> ConnectionOf(
    const Guards& guards, const grpc::ServerContextBase& context) {
  return guards.connections == nullptr
             ? nullptr
             : guards.connections->Find(context.peer());
}

}  // namespace gradtap::server
