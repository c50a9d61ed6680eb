// What gradtapd does besides serving: work on a data folder, mostly on one that
// no collector has open.
//
// Layer: server. This file: CLI11 by name only.

#ifndef GRADTAP_SERVER_SUBCOMMANDS_H_
#define GRADTAP_SERVER_SUBCOMMANDS_H_

#include <functional>
#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace gradtap::server {

// Each adds its options to `app`; what it returns does the work in the folder
// `data_dir` and gives the exit code: 0; 1 for what is said on standard output
// or standard error; 2 for wrong usage.
using Subcommand = std::function<int(const std::string& data_dir)>;

Subcommand AddVerify(CLI::App& app);
Subcommand AddMigrate(CLI::App& app);
// `file` has that of the collector's options, or is empty: that of the folder.
// Must outlive what is returned.
Subcommand AddToken(CLI::App& app, std::string* file);

// A line on standard error, escaped for a terminal.
void Say(const std::string& line);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SUBCOMMANDS_H_
