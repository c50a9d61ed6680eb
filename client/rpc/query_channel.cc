#include "client/rpc/query_channel.h"

#include <arpa/inet.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/bearer_token.h"
#include "core/names.h"
#include "core/peer_address.h"
#include "core/session_facts.h"
#include "core/socket_folder.h"
#include "gradtap/v1/telemetry.grpc.pb.h"

namespace gradtap::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

absl::Status BadAddress(std::string_view address, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("bad collector address '", EscapeForTerminal(address),
                   "': ", std::string(why), "; use HOST:PORT, or unix:/PATH"));
}

bool IsHostCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

bool IsIpv6(std::string_view host) {
  struct in6_addr parsed;
  return ::inet_pton(AF_INET6, std::string(host).c_str(), &parsed) == 1;
}

// The status is that of a peer that is not there or went away.
bool MeansUnreachable(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE;
}

// gRPC's reasons are long and quote addresses; people need the last one.
std::string ShortReason(const std::string& message) {
  static constexpr std::pair<const char*, const char*> kKnown[] = {
      {"Connection refused", "connection refused"},
      {"Connection reset", "connection reset"},
      {"Connection timed out", "connection timed out"},
      {"No route to host", "no route to host"},
      {"Network is unreachable", "network is unreachable"},
      {"DNS resolution failed", "unknown host name"},
      {"Name or service not known", "unknown host name"},
      {"Domain name not found", "unknown host name"},
      {"handshake", "TLS handshake failed"},
      {"Handshake", "TLS handshake failed"},
      {"Socket closed", "connection closed"},
  };
  for (const auto& [text, reason] : kKnown) {
    if (absl::StrContains(message, text)) return reason;
  }
  return EscapeForTerminal(message.substr(0, 300));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(
    const ChannelOptions& options, const std::string& address) {
  if (!options.tls) {
    if (!options.token.empty() && !StaysOnThisMachine(address)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a token is not sent to another machine (",
          EscapeForTerminal(address), ") without TLS; switch TLS on"));
    }
    if (!options.token.empty()) {
      absl::Status safe = CheckSocketFolder(address, ::geteuid());
      if (!safe.ok()) return safe;
    }
    return grpc::InsecureChannelCredentials();
  }
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError(
        "a TLS certificate and its key go together; name both files");
  }
  grpc::SslCredentialsOptions ssl;
  const std::pair<const std::string&, std::string&> files[] = {
      {options.tls_ca_file, ssl.pem_root_certs},
      {options.tls_cert_file, ssl.pem_cert_chain},
      {options.tls_key_file, ssl.pem_private_key}};
  for (const auto& [path, pem] : files) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> text = ReadPemFile(path);
    if (!text.ok()) return text.status();
    pem = *std::move(text);
  }
  return grpc::SslCredentials(ssl);
}

absl::Status CheckOptions(const ChannelOptions& options) {
  if (options.connect_deadline <= milliseconds::zero() ||
      options.deadline <= milliseconds::zero() ||
      options.long_deadline <= milliseconds::zero()) {
    return absl::InvalidArgumentError("deadlines must be positive");
  }
  return options.token.empty() ? absl::OkStatus()
                               : CheckBearerToken(options.token);
}

// What gRPC may hold of answers that are not whole: several may come at a time,
// and what it holds is more than what it is told of.
std::size_t HeldBytes(std::size_t max_answer_bytes) {
  constexpr std::size_t kLeast = std::size_t{32} << 20;
  constexpr std::size_t kMost = std::size_t{8} << 30;
  return std::clamp(std::min(max_answer_bytes, kMost) * 2, kLeast, kMost);
}

grpc::ChannelArguments Arguments(const ChannelOptions& options,
                                 const std::string& address) {
  grpc::ChannelArguments arguments;
  const std::size_t most = 0x7fffffff;
  arguments.SetMaxReceiveMessageSize(
      static_cast<int>(std::min(options.max_answer_bytes, most)));
  // gRPC looks at the size of an answer once it has all of it: whoever answers
  // could announce 4 GiB and fill this machine's memory.
  grpc::ResourceQuota quota("gradtap");
  quota.Resize(HeldBytes(options.max_answer_bytes));
  arguments.SetResourceQuota(quota);
  // gRPC would send what is for localhost through a proxy, too.
  const bool use_proxy = options.use_proxy && !StaysOnThisMachine(address);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, use_proxy ? 1 : 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 4000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

}  // namespace

absl::StatusOr<std::string> CompleteAddress(std::string_view address) {
  if (address.empty()) return BadAddress(address, "it is empty");
  if (IsSocketAddress(address)) return std::string(address);
  std::string_view host = address;
  std::string_view port;
  bool has_port = false;
  if (address.front() == '[') {
    const std::size_t close = address.find(']');
    if (close == std::string_view::npos) return BadAddress(address, "no ']'");
    host = address.substr(1, close - 1);
    const std::string_view rest = address.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') {
      return BadAddress(address, "no ':' after ']'");
    }
    has_port = !rest.empty();
    if (has_port) port = rest.substr(1);
  } else if (std::count(address.begin(), address.end(), ':') == 1) {
    host = address.substr(0, address.find(':'));
    port = address.substr(address.find(':') + 1);
    has_port = true;
    if (host.empty()) host = "127.0.0.1";
  }
  const bool ipv6 = host.find(':') != std::string_view::npos;
  if (ipv6 ? !IsIpv6(host)
           : host.empty() ||
                 !std::all_of(host.begin(), host.end(), IsHostCharacter)) {
    return BadAddress(address, "not a host name");
  }
  int number = kDefaultPort;
  if (has_port) {
    const auto [end, error] =
        std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() ||
        number < 1 || number > 65535) {
      return BadAddress(address, "the port is not a number from 1 to 65535");
    }
  }
  const std::string name(host);
  return ipv6 ? absl::StrCat("[", name, "]:", number)
              : absl::StrCat(name, ":", number);
}

absl::StatusOr<std::string> ReadPemFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot read the PEM file '", EscapeForTerminal(path), "'"));
  }
  return text.str();
}

absl::Status CheckText(const google::protobuf::Message& request) {
  using google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& reflection = *request.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(request, &fields);
  for (const FieldDescriptor* field : fields) {
    const int n =
        field->is_repeated() ? reflection.FieldSize(request, field) : 1;
    for (int i = 0; i < n; ++i) {
      if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
        absl::Status status =
            CheckText(field->is_repeated()
                          ? reflection.GetRepeatedMessage(request, field, i)
                          : reflection.GetMessage(request, field));
        if (!status.ok()) return status;
      } else if (field->type() == FieldDescriptor::TYPE_STRING) {
        const std::string text =
            field->is_repeated()
                ? reflection.GetRepeatedString(request, field, i)
                : reflection.GetString(request, field);
        if (IsValidUtf8(text)) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("'", EscapeForTerminal(text), "' (", field->name(),
                         ") is not valid UTF-8"));
      }
    }
  }
  return absl::OkStatus();
}

QueryChannel::QueryChannel(ChannelOptions options, std::string address,
                           std::shared_ptr<grpc::Channel> channel)
    : options_(std::move(options)),
      address_(std::move(address)),
      channel_(std::move(channel)),
      stub_(v1::Query::NewStub(channel_)) {}

absl::StatusOr<std::unique_ptr<QueryChannel>> QueryChannel::Connect(
    const ChannelOptions& options) {
  absl::StatusOr<std::string> address = CompleteAddress(options.collector);
  if (!address.ok()) return address.status();
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  auto credentials = Credentials(options, *address);
  if (!credentials.ok()) return credentials.status();
  std::unique_ptr<QueryChannel> channel(new QueryChannel(
      options, *address,
      grpc::CreateCustomChannel(*address, *credentials,
                                Arguments(options, *address))));
  absl::Status status =
      channel->WaitConnected(options.connect_deadline, /*fail_fast=*/true);
  if (!status.ok()) return status;
  return channel;
}

absl::Status QueryChannel::WaitConnected(milliseconds wait, bool fail_fast) {
  const system_clock::time_point deadline = system_clock::now() + wait;
  for (;;) {
    const grpc_connectivity_state state = channel_->GetState(true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && fail_fast) break;
    if (!channel_->WaitForStateChange(state, deadline)) {
      return Unreachable(
          absl::StrCat("no answer within ", wait.count() / 1000.0, " s"));
    }
  }
  // A call on a channel in this state fails at once, and says why.
  grpc::ClientContext context;
  Prepare(&context, /*with_deadline=*/false);
  context.set_deadline(deadline);
  v1::GetStatusResponse response;
  const grpc::Status status =
      stub_->GetStatus(&context, v1::GetStatusRequest(), &response);
  // Who refuses is there.
  if (status.ok() || status.error_code() == grpc::UNAUTHENTICATED ||
      status.error_code() == grpc::PERMISSION_DENIED) {
    return absl::OkStatus();
  }
  return Unreachable(ShortReason(status.error_message()));
}

SessionTrial QueryChannel::TrySession(const std::string& run) const {
  const auto stub = v1::Telemetry::NewStub(channel_);
  grpc::ClientContext context;
  Prepare(&context, /*with_deadline=*/true);
  if (IsValidRunName(run)) context.AddMetadata(kRunMetadata, run);
  const auto session = stub->Session(&context);
  session->WritesDone();
  v1::CollectorMessage message;
  while (session->Read(&message)) {
  }
  SessionTrial trial;
  trial.status = Convert(session->Finish());
  const auto& told = context.GetServerTrailingMetadata();
  const auto text = [&told](const char* key) {
    const auto it = told.find(key);
    return it == told.end() ? std::string()
                            : std::string(it->second.data(), it->second.size());
  };
  trial.version = text(kVersionMetadata);
  if (!absl::SimpleAtoi(text(kTimeMetadata), &trial.time_unix_ns)) {
    trial.time_unix_ns = 0;
  }
  return trial;
}

void QueryChannel::Prepare(grpc::ClientContext* context,
                           bool with_deadline) const {
  if (with_deadline) {
    context->set_deadline(system_clock::now() + options_.deadline);
  }
  if (!options_.token.empty()) {
    context->AddMetadata("authorization", "Bearer " + options_.token);
  }
}

absl::Status QueryChannel::Unreachable(std::string_view why) const {
  return absl::UnavailableError(
      absl::StrCat("no collector at ", address_, ": ", std::string(why)));
}

absl::Status QueryChannel::Convert(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  if (MeansUnreachable(status)) {
    return Unreachable(ShortReason(status.error_message()));
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("the collector at ", address_, " did not answer within ",
                     options_.deadline.count() / 1000.0, " s"));
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return absl::UnimplementedError(absl::StrCat(
        "what listens at ", address_,
        " does not know this call: an older collector, or something else"));
  }
  // The code's numbers are the same on both sides.
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

}  // namespace gradtap::client
