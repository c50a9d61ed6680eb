// gradtapd migrate

#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "core/names.h"
#include "server/store/migrate.h"
#include "server/subcommands.h"

namespace gradtap::server {
namespace {

int Migrate(const std::string& data_dir) {
  const bool shows = ::isatty(STDERR_FILENO) == 1;
  auto last = std::chrono::steady_clock::now();
  const auto progress = [&](std::uint64_t rows_left) {
    const auto now = std::chrono::steady_clock::now();
    if (!shows || now - last < std::chrono::seconds(1)) return;
    last = now;
    Say(std::to_string(rows_left) + " rows are left");
  };
  const auto done = MigrateFolder(data_dir, progress);
  if (!done.ok()) {
    Say(std::string(done.status().message()));
    return 1;
  }
  std::printf("%s: format %" PRIu32 " to %" PRIu32 ", %" PRIu64
              " rows sealed into %" PRIu64 " windows\n",
              EscapeForTerminal(data_dir).c_str(), done->from_format,
              done->to_format, done->sealed_rows, done->sealed_windows);
  return 0;
}

}  // namespace

Subcommand AddMigrate(CLI::App& app) {
  app.footer(
      "A collector does the same in the background, whatever the format; this\n"
      "is to have it done. No collector may have the folder open, and older\n"
      "ones refuse it afterwards. Interrupted, it goes on when it is run "
      "again.\n\n"
      "Example:\n"
      "  gradtapd migrate --data-dir /srv/gradtap");
  return [](const std::string& data_dir) { return Migrate(data_dir); };
}

}  // namespace gradtap::server
