// A channel to a collector's Query service: dialling, deadlines, errors.
//
// gRPC's status becomes absl::Status in this class and nowhere else.
//
// Layer: client/rpc. This file: std, absl, core, proto, grpc.

#ifndef GRADTAP_CLIENT_RPC_QUERY_CHANNEL_H_
#define GRADTAP_CLIENT_RPC_QUERY_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.grpc.pb.h"
#include "gradtap/v1/upkeep.grpc.pb.h"

namespace gradtap::client {

// Plain data; see ClientOptions in gradtap/client.h for what each field means.
struct ChannelOptions {
  std::string collector = "127.0.0.1:7317";
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string token;
  bool use_proxy = false;
  std::chrono::milliseconds connect_deadline{5000};
  std::chrono::milliseconds deadline{60000};
  // For calls of the Upkeep service, which move gigabytes.
  std::chrono::milliseconds long_deadline{std::chrono::hours(24)};
  std::size_t max_answer_bytes = 256u << 20;
};

inline constexpr int kDefaultPort = 7317;

// "HOST:PORT", or "unix:/PATH" as it is, from "HOST", ":PORT", "HOST:PORT",
// "IPV6" or "[IPV6]:PORT". kInvalidArgument names the address and what is wrong
// with it.
absl::StatusOr<std::string> CompleteAddress(std::string_view address);

// The content of a PEM file; kInvalidArgument names one that cannot be read.
absl::StatusOr<std::string> ReadPemFile(const std::string& path);

// OK if every string of `request` (those of its messages too) is valid UTF-8:
// what is not would be sent all the same, and no collector could read it.
// kInvalidArgument names the first one.
absl::Status CheckText(const google::protobuf::Message& request);

// What TrySession() finds out.
struct SessionTrial {
  // OK if the collector would take records with these credentials: of the run,
  // where one is named and the collector is not older than this, else of some.
  absl::Status status;
  // Its own words; empty, 0: it does not tell.
  std::string version;
  std::int64_t time_unix_ns = 0;
};

// Thread-safe.
class QueryChannel {
 public:
  // Dials, and waits until the collector speaks, at most
  // options.connect_deadline; a refused connection returns at once.
  // kInvalidArgument: a bad option. kUnavailable names the address.
  static absl::StatusOr<std::unique_ptr<QueryChannel>> Connect(
      const ChannelOptions& options);

  // Waits until the channel is connected, at most `wait`; dials if need be.
  // fail_fast: returns kUnavailable at the first refusal, too. gRPC itself
  // spaces the attempts, 0.25 s to 4 s apart.
  absl::Status WaitConnected(std::chrono::milliseconds wait, bool fail_fast);

  // One call with the deadline of the options:
  //   Call(&Stub::ListRuns, request, &response)
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::Query::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) const {
    return CallOn(stub_.get(), options_.deadline, method, request, response);
  }
  // The same of the Upkeep service, with the deadline for long calls.
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::Upkeep::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) const {
    const auto stub = v1::Upkeep::NewStub(channel_);
    return CallOn(stub.get(), options_.long_deadline, method, request,
                  response);
  }

  // Opens a session as an agent does, says nothing and ends it: nothing is
  // stored.
  SessionTrial TrySession(const std::string& run) const;

  v1::Query::Stub& stub() const { return *stub_; }

  // Credentials, and the deadline of the options.
  void Prepare(grpc::ClientContext* context, bool with_deadline) const;

  // The status as people should read it; what means "no collector there" is
  // kUnavailable and names the address.
  absl::Status Convert(const grpc::Status& status) const;

  // As completed.
  const std::string& address() const { return address_; }

 private:
  QueryChannel(ChannelOptions options, std::string address,
               std::shared_ptr<grpc::Channel> channel);

  template <typename Stub, typename Method, typename Request, typename Response>
  absl::Status CallOn(Stub* stub, std::chrono::milliseconds deadline,
                      Method method, const Request& request,
                      Response* response) const {
    absl::Status checked = CheckText(request);
    if (!checked.ok()) return checked;
    grpc::ClientContext context;
    Prepare(&context, /*with_deadline=*/false);
    context.set_deadline(std::chrono::system_clock::now() + deadline);
    return Convert((stub->*method)(&context, request, response));
  }

  absl::Status Unreachable(std::string_view why) const;

  const ChannelOptions options_;
  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Query::Stub> stub_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_RPC_QUERY_CHANNEL_H_
