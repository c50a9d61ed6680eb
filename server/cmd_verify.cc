// gradtapd verify

#include <cinttypes>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "core/names.h"
#include "server/store/verify/verify.h"
#include "server/subcommands.h"

namespace gradtap::server {
namespace {

void Print(const std::string& dir, const VerifySummary& summary) {
  const auto line = [](const char* what, std::uint64_t n) {
    std::printf("%-22s %" PRIu64 "\n", what, n);
  };
  std::printf("%-22s %s\n", "data folder", EscapeForTerminal(dir).c_str());
  line("format", summary.format);
  line("runs", summary.runs);
  line("streams", summary.streams);
  line("branches", summary.branches);
  line("rows", summary.rows);
  line("rows in windows", summary.sealed);
  line("steps with statistics", summary.steps);
  line("values", summary.values);
  line("scalars", summary.scalars);
  line("windows", summary.windows);
  line("chapters", summary.chapters);
  line("tiles", summary.tiles);
  line("roll-ups", summary.rollups);
  line("histogram blocks", summary.histograms);
  line("schemas", summary.schemas);
  line("gaps", summary.gaps);
  line("tables", summary.tables);
  line("bytes", summary.bytes);
  if (summary.unfinished > 0) {
    line("of windows begun", summary.unfinished);
  }
  if (summary.problems == 0) {
    std::printf("all is well\n");
  } else {
    std::printf("%" PRIu64 " problem%s\n", summary.problems,
                summary.problems == 1 ? "" : "s");
  }
}

int Verify(const std::string& data_dir) {
  const auto summary = VerifyFolder(
      data_dir, [](const std::string& place, const std::string& what) {
        std::printf("PROBLEM %s: %s\n", EscapeForTerminal(place).c_str(),
                    EscapeForTerminal(what).c_str());
        std::fflush(stdout);
      });
  if (!summary.ok()) {
    Say(std::string(summary.status().message()));
    return 1;
  }
  Print(data_dir, *summary);
  return summary->problems == 0 ? 0 : 1;
}

}  // namespace

Subcommand AddVerify(CLI::App& app) {
  app.footer(
      "Nothing is changed. No collector may have the folder open. Exit codes:\n"
      "0 all is well, 1 something is wrong or cannot be read.\n\n"
      "Example:\n"
      "  gradtapd verify --data-dir /srv/gradtap.backups/20261129-041500Z");
  return [](const std::string& data_dir) { return Verify(data_dir); };
}

}  // namespace gradtap::server
