// gradtap drain
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "agent/delivery/ring_folder.h"
#include "agent/spool/default_root.h"
#include "agent/spool/folder.h"
#include "client/cli/commands.h"
#include "client/cli/leftovers.h"

namespace gradtap::client {
namespace {

// As an agent with the same environment finds it.
std::string DefaultRoot(const Io& io) {
  const std::string named = io.env("GRADTAP_SPOOL").value_or("");
  if (named == "off") return {};
  if (!named.empty()) return named;
  const std::string state = io.env("XDG_STATE_HOME").value_or("");
  const std::string home = io.env("HOME").value_or("");
  return agent::DefaultSpoolRoot(state.c_str(), home.c_str());
}

std::string RingFolder(const Io& io) {
  const std::string named = io.env("GRADTAP_RING_FOLDER").value_or("");
  if (named == "off") return {};
  return named.empty() ? agent::DefaultRingFolder() : named;
}

absl::Status Run(const LeftoverOptions& options, Context& context) {
  const std::string& named = options.folder;
  const std::string folder = named.empty() ? DefaultRoot(context.io()) : named;
  const std::string rings = RingFolder(context.io());
  if (folder.empty() && rings.empty()) {
    return absl::InvalidArgumentError(
        "no folder is named, and there is no usual one: name the spool's, as "
        "in `gradtap drain DIR`");
  }
  auto places =
      agent::FindLeftovers(folder, rings, /*lone_rings=*/named.empty());
  if (absl::IsNotFound(places.status()) && named.empty()) {
    places = std::vector<agent::LeftoverPlace>();  // Never used so far.
  }
  if (!places.ok()) return places.status();
  agent::RemoveUnownedSpools(folder);
  return DeliverLeftovers(*places, options, context);
}

}  // namespace

Command AddDrain(CLI::App& app) {
  auto options = std::make_shared<LeftoverOptions>();
  app.add_option(
      "DIR", options->folder,
      "A folder of spools or rings, or one spool; default all rings in "
      "shared memory, and the spools in GRADTAP_SPOOL, "
      "else $XDG_STATE_HOME/gradtap/spool, else "
      "~/.local/state/gradtap/spool");
  app.add_flag("--any-collector", options->any_collector,
               "Deliver also what processes recorded for another collector");
  app.add_flag("--without-spool", options->without_spool,
               "Deliver also what is in shared memory of processes whose spool "
               "cannot be seen from here: what that has is then lost, and told "
               "as a gap");
  app.add_flag(
      "--without-schema", options->without_schema,
      "Give up steps whose table of parameters neither the collector "
      "nor anybody here has, so that no collector takes them: they are "
      "then lost, and told as gaps");
  app.footer(
      "What the collector acknowledges is deleted. Processes that still run\n"
      "keep theirs, and deliver by themselves. What processes recorded for\n"
      "another collector stays, and is named with the command that delivers\n"
      "it; addresses are compared as text. --timeout: how long the collector\n"
      "may take nothing before this gives up.\n"
      "\n"
      "Examples:\n"
      "  gradtap drain\n"
      "  gradtap --collector gpu7:7317 drain /scratch/spool");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
