// The work of `drain` and `import`: what ended processes have left, delivered
// in their name.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_LEFTOVERS_H_
#define GRADTAP_CLIENT_CLI_LEFTOVERS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/delivery/leftover.h"
#include "client/cli/context.h"

namespace gradtap::client {

struct LeftoverOptions {
  agent::SpoolUse use = agent::SpoolUse::kTakeOver;
  // Also what is for another collector than the one that is dialled. A copy
  // goes where it is told in any case.
  bool any_collector = false;
  // Also a ring whose spool cannot be seen: what that has is lost.
  bool without_spool = false;
  // Also steps whose schema nobody has: they are lost.
  bool without_schema = false;
  std::string folder;  // That was named, for messages; empty: none.
};

// Delivers one place after the other and writes a row for each. The collector
// is dialled only if there is something to deliver. An error: not all of it was
// delivered; what was has been written as rows, and the rest is as it was.
absl::Status DeliverLeftovers(const std::vector<agent::LeftoverPlace>& places,
                              const LeftoverOptions& options, Context& context);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_LEFTOVERS_H_
