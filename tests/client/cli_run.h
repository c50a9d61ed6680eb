// Runs a command line in this process and keeps what it prints.

#ifndef GRADTAP_TESTS_CLIENT_CLI_RUN_H_
#define GRADTAP_TESTS_CLIENT_CLI_RUN_H_

#include <atomic>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/app.h"
#include "client/cli/output.h"
#include "client/fake_query_service.h"
#include "support/manual_clock.h"

namespace gradtap::client::testing {

struct CliResult {
  int code = -1;
  std::string out;
  std::string err;
};

// Where the command believes it runs; by default in a pipe.
struct CliSurroundings {
  std::map<std::string, std::string> env;
  bool out_is_terminal = false;
  bool in_is_terminal = false;
  bool utf8 = false;
  std::string input;  // Standard input: one line.
  WindowSize window;
};

inline CliResult RunCli(const std::vector<std::string>& args,
                        const CliSurroundings& around = {}) {
  StringOutput out;
  StringOutput err;
  gradtap::testing::ManualClock clock(kFakeStart + 70'000'000'000);
  const std::atomic<bool> interrupted{false};
  Io io{out, err, clock, interrupted};
  io.out_is_terminal = around.out_is_terminal;
  io.in_is_terminal = around.in_is_terminal;
  io.utf8 = around.utf8;
  io.window = [&] { return around.window; };
  io.read_line = [&] { return std::optional<std::string>(around.input); };
  io.env = [&](const char* name) {
    const auto it = around.env.find(name);
    return it == around.env.end() ? std::nullopt
                                  : std::optional<std::string>(it->second);
  };
  io.env_names = [&] {
    std::vector<std::string> names;
    for (const auto& [name, value] : around.env) names.push_back(name);
    return names;
  };
  CliResult result;
  result.code = RunApp(args, io);
  result.out = out.text();
  result.err = err.text();
  return result;
}

// A command line against a collector.
inline CliResult RunCli(const FakeCollector& collector,
                        std::vector<std::string> args,
                        const CliSurroundings& around = {}) {
  args.push_back("--collector");
  args.push_back(collector.address());
  return RunCli(args, around);
}

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// A reader of RFC 4180, written apart from the writer.
inline std::vector<std::vector<std::string>> ReadCsv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string cell;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        cell += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        cell += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',' || c == '\n') {
      row.push_back(std::exchange(cell, ""));
      if (c == '\n') rows.push_back(std::exchange(row, {}));
    } else {
      cell += c;
    }
  }
  return rows;
}

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_CLI_RUN_H_
