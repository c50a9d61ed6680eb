// Checks what Delivery::Create() is given.
//
// Layer: agent/delivery. This file: std, absl; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_OPTIONS_H_
#define GRADTAP_AGENT_DELIVERY_OPTIONS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/delivery/delivery.h"

namespace gradtap::agent {

// kInvalidArgument names the field and its value, and says what would do. Opens
// no socket; looks at no file. The token itself is in no message.
absl::Status ValidateOptions(const DeliveryOptions& options);

// "HOST:PORT", with an IPv6 address in brackets.
absl::Status ValidateCollector(std::string_view collector);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_OPTIONS_H_
