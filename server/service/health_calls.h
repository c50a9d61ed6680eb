// grpc.health.v1.Health: whether the collector is there to be asked, for load
// balancers and those who look after processes.
//
// gRPC's own answers every call of whoever asks, and of this service nobody is
// asked for a token: a stranger had 30,000 watches open, in 560 MiB.
//
// Layer: server/service. This file: std, limits; grpc.

#ifndef GRADTAP_SERVER_SERVICE_HEALTH_CALLS_H_
#define GRADTAP_SERVER_SERVICE_HEALTH_CALLS_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/sync.h"
#include "server/limits/guards.h"
#include "server/service/request_call.h"

namespace gradtap::server {

// "/grpc.health.v1.Health/Check", or Watch.
bool IsHealthMethod(std::string_view path);

// Thread-safe. Must outlive the server.
class HealthCalls {
 public:
  // `services`: the names that are known, besides "", which is all of it.
  HealthCalls(std::vector<std::string> services, const Guards& guards)
      : services_(std::move(services)), guards_(guards) {}
  HealthCalls(const HealthCalls&) = delete;
  HealthCalls& operator=(const HealthCalls&) = delete;

  // A call of that path. Answers Check once and Watch at each change, as that
  // protocol has it: of a service that is not known NOT_FOUND, or
  // SERVICE_UNKNOWN for as long as somebody watches. INVALID_ARGUMENT: that was
  // no request. Deletes itself.
  grpc::ServerGenericBidiReactor* Open(CallHead head, std::string_view path);

  // From now on it is NOT_SERVING, which those who watch are told. Idempotent.
  void StopServing() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Call;

  const std::vector<std::string> services_;
  const Guards guards_;
  Mutex mu_;
  bool serving_ ABSL_GUARDED_BY(mu_) = true;
  std::set<Call*> watching_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_HEALTH_CALLS_H_
