// The `gradtap` program: the process around RunApp().
//
// Layer: client/cli.

#include <langinfo.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/app.h"
#include "core/clock.h"

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int) { interrupted.store(true); }

// From now on the first SIGINT or SIGTERM asks the command to end; the second
// one ends the process.
void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool LocaleIsUtf8() {
  // LC_CTYPE only: numbers are the same everywhere.
  if (std::setlocale(LC_CTYPE, "") == nullptr) return false;
  return std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
}

gradtap::client::WindowSize Window() {
  gradtap::client::WindowSize size;
  struct winsize window {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0) {
    if (window.ws_col > 0) size.columns = window.ws_col;
    if (window.ws_row > 0) size.rows = window.ws_row;
  }
  return size;
}

std::optional<std::string> ReadLine() {
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

std::optional<std::string> Env(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

std::vector<std::string> EnvNames() {
  std::vector<std::string> names;
  for (char** at = ::environ; at != nullptr && *at != nullptr; ++at) {
    const std::string_view entry = *at;
    names.emplace_back(entry.substr(0, entry.find('=')));
  }
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  gradtap::client::FdOutput out(STDOUT_FILENO);
  gradtap::client::FdOutput err(STDERR_FILENO);
  gradtap::client::Io io{out, err, gradtap::RealClock(), interrupted};
  io.out_is_terminal = ::isatty(STDOUT_FILENO) == 1;
  io.err_is_terminal = ::isatty(STDERR_FILENO) == 1;
  io.in_is_terminal = ::isatty(STDIN_FILENO) == 1;
  io.utf8 = LocaleIsUtf8();
  io.catch_interrupts = CatchInterrupts;
  io.window = Window;
  io.read_line = ReadLine;
  io.env = Env;
  io.env_names = EnvNames;
  return gradtap::client::RunApp(
      std::vector<std::string>(argv + 1, argv + argc), io);
}
