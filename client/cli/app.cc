#include "client/cli/app.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/commands.h"
#include "core/bearer_token.h"
#include "core/names.h"

#ifndef GRADTAP_VERSION
#error "GRADTAP_VERSION comes from client/CMakeLists.txt"
#endif

namespace gradtap::client {
namespace {

// CLI11's help, but with lines that fit 80 columns, single blank lines, and
// what version 2.6 leaves out: the word in front of the usage, the footer's
// indents.
class HelpFormatter : public CLI::Formatter {
 public:
  static constexpr std::size_t kColumn = 30;

  HelpFormatter() { column_width(kColumn); }

  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) {
      text.erase(at, 1);
    }
    const std::string footer = app->get_footer();
    if (footer.empty()) return text;
    absl::StripTrailingAsciiWhitespace(&text);
    return absl::StrCat(text, "\n\n", footer, "\n");
  }

  std::string make_usage(const CLI::App* app, std::string name) const override {
    const std::string usage = CLI::Formatter::make_usage(app, std::move(name));
    const absl::string_view words = absl::StripAsciiWhitespace(usage);
    return absl::StrCat(words.substr(0, 6) == "Usage:" ? "" : "Usage: ", words,
                        "\n");
  }

  std::string make_footer(const CLI::App*) const override { return ""; }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string wrapped;
    std::size_t used = 0;
    for (absl::string_view word :
         absl::StrSplit(option->get_description(), ' ')) {
      if (used > 0 && used + 1 + word.size() > 79 - kColumn) {
        wrapped += '\n';
        used = 0;
      } else if (used > 0) {
        wrapped += ' ';
        ++used;
      }
      absl::StrAppend(&wrapped, word);
      used += word.size();
    }
    return wrapped;
  }
};

struct CommandEntry {
  const char* name;
  const char* summary;
  Command (*add)(CLI::App& app);
  // It gets what the command line says, and asks the environment itself.
  bool as_given = false;
};

constexpr CommandEntry kCommands[] = {
    {"runs", "List the runs", AddRuns},
    {"params", "List a run's parameters and buffers, with totals", AddParams},
    {"series", "Show statistics over steps", AddSeries},
    {"snapshot", "Show all parameters at one step", AddSnapshot},
    {"top", "Rank parameters by a statistic, or by its change", AddTop},
    {"heatmap", "Show a statistic of all parameters over all steps",
     AddHeatMap},
    {"compare", "Tell how a run differs from a good one, and from when on",
     AddCompare},
    {"histogram", "Draw a parameter's histogram at one step", AddHistogram},
    {"watch", "Follow a run live", AddWatch},
    {"gaps", "List the steps that are not there, and why", AddGaps},
    {"alerts", "List what the health rules have found", AddAlerts},
    {"first-bad", "Tell what became NaN or infinite first, and where",
     AddFirstBad},
    {"rules", "Check a file of health rules, or try it on a stored run",
     AddRules},
    {"audit", "Tell what capture costs, from a run that took turns", AddAudit},
    {"status", "Show how the collector is doing", AddStatus},
    {"doctor", "Tell why an agent on this host does not deliver, or would not",
     AddDoctor, /*as_given=*/true},
    {"export", "Write a run's records to a file", AddExport},
    {"drain", "Deliver what ended processes have left on this machine",
     AddDrain},
    {"import", "Deliver from copies of what processes have left", AddImport},
    {"pin", "Protect runs from being removed, by anybody", AddPin},
    {"unpin", "Let pinned runs go again", AddUnpin},
    {"backup", "Make a copy of all that the collector stores", AddBackup},
    {"compact", "Pack what the collector stores as tightly as it gets",
     AddCompact},
    {"delete", "Delete a run and all its records", AddDelete},
};

constexpr char kFooter[] =
    "Examples:\n"
    "  gradtap runs\n"
    "  gradtap params fashion-mnist --tree\n"
    "  gradtap series fashion-mnist --stat grad.l2 --match conv1 --steps "
    "-100:\n"
    "  gradtap --collector gpu7:7317 watch fashion-mnist\n"
    "\n"
    "Data goes to standard output, messages to standard error. Exit codes:\n"
    "0 done, 1 not found or refused, 2 usage, 3 collector unreachable.";

// What the command line says, before it is checked.
struct RawOptions {
  std::string collector;
  bool tls = false;
  std::string tls_ca, tls_cert, tls_key, token_file;
  double timeout_s = 0;
  Format format = Format::kTable;
  bool json = false;
  bool spreadsheet = false;
};

// To the program and to each command, so that they may stand on either side.
void AddGlobalOptions(CLI::App& app, RawOptions& raw) {
  static const std::map<std::string, Format> formats = {
      {"table", Format::kTable},
      {"json", Format::kJson},
      {"csv", Format::kCsv}};
  app.add_option_function<std::string>(
         "-o,--output",
         [&raw](const std::string& word) {
           const auto it = formats.find(absl::AsciiStrToLower(word));
           if (it == formats.end()) {
             throw CLI::ValidationError(
                 "--output", "'" + word + "' is none of table, json, csv");
           }
           raw.format = it->second;
         },
         "How to print: table (for people), json or csv")
      ->option_text("table|json|csv")
      ->group("Output");
  app.add_flag("--json", raw.json, "The same as --output json")
      ->group("Output");
  app.add_flag("--spreadsheet", raw.spreadsheet,
               "CSV: guard text that a spreadsheet would take for a formula")
      ->group("Output");
  app.add_option("-c,--collector", raw.collector,
                 "The collector's gRPC address; default 127.0.0.1:7317, or "
                 "GRADTAP_COLLECTOR")
      ->option_text("HOST:PORT|unix:PATH")
      ->group("Connection");
  app.add_option("--timeout", raw.timeout_s,
                 "How long to wait for the collector; default 5 s to connect, "
                 "60 s for an answer")
      ->option_text("SECONDS")
      ->group("Connection");
  app.add_flag("--tls", raw.tls, "Connect with TLS (or GRADTAP_TLS=1)")
      ->group("Connection");
  app.add_option("--tls-ca", raw.tls_ca,
                 "Roots to trust, PEM (or GRADTAP_TLS_CA)")
      ->option_text("FILE")
      ->group("Connection");
  app.add_option("--tls-cert", raw.tls_cert,
                 "Our certificate, PEM (or GRADTAP_TLS_CERT)")
      ->option_text("FILE")
      ->group("Connection");
  app.add_option("--tls-key", raw.tls_key, "Its key, PEM (or GRADTAP_TLS_KEY)")
      ->option_text("FILE")
      ->group("Connection");
  app.add_option("--token-file", raw.token_file,
                 "A file with the token (or GRADTAP_TOKEN_FILE, GRADTAP_TOKEN)")
      ->option_text("FILE")
      ->group("Connection");
}

// Command line, then environment, then default; as_given: command line alone,
// and what it leaves out is empty.
absl::StatusOr<GlobalOptions> Resolve(const RawOptions& raw, const Io& io,
                                      bool as_given) {
  const auto choose = [&](const std::string& given, const char* variable,
                          const char* fallback) {
    if (!given.empty() || as_given) return given;
    const std::string value = io.env(variable).value_or("");
    return value.empty() ? std::string(fallback) : value;
  };
  GlobalOptions options;
  options.collector =
      choose(raw.collector, "GRADTAP_COLLECTOR", "127.0.0.1:7317");
  options.tls = raw.tls || choose("", "GRADTAP_TLS", "0") == "1";
  options.tls_ca_file = choose(raw.tls_ca, "GRADTAP_TLS_CA", "");
  options.tls_cert_file = choose(raw.tls_cert, "GRADTAP_TLS_CERT", "");
  options.tls_key_file = choose(raw.tls_key, "GRADTAP_TLS_KEY", "");
  if (!options.tls && !as_given &&
      !(raw.tls_ca + raw.tls_cert + raw.tls_key).empty()) {
    return absl::InvalidArgumentError(
        "--tls-ca, --tls-cert and --tls-key need --tls");
  }
  const std::string token_file =
      choose(raw.token_file, "GRADTAP_TOKEN_FILE", "");
  if (!token_file.empty()) {
    absl::StatusOr<std::string> token = ReadBearerToken(token_file);
    if (!token.ok()) return token.status();
    options.token = *std::move(token);
  } else {
    options.token = choose("", "GRADTAP_TOKEN", "");
  }
  if (raw.timeout_s != 0) {
    if (!(raw.timeout_s >= 0.001 && raw.timeout_s <= 1e6)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "bad timeout '", raw.timeout_s, "': seconds, from 0.001 to 1000000"));
    }
    options.timeout = std::chrono::milliseconds(
        static_cast<std::int64_t>(raw.timeout_s * 1000));
  }
  options.format = raw.json ? Format::kJson : raw.format;
  options.spreadsheet = raw.spreadsheet;
  return options;
}

// What to do where nobody could be reached, by the reason at the message's end.
std::string WhatToDo(const std::string& message) {
  for (const char* none : {"onnection refused", "unknown host name",
                           "No such file or directory"}) {  // A socket.
    if (absl::EndsWith(message, none)) {
      return "; start gradtapd, or name another with --collector HOST:PORT";
    }
  }
  return "; `gradtap doctor` tells why";
}

// doctor: the command that finds out by itself.
int Finish(const absl::Status& status, bool doctor, Context& context) {
  std::string message(status.message());
  int code = kExitFailed;
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      code = kExitUsage;
      break;
    case absl::StatusCode::kUnavailable:
      code = kExitUnreachable;
      if (!doctor) message += WhatToDo(message);
      break;
    case absl::StatusCode::kDeadlineExceeded:
      code = kExitUnreachable;
      message += "; give it longer with --timeout SECONDS";
      break;
    default:
      break;
  }
  if (message.empty()) {
    message = absl::StrCat("the collector says only ",
                           absl::StatusCodeToString(status.code()));
  }
  context.Note(message);
  return code;
}

int RunCommand(const Command& command, const RawOptions& raw, bool as_given,
               Io& io) {
  absl::StatusOr<GlobalOptions> options = Resolve(raw, io, as_given);
  const GlobalOptions defaults;
  Context context(options.ok() ? *options : defaults, io);
  absl::Status status = options.ok() ? command(context) : options.status();
  // What was written before an error is data all the same.
  if (absl::Status flushed = context.Flush(); status.ok()) status = flushed;
  return Finish(status, /*doctor=*/as_given, context);
}

// The first word that is no option, if no command was recognised.
std::string UnknownCommand(const CLI::App& app) {
  if (!app.get_subcommands().empty()) return "";
  for (const std::string& word : app.remaining()) {
    if (!word.empty() && word.front() != '-') return word;
  }
  return "";
}

// Whether a token itself is given, for an option that there is not. It is not
// to be repeated: logs have what is said of it.
bool GivesToken(const CLI::App& app) {
  const std::vector<std::string> words = app.remaining(/*recurse=*/true);
  return std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word == "--token" || absl::StartsWith(word, "--token=");
  });
}

int ParseFailed(const CLI::ParseError& error, const CLI::App& app, Io& io) {
  if (GivesToken(app)) {
    io.err.Write(
        "gradtap: there is no option --token, which ps would show: "
        "--token-file FILE or GRADTAP_TOKEN\n");
    io.err.Flush();
    return kExitUsage;
  }
  const std::string unknown = UnknownCommand(app);
  if (!unknown.empty()) {
    std::vector<std::string> names;
    for (const CommandEntry& entry : kCommands) names.push_back(entry.name);
    const std::string near = Nearest(unknown, names);
    io.err.Write(absl::StrCat(
        "gradtap: no command '", EscapeForTerminal(MaskTokens(unknown)), "'",
        near.empty() ? "" : absl::StrCat("; did you mean ", near, "?"),
        near.empty() ? "; see gradtap --help\n" : "\n"));
    io.err.Flush();
    return kExitUsage;
  }
  if (app.get_subcommands().empty() &&
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    io.err.Write("gradtap: no command given; see gradtap --help\n");
    io.err.Flush();
    return kExitUsage;
  }
  std::string command = "gradtap";
  for (const CLI::App* chosen : app.get_subcommands()) {
    command += " " + chosen->get_name();
  }
  io.err.Write(
      absl::StrCat("gradtap: ", EscapeForTerminal(MaskTokens(error.what())),
                   "; see ", command, " --help\n"));
  io.err.Flush();
  return kExitUsage;
}

}  // namespace

int RunApp(const std::vector<std::string>& args, Io& io) {
  RawOptions raw;
  CLI::App app(
      "Statistics of every parameter of a LibTorch training run, as a gradtap "
      "collector stores them.",
      "gradtap");
  app.set_version_flag("--version", std::string("gradtap ") + GRADTAP_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  app.formatter(std::make_shared<HelpFormatter>());
  AddGlobalOptions(app, raw);
  struct Added {
    const CLI::App* sub;
    Command command;
    bool as_given;
  };
  std::vector<Added> commands;
  for (const CommandEntry& entry : kCommands) {
    CLI::App* sub = app.add_subcommand(entry.name, entry.summary);
    Command command = entry.add(*sub);
    AddGlobalOptions(*sub, raw);
    commands.push_back({sub, std::move(command), entry.as_given});
  }
  try {
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    io.out.Write(app.help());  // Of the command, if one was chosen.
    io.out.Flush();
    return kExitOk;
  } catch (const CLI::CallForVersion& version) {
    io.out.Write(absl::StrCat(version.what(), "\n"));
    io.out.Flush();
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    return ParseFailed(error, app, io);
  }
  for (const Added& added : commands) {
    if (added.sub->parsed()) {
      return RunCommand(added.command, raw, added.as_given, io);
    }
  }
  return kExitUsage;
}

}  // namespace gradtap::client
