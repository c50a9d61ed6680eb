// A Transport over gRPC: one completion queue, driven by the calling thread.
//
// grpc_transport.cc is the only file of the agent that includes gRPC.
//
// Layer: agent/delivery. This file: std, absl; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_GRPC_TRANSPORT_H_
#define GRADTAP_AGENT_DELIVERY_GRPC_TRANSPORT_H_

#include <memory>
#include <string>

#include "agent/delivery/tls_files.h"
#include "agent/delivery/transport.h"

namespace gradtap::agent {

// Checked by the caller (ReadTlsFiles, ValidateOptions). All the same, a token
// is sent over TLS, or to this machine, or not at all.
struct GrpcTransportOptions {
  std::string collector;  // "HOST:PORT", "unix:/PATH".
  bool tls = false;
  TlsFiles tls_files;
  // Where they are read again for each connection, so that who renews them
  // needs no new process; while they cannot be, the last good ones go on.
  TlsFileNames tls_names;
  std::string token;
  // Where it is read from for each connection; empty: it is as it is.
  std::string token_file;
  bool use_proxy = false;
};

// Each Connect() makes a channel of its own, so that this side's delays between
// tries are the only ones. gRPC's own threads start here, and not before.
std::unique_ptr<Transport> MakeGrpcTransport(GrpcTransportOptions options);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_GRPC_TRANSPORT_H_
