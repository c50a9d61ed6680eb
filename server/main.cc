// gradtapd: the collector as a program.
//
// The first line on standard output says where it listens; everything else goes
// to standard error. Signals are blocked in every thread and waited for by the
// main one, so that nothing runs in a handler.

#include <google/protobuf/stubs/common.h>
#if GOOGLE_PROTOBUF_VERSION < 4022000
#include <google/protobuf/stubs/logging.h>
#endif
#include <grpc/support/log.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/bearer_token.h"
#include "core/names.h"
#include "proto/text/rules_text.h"
#include "server/allocator.h"
#include "server/forward/remote_writer.h"
#include "server/health/rules.h"
#include "server/keeping/option_values.h"
#include "server/limit_options.h"
#include "server/manager_notice.h"
#include "server/notify/notify_url.h"
#include "server/query/metric_names.h"
#include "server/service/collector.h"
#include "server/subcommands.h"

namespace gradtap::server {

void Say(const std::string& line) {
  std::fprintf(stderr, "gradtapd: %s\n",
               EscapeForTerminal(gradtap::MaskTokens(line)).c_str());
}

}  // namespace gradtap::server

namespace {

using gradtap::EscapeForTerminal;
using gradtap::server::Say;
using gradtap::server::TellManager;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

// Empty if the environment names no place.
std::string DefaultDataDir() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') {
    return (std::filesystem::path(state) / "gradtap").string();
  }
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') {
    return (std::filesystem::path(home) / ".local/state/gradtap").string();
  }
  return "";
}

// To what the system grants: sessions, readers and tables share them.
void AllowManyFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// To be called before there is another thread.
sigset_t BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);  // Somebody closed our standard output.
  return set;
}

// The signal that comes. `untold`, unless empty: until it does the manager is
// told that as soon as it has room; systemd waits for it without end.
int AwaitSignal(const sigset_t& signals, std::string untold) {
  constexpr timespec kAgain{0, 100'000'000};
  while (!untold.empty()) {
    const int number = ::sigtimedwait(&signals, nullptr, &kAgain);
    if (number > 0) return number;
    if (TellManager(untold)) untold.clear();
  }
  int number = 0;
  sigwait(&signals, &number);
  return number;
}

void SilenceGrpc() {
  // Its lines repeat what is reported in one; GRPC_VERBOSITY brings them back.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args*) {});
  }
  // A line for each string of a peer's that is not UTF-8.
#if GOOGLE_PROTOBUF_VERSION < 4022000  // Later ones log nothing of it.
  google::protobuf::SetLogHandler(nullptr);
#endif
}

int Run(const gradtap::server::CollectorOptions& options, char** argv) {
  gradtap::server::UseHugePages(argv);
  gradtap::server::ShareMemoryAmongThreads();
  AllowManyFiles();
  const sigset_t signals = BlockSignals();
  SilenceGrpc();
  TellManager("STATUS=opening " + EscapeForTerminal(options.data_dir));
  absl::StatusOr<std::unique_ptr<gradtap::server::Collector>> collector =
      gradtap::server::Collector::Start(options);
  if (!collector.ok()) {
    Say(std::string(collector.status().message()));
    return absl::IsInvalidArgument(collector.status()) ? kExitUsage
                                                       : kExitFailed;
  }
  const std::string http = (*collector)->http_address();
  const std::string listening =
      "listening grpc=" + (*collector)->grpc_address() +
      " http=" + (http.empty() ? "off" : http);
  std::printf("gradtapd %s\n", listening.c_str());
  std::fflush(stdout);
  const std::string ready = "READY=1\nSTATUS=" + EscapeForTerminal(listening);
  const bool told = TellManager(ready);
  Say("data in " + options.data_dir + "; SIGTERM or Ctrl-C drains and stops");
  const int number = AwaitSignal(signals, told ? "" : ready);
  TellManager("STOPPING=1\nSTATUS=draining");
  Say(std::string(number == SIGINT   ? "SIGINT"
                  : number == SIGHUP ? "SIGHUP"
                                     : "SIGTERM") +
      ": draining");
  (*collector)->Shutdown();
  Say("stopped");
  return 0;
}

// What `parse` makes of an option's value goes to `*to`; its error names option
// and value.
template <typename Parse, typename To>
CLI::Option* AddParsed(CLI::App& app, const std::string& name, Parse parse,
                       To* to, const std::string& help) {
  return app.add_option_function<std::string>(
      name,
      [name, parse, to](const std::string& text) {
        const auto value = parse(text);
        if (!value.ok()) {
          throw CLI::ValidationError(name,
                                     std::string(value.status().message()));
        }
        *to = *value;
      },
      help);
}

// 'off' is empty.
absl::StatusOr<std::string> AddressOrOff(const std::string& text) {
  if (text == "off") return std::string();
  const auto address = gradtap::server::ParseListenAddress(text);
  if (!address.ok()) return address.status();
  return text;
}

// The rules of a file; an error names it.
absl::StatusOr<std::shared_ptr<const gradtap::server::Rules>> ReadRules(
    const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(gradtap::kMaxRulesBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
    return absl::NotFoundError("cannot read " + path + ": " +
                               std::strerror(errno));
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  const auto file = gradtap::ParseRules(text, path);
  if (!file.ok()) return file.status();
  return gradtap::server::Rules::Create(*file);
}

// The URL itself, if it is one.
absl::StatusOr<std::string> UrlOf(const std::string& text) {
  const auto url = gradtap::server::ParseNotifyUrl(text);
  if (!url.ok()) return url.status();
  return text;
}

// The same of a page, which a proxy may serve with TLS; without a "/" at its
// end.
absl::StatusOr<std::string> PageUrlOf(const std::string& text) {
  const bool tls = text.rfind("https://", 0) == 0;
  const auto url =
      gradtap::server::ParseNotifyUrl(tls ? "http" + text.substr(5) : text);
  if (!url.ok()) return url.status();
  std::string page = text;
  while (page.back() == '/') page.pop_back();
  return page;
}

void AddAlertOptions(CLI::App& app,
                     gradtap::server::CollectorOptions* options) {
  AddParsed(app, "--rules", ReadRules, &options->rules,
            "File of health rules (gradtap rules check FILE); default: what "
            "`gradtap rules defaults` prints")
      ->option_text("FILE")
      ->group("Alerts");
  AddParsed(app, "--alertmanager", UrlOf, &options->alertmanager,
            "Alertmanager that is told of alerts: http://127.0.0.1:9093")
      ->option_text("URL")
      ->group("Alerts");
  AddParsed(app, "--alert-webhook", UrlOf, &options->alert_webhook,
            "Where each alert's beginning and end is POSTed, as JSON")
      ->option_text("URL")
      ->group("Alerts");
  AddParsed(app, "--page-url", PageUrlOf, &options->page_url,
            "What links in alerts begin with: the collector as its readers "
            "reach it; default: http:// and the HTTP address")
      ->option_text("URL")
      ->group("Alerts");
}

// What other stores get, and what Prometheus scrapes.
void AddMetricOptions(CLI::App& app,
                      gradtap::server::CollectorOptions* options) {
  using gradtap::server::ParseMetricMatch;
  using gradtap::server::ParseMetricStatistics;
  gradtap::server::RemoteWriteOptions* const write = &options->remote_write;
  const char* const group = "Metrics";
  AddParsed(
      app, "--remote-write", gradtap::server::ParseNotifyUrl, &write->url,
      "Who takes Prometheus's remote write and gets every step's scalars: "
      "http://127.0.0.1:9090/api/v1/write")
      ->option_text("URL")
      ->group(group);
  AddParsed(app, "--remote-write-match", ParseMetricMatch,
            &write->selection.match,
            "RE2, unanchored: parameters whose statistics go there too; "
            "default: none")
      ->option_text("RE")
      ->group(group);
  AddParsed(app, "--remote-write-stat", ParseMetricStatistics,
            &write->selection.statistics,
            "Which ones; default: grad.l2,weight.l2,update.ratio")
      ->option_text("S,...")
      ->group(group);
  AddParsed(app, "--metrics-match", ParseMetricMatch, &options->metrics.match,
            "RE2, unanchored: parameters whose statistics at the newest step "
            "are in /metrics, at most 1,000 series; default: none")
      ->option_text("RE")
      ->group(group);
  AddParsed(app, "--metrics-stat", ParseMetricStatistics,
            &options->metrics.statistics,
            "Which ones; default: grad.l2,weight.l2,update.ratio")
      ->option_text("S,...")
      ->group(group);
}

void AddKeepingOptions(CLI::App& app, gradtap::server::KeepingLimits* keeping) {
  using gradtap::server::ParseBytes;
  using gradtap::server::ParseDuration;
  AddParsed(app, "--keep-for", ParseDuration, &keeping->keep_for,
            "Remove finished runs this long after they were last seen: 30d, "
            "12h; 0, the default, is never")
      ->option_text("TIME")
      ->group("Keeping");
  AddParsed(app, "--keep-bytes", ParseBytes, &keeping->keep_bytes,
            "While all runs take more of the disk, remove the oldest finished "
            "ones: 200GiB; 0, the default, is no limit")
      ->option_text("SIZE")
      ->group("Keeping");
  AddParsed(app, "--disk-reserve", ParseBytes, &keeping->disk_reserve_bytes,
            "Keep so much of the disk free: the oldest finished runs go, then "
            "old steps shrink to their roll-ups, at last nothing is stored "
            "until there is room; default: a twentieth of the disk, at most "
            "2GiB; 0 is none")
      ->option_text("SIZE")
      ->group("Keeping");
}

// HOST:PORT, unix:PATH, or one of each.
void AddGrpcListen(CLI::App* app, gradtap::server::CollectorOptions* options) {
  const char* const name = "--grpc-listen";
  app->add_option_function<std::vector<std::string>>(
         name,
         [=](const std::vector<std::string>& texts) {
           options->grpc_listen.clear();
           options->grpc_socket.clear();
           for (const std::string& text : texts) {
             const bool socket = text.rfind("unix:", 0) == 0;
             std::string* const to =
                 socket ? &options->grpc_socket : &options->grpc_listen;
             if (!to->empty()) {
               throw CLI::ValidationError(name,
                                          "one address and one socket at most");
             }
             *to = text;
           }
         },
         "HOST:PORT for agents and clients, port 0 picks a free one; or "
         "unix:PATH, a socket in a folder of mode 0700, for those on this "
         "machine; or both, each with the option before it; default: "
         "127.0.0.1:7317")
      ->allow_extra_args(false)
      ->option_text("HOST:PORT|unix:PATH");
}

// Who gets in.
void AddDoors(CLI::App* app, gradtap::server::CollectorOptions* options) {
  const char* const group = "Security";
  app->add_option("--tls-cert", options->tls.cert,
                  "The collector's certificate, and what is between it and "
                  "its authority, PEM; read again when it changes")
      ->option_text("FILE")
      ->group(group);
  app->add_option("--tls-key", options->tls.key,
                  "Its key, PEM, without a passphrase")
      ->option_text("FILE")
      ->group(group);
  app->add_option("--tls-client-ca", options->tls.client_ca,
                  "Whose clients are let in, PEM: they need a certificate of "
                  "this authority, besides their token")
      ->option_text("FILE")
      ->group(group);
  app->add_option("--tokens", options->token_file,
                  "File of the tokens of those who are let in (gradtapd token "
                  "create); default: 'tokens' in the data folder, if it is "
                  "there when the collector starts")
      ->option_text("FILE")
      ->group(group);
  app->add_flag("--open-metrics", options->open_metrics,
                "Serve /metrics without a token: the names of runs and their "
                "figures")
      ->group(group);
  app->add_flag("--allow-insecure", options->allow_insecure,
                "Permit an address that others can reach without TLS and "
                "tokens")
      ->group(group);
}

// The options of serving.
void AddServing(CLI::App* app, gradtap::server::CollectorOptions* options) {
  app->add_option("--backup-dir", options->backup_dir,
                  "Folder in which `gradtap backup` makes copies; 'off' for "
                  "none. Default: the data folder's name with .backups after "
                  "it")
      ->option_text("DIR|off");
  AddGrpcListen(app, options);
  AddParsed(*app, "--http-listen", AddressOrOff, &options->http_listen,
            "HOST:PORT for browsers and monitoring tools; port 0 picks a free "
            "one, 'off' is none; default: 127.0.0.1:7318")
      ->option_text("HOST:PORT|off");
  app->add_option("--http-name", options->http_names,
                  "Name by which browsers may reach it, besides its address "
                  "and localhost: that of a proxy before it; may be repeated")
      ->option_text("NAME");
  AddDoors(app, options);
}

void AddDataDir(CLI::App* app, std::string* data_dir, const char* what) {
  app->add_option("--data-dir", *data_dir, what)->capture_default_str();
}

// All of serving, and what --help says of it.
void AddOptions(CLI::App* app, gradtap::server::CollectorOptions* options) {
  app->set_version_flag("--version",
                        std::string("gradtapd ") + GRADTAP_VERSION);
  app->set_config(
         "--config", "",
         "File of options, a line each: keep-for = \"90d\"; the command "
         "line wins")
      ->option_text("FILE");
  app->allow_config_extras(CLI::config_extras_mode::error);
  AddDataDir(app, &options->data_dir,
             "Folder of the data, of this process alone; made if it is not "
             "there");
  AddServing(app, options);
  AddKeepingOptions(*app, &options->keeping);
  AddAlertOptions(*app, options);
  AddMetricOptions(*app, options);
  gradtap::server::AddLimitOptions(*app, options);
  app->footer(
      "The first line on standard output says where it listens:\n"
      "  gradtapd listening grpc=HOST:PORT http=HOST:PORT\n\n"
      "Runs that are pinned (gradtap pin) are never removed nor shrunk. What "
      "was\n"
      "removed is said on standard error and by `gradtap status`.\n\n"
      "Examples:\n"
      "  gradtapd --data-dir /tmp/gradtap --grpc-listen 127.0.0.1:0\n"
      "  gradtapd --grpc-listen 0.0.0.0:7317 --tls-cert cert.pem --tls-key "
      "key.pem\n"
      "  gradtapd --rules my.rules --alertmanager http://127.0.0.1:9093\n"
      "  gradtapd --keep-for 90d --keep-bytes 500GiB --disk-reserve 20GiB");
}

using Commands = std::vector<std::pair<CLI::App*, gradtap::server::Subcommand>>;

// What is done with a folder instead of serving it.
Commands AddSubcommands(CLI::App* app,
                        gradtap::server::CollectorOptions* options) {
  struct {
    const char* name;
    const char* summary;
    std::function<gradtap::server::Subcommand(CLI::App& app)> add;
  } const subcommands[] = {
      {"verify", "Read all of a data folder and tell what is damaged",
       gradtap::server::AddVerify},
      {"migrate", "Bring a data folder of an older format to the newest",
       gradtap::server::AddMigrate},
      {"token", "Make, list and revoke the tokens that a collector asks for",
       [options](CLI::App& token) {
         return gradtap::server::AddToken(token, &options->token_file);
       }},
  };
  Commands commands;
  for (const auto& entry : subcommands) {
    CLI::App* sub = app->add_subcommand(entry.name, entry.summary);
    AddDataDir(sub, &options->data_dir, "Folder of the data");
    commands.emplace_back(sub, entry.add(*sub));
  }
  app->require_subcommand(0, 1);
  return commands;
}

// Whether a token itself is given, for an option that there is not. It is not
// to be repeated: logs have what is said of it.
bool GivesToken(const CLI::App& app) {
  const std::vector<std::string> words = app.remaining(/*recurse=*/true);
  return std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word == "--token" || word.starts_with("--token=");
  });
}

}  // namespace

int main(int argc, char** argv) {
  gradtap::server::CollectorOptions options;
  options.data_dir = DefaultDataDir();
  options.http_listen = "127.0.0.1:7318";
  options.say = Say;

  CLI::App app("gradtapd: stores what gradtap agents record and serves it.",
               "gradtapd");
  AddOptions(&app, &options);
  const Commands commands = AddSubcommands(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version.
    return app.exit(wanted);
  } catch (const CLI::ConfigError& error) {
    const std::string what = error.what();
    Say("the file of --config has no such option, or is no file of options: " +
        what.substr(what.rfind(' ') + 1) + "; see gradtapd --help");
    return kExitUsage;
  } catch (const CLI::FileError& error) {
    Say("--config: " + std::string(error.what()) + "; see gradtapd --help");
    return kExitUsage;
  } catch (const CLI::Error& error) {
    Say((GivesToken(app) ? "there is no option --token, which ps would show"
                         : std::string(error.what())) +
        "; see gradtapd --help");
    return kExitUsage;
  }
  if (options.data_dir.empty()) {
    Say("neither XDG_STATE_HOME nor HOME names a folder; give --data-dir");
    return kExitUsage;
  }
  for (const auto& [sub, command] : commands) {
    if (sub->parsed()) return command(options.data_dir);
  }
  return Run(options, argv);
}
