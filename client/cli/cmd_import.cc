// gradtap import
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/leftovers.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

absl::Status Run(const std::vector<std::string>& folders, Context& context) {
  std::vector<agent::LeftoverPlace> places;
  for (const std::string& folder : folders) {
    const auto found = agent::FindLeftovers(folder);
    if (!found.ok()) return found.status();
    if (found->empty()) {
      return absl::NotFoundError(absl::StrCat(
          "'", EscapeForTerminal(folder),
          "' is no spool, nor has it any: name a folder with .seg files in it, "
          "or the one that is above such"));
    }
    places.insert(places.end(), found->begin(), found->end());
  }
  LeftoverOptions options;
  options.use = agent::SpoolUse::kCopy;
  return DeliverLeftovers(places, options, context);
}

}  // namespace

Command AddImport(CLI::App& app) {
  auto folders = std::make_shared<std::vector<std::string>>();
  app.add_option("DIR", *folders, "Copies of spools, or folders of several")
      ->required();
  app.footer(
      "Nothing in the folders is changed. What the collector has already is\n"
      "not stored again. Whichever collector a process recorded for, this one\n"
      "gets it. --timeout: how long the collector may take nothing before "
      "this\n"
      "gives up.\n"
      "\n"
      "Examples:\n"
      "  gradtap import node3-spool node4-spool\n"
      "  gradtap import /media/usb/spool");
  return [folders](Context& context) { return Run(*folders, context); };
}

}  // namespace gradtap::client
