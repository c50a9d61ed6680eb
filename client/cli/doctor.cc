#include "client/cli/doctor.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/doctor_report.h"
#include "core/bearer_token.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

constexpr char kEnvironment[] = "environment";
constexpr char kPrefix[] = "GRADTAP_";
constexpr std::size_t kMostBytes = 2000;
constexpr std::size_t kMostUnknown = 10;

bool IsOurs(const std::string& name) { return name.starts_with(kPrefix); }

// Not empty: the agent takes an empty variable for one that is not set.
std::optional<std::string> Value(World* world, const DoctorOptions& options,
                                 const std::string& name) {
  const auto given = options.given.find(name);
  if (given != options.given.end()) return given->second;
  std::optional<std::string> value = world->Variable(name);
  return value && value->empty() ? std::nullopt : value;
}

agent::Settings ReadSettings(const agent::Environment& environment) {
  agent::ProcessFacts process;
  process.program = "train";
  process.host = "host";
  return agent::ResolveSettings(AgentOptions(), environment, process);
}

// Those that the agent asks for.
std::set<std::string> KnownNames() {
  std::set<std::string> names;
  ReadSettings([&](const char* name) -> const char* {
    if (IsOurs(name)) names.insert(name);
    return nullptr;
  });
  return names;
}

// As if `hidden` were not set.
agent::Settings ReadVariables(World* world, const DoctorOptions& options,
                              const std::string& hidden) {
  std::map<std::string, std::string> values;  // That pointers can point to.
  return ReadSettings([&](const char* name) -> const char* {
    const std::string key = name;
    const auto value = Value(world, options, key);
    if (!value || key == hidden) return nullptr;
    return values.emplace(key, *value).first->second.c_str();
  });
}

void ReportSet(World* world, const std::set<std::string>& known,
               Report* report) {
  std::vector<std::string> set;
  for (const std::string& name : known) {
    const std::string value = world->Variable(name).value_or("");
    if (value.empty()) continue;
    set.push_back(name == "GRADTAP_TOKEN"
                      ? "GRADTAP_TOKEN (hidden)"
                      : absl::StrCat(name, "=", Quoted(value.substr(0, 80))));
  }
  report->Ok(kEnvironment,
             set.empty() ? "no GRADTAP_ variable is set: what the program says "
                           "is used, else the defaults"
                         : absl::StrCat("set: ", absl::StrJoin(set, ", ")));
}

void ReportUnknown(World* world, const std::set<std::string>& known,
                   Report* report) {
  std::vector<std::string> names = world->VariableNames();
  std::sort(names.begin(), names.end());
  std::vector<std::string> words;
  for (const std::string& name : known) {
    words.push_back(name.substr(sizeof(kPrefix) - 1));
  }
  std::size_t unknown = 0;
  for (const std::string& name : names) {
    if (!IsOurs(name) || known.contains(name)) continue;
    if (++unknown > kMostUnknown) continue;
    const std::string near = Nearest(name.substr(sizeof(kPrefix) - 1), words);
    const std::string what =
        absl::StrCat(Quoted(name), " is no variable of gradtap's: ignored");
    if (near.empty()) {
      report->Note(kEnvironment, what,
                   "unset it, unless another program wants it");
    } else {
      report->Problem(kEnvironment, what,
                      absl::StrCat("did you mean ", kPrefix, near, "?"));
    }
  }
  if (unknown > kMostUnknown) {
    report->Note(kEnvironment,
                 absl::StrCat(unknown - kMostUnknown,
                              " more unknown GRADTAP_ variables are set"),
                 "env | grep ^GRADTAP_ has all of them");
  }
}

void ReportSwitches(World* world, const agent::Settings& settings,
                    bool disabled, Report* report) {
  if (disabled) {
    report->Problem(kEnvironment,
                    "GRADTAP_DISABLED is on: agents record nothing",
                    "unset GRADTAP_DISABLED; the rest is looked at as if it "
                    "were not set");
  }
  if (settings.options.offline) {
    report->Note(kEnvironment,
                 "GRADTAP_MODE=offline: agents dial nobody, and put everything "
                 "into the spool",
                 "`gradtap drain` on this host or `gradtap import` of a copy "
                 "delivers it; unset GRADTAP_MODE to dial the collector");
  }
  if (settings.log_off) {
    report->Note(kEnvironment, "GRADTAP_LOG=off: agents say nothing",
                 "unset GRADTAP_LOG to read on standard error what is wrong");
  }
  if (!world->Variable("GRADTAP_TOKEN").value_or("").empty() &&
      !world->Variable("GRADTAP_TOKEN_FILE").value_or("").empty()) {
    report->Note(kEnvironment,
                 "GRADTAP_TOKEN and GRADTAP_TOKEN_FILE are both set: the first "
                 "is used",
                 "unset GRADTAP_TOKEN: a file can be corrected while jobs run");
  }
}

void ReportSettings(const agent::Settings& settings, Report* report) {
  for (const std::string& problem : settings.problems) {
    if (IsOurs(problem)) {
      report->Problem(kEnvironment, problem, "correct it, or unset it");
    } else {
      report->Note(kEnvironment, problem, "");
    }
  }
  for (const std::string& error : settings.errors) {
    report->Problem(kEnvironment,
                    absl::StrCat("agents record nothing: ", error),
                    "correct it, or let the program's options say it");
  }
  const std::string& token = settings.options.token;
  if (absl::Status fine = CheckBearerToken(token);
      !token.empty() && !fine.ok()) {
    report->Problem(
        kEnvironment,
        absl::StrCat("agents record nothing: ", std::string(fine.message())),
        "`gradtapd token create --role write` prints a token");
  }
}

// What Delivery refuses to start with.
void ReportTlsFiles(World* world, const AgentOptions& o, Report* report) {
  const std::pair<const char*, const std::string&> files[] = {
      {"GRADTAP_TLS_CA", o.tls_ca_file},
      {"GRADTAP_TLS_CERT", o.tls_cert_file},
      {"GRADTAP_TLS_KEY", o.tls_key_file}};
  for (const auto& [name, path] : files) {
    if (path.empty()) continue;
    if (!o.tls) {
      report->Problem(kEnvironment,
                      absl::StrCat("agents record nothing: ", name, "=",
                                   Quoted(path), " is set, and TLS is off"),
                      absl::StrCat("GRADTAP_TLS=1, or unset ", name));
    } else if (absl::Status fine = world->CheckPem(path); !fine.ok()) {
      report->Problem(
          kEnvironment,
          absl::StrCat("agents record nothing: ", name, "=", Quoted(path), " ",
                       std::string(fine.message())),
          "name a PEM file that this user can read");
    }
  }
  if (o.tls_cert_file.empty() != o.tls_key_file.empty()) {
    report->Problem(kEnvironment,
                    "agents record nothing: of GRADTAP_TLS_CERT and "
                    "GRADTAP_TLS_KEY one is set without the other",
                    "set both, or neither");
  }
}

// Without what is before the host, which may be a password.
std::string ProxyText(const std::string& value) {
  const std::size_t at = value.rfind('@');
  return Quoted(
      at == std::string::npos ? value : absl::StrCat("...", value.substr(at)));
}

// gRPC's own order.
void ReportProxies(World* world, DoctorPlan* plan, Report* report) {
  constexpr char kCheck[] = "proxy";
  std::string variable;
  std::string value;
  for (const char* name : {"grpc_proxy", "https_proxy", "http_proxy"}) {
    value = world->Variable(name).value_or("");
    variable = name;
    if (!value.empty()) break;
  }
  const bool asked = plan->settings.options.use_proxy;
  if (value.empty()) {
    if (asked) {
      report->Note(kCheck,
                   "GRADTAP_PROXY is on, and none of grpc_proxy, https_proxy, "
                   "http_proxy is set: agents dial the collector directly",
                   "set one of them, or unset GRADTAP_PROXY");
    } else {
      report->Ok(kCheck, "none is set");
    }
    return;
  }
  const std::string shown = absl::StrCat(variable, "=", ProxyText(value));
  if (!asked) {
    report->Ok(kCheck, absl::StrCat(shown,
                                    " is not used: agents dial the collector "
                                    "directly; GRADTAP_PROXY=1 changes that"));
    return;
  }
  plan->proxy_variable = variable;
  report->Note(kCheck,
               absl::StrCat("agents dial through ", shown,
                            ", unless the collector is on this machine, or "
                            "no_grpc_proxy or no_proxy names its host"),
               "unset GRADTAP_PROXY if the collector can be reached directly");
}

}  // namespace

void Report::Add(std::string_view check, Finding::Level level,
                 std::string_view what, std::string_view advice) {
  Finding finding;
  finding.check = std::string(check);
  finding.level = level;
  finding.what = EscapeForTerminal(what.substr(0, kMostBytes));
  finding.advice = EscapeForTerminal(advice.substr(0, kMostBytes));
  findings_.push_back(std::move(finding));
}

std::string Quoted(std::string_view text) {
  return absl::StrCat("'", EscapeForTerminal(text.substr(0, 200)),
                      text.size() > 200 ? "...'" : "'");
}

DoctorPlan CheckEnvironment(World* world, const DoctorOptions& options,
                            Report* report) {
  DoctorPlan plan;
  const std::set<std::string> known = KnownNames();
  plan.settings = ReadVariables(world, options, "");
  plan.run = Value(world, options, "GRADTAP_RUN").value_or("");
  if (!IsValidRunName(plan.run)) plan.run.clear();  // Reported, and ignored.
  const bool disabled = plan.settings.disabled;
  if (disabled) {
    plan.settings = ReadVariables(world, options, "GRADTAP_DISABLED");
  }
  ReportSet(world, known, report);
  ReportUnknown(world, known, report);
  ReportSwitches(world, plan.settings, disabled, report);
  ReportSettings(plan.settings, report);
  ReportTlsFiles(world, plan.settings.options, report);
  ReportProxies(world, &plan, report);
  return plan;
}

std::vector<Finding> Examine(World* world, const DoctorOptions& options) {
  Report report;
  const DoctorPlan plan = CheckEnvironment(world, options, &report);
  CheckCollector(world, plan, options, &report);
  CheckHost(world, plan, &report);
  return report.Take();
}

}  // namespace gradtap::client
