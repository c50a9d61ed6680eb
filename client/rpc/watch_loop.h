// Follows a run: one Watch call after the other, resumed where the last one
// broke off.
//
// Layer: client/rpc. This file: std, absl, proto; grpc through query_channel.h.

#ifndef GRADTAP_CLIENT_RPC_WATCH_LOOP_H_
#define GRADTAP_CLIENT_RPC_WATCH_LOOP_H_

#include <chrono>
#include <functional>

#include "absl/status/status.h"
#include "client/rpc/query_channel.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

struct WatchLoopOptions {
  // How often on_tick is called while nothing arrives. Range: > 0.
  std::chrono::milliseconds tick{250};
  bool reconnect = true;
};

// [Threading] the thread that runs the loop. [Locking] none held.
// [Exceptions] must not throw. Each returns false to end the loop.
struct WatchHandlers {
  std::function<bool(const v1::WatchResponse& message)> on_message;
  std::function<bool()> on_tick;
  // Once an outage, before the first attempt to dial again.
  std::function<bool(const absl::Status& why)> on_disconnected;
  // With the first message after an outage, before on_message.
  std::function<bool()> on_reconnected;
};

// Runs until a handler returns false (OK), or until an error that dialling
// again does not mend: kNotFound, kInvalidArgument and their like, whatever
// the first call fails with, and every loss if !options.reconnect.
absl::Status RunWatchLoop(QueryChannel& channel, v1::WatchRequest request,
                          const WatchLoopOptions& options,
                          const WatchHandlers& handlers);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_RPC_WATCH_LOOP_H_
