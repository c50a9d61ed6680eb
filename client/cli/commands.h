// The commands. Each adds its options to the subcommand and returns what runs
// once they are parsed. Errors become messages and exit codes in app.cc.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_COMMANDS_H_
#define GRADTAP_CLIENT_CLI_COMMANDS_H_

#include <functional>

#include "absl/status/status.h"
#include "client/cli/context.h"

namespace CLI {
class App;
}  // namespace CLI

namespace gradtap::client {

using Command = std::function<absl::Status(Context& context)>;

Command AddRuns(CLI::App& app);
Command AddParams(CLI::App& app);
Command AddSeries(CLI::App& app);
Command AddSnapshot(CLI::App& app);
Command AddTop(CLI::App& app);
Command AddHeatMap(CLI::App& app);
Command AddCompare(CLI::App& app);
Command AddWatch(CLI::App& app);
Command AddGaps(CLI::App& app);
Command AddStatus(CLI::App& app);
Command AddExport(CLI::App& app);
Command AddDelete(CLI::App& app);
Command AddPin(CLI::App& app);
Command AddUnpin(CLI::App& app);
Command AddHistogram(CLI::App& app);
Command AddAudit(CLI::App& app);
Command AddBackup(CLI::App& app);
Command AddCompact(CLI::App& app);
Command AddDoctor(CLI::App& app);
Command AddDrain(CLI::App& app);
Command AddImport(CLI::App& app);
Command AddAlerts(CLI::App& app);
Command AddFirstBad(CLI::App& app);
Command AddRules(CLI::App& app);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_COMMANDS_H_
