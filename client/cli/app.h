// The `gradtap` command line: global options, commands, exit codes.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_APP_H_
#define GRADTAP_CLIENT_CLI_APP_H_

#include <string>
#include <vector>

#include "client/cli/context.h"

namespace gradtap::client {

enum ExitCode {
  kExitOk = 0,           // Also when standard output's reader has gone.
  kExitFailed = 1,       // Not found, refused, or another failure.
  kExitUsage = 2,        // The command line makes no sense.
  kExitUnreachable = 3,  // No collector there, or it does not answer.
};

// Runs one command line (without the program's name) and returns its exit
// code. Data goes to io.out, messages to io.err; both are flushed.
int RunApp(const std::vector<std::string>& args, Io& io);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_APP_H_
