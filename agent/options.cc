#include "agent/options.h"

#include <arpa/inet.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "agent/delivery/ring_folder.h"
#include "agent/launch.h"
#include "agent/spool/default_root.h"
#include "core/bearer_token.h"
#include "core/name_filter.h"
#include "core/names.h"
#include "core/peer_address.h"

namespace gradtap::agent {
namespace {

constexpr std::int64_t kMaxInterval = std::int64_t{1} << 30;
constexpr std::int64_t kMaxAuditSteps = std::int64_t{1} << 20;
constexpr std::uint64_t kMinRingBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxRingBytes = std::uint64_t{64} << 30;
constexpr std::uint64_t kMinSpoolBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxSpoolBytes = std::uint64_t{1} << 40;
constexpr std::int64_t kMaxShutdownMs = 24ll * 3600 * 1000;
constexpr std::size_t kMaxTags = 64;
constexpr std::size_t kMaxTagKeyBytes = 64;
constexpr char kDefaultPort[] = "7317";

std::string Quoted(const std::string& text) {
  return "'" + EscapeForTerminal(text.substr(0, 200)) + "'";
}

bool IsTagKey(const std::string& key) {
  return key.size() <= kMaxTagKeyBytes && ToRunName(key) == key && !key.empty();
}

bool IsPort(std::string_view text) {
  unsigned port = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, port);
  return error == std::errc() && at == end && port >= 1 && port <= 65535;
}

bool IsHost(std::string_view text) {
  for (const char c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '.' || c == '-' ||
                      c == '_';
    if (!fine) return false;
  }
  return !text.empty() && text.size() <= 253;
}

bool IsV6(const std::string& text) {
  in6_addr address;
  return ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

// Reads variables into fields: what does not parse is reported, and the field
// keeps its value.
class Overrides {
 public:
  Overrides(const Environment& environment, Settings* settings)
      : environment_(environment), settings_(*settings) {}

  // Null if not set, or empty.
  const char* Get(const char* name) const {
    const char* value = environment_(name);
    return value == nullptr || *value == '\0' ? nullptr : value;
  }

  void Report(const char* name, const std::string& wants) {
    settings_.problems.push_back(std::string(name) + "=" + Quoted(Get(name)) +
                                 " is ignored: it wants " + wants);
  }

  void Text(const char* name, std::string* field) {
    if (const char* value = Get(name)) *field = value;
  }

  void Bool(const char* name, bool* field) {
    const char* value = Get(name);
    if (value == nullptr) return;
    const std::string_view text = value;
    if (text == "1" || text == "true" || text == "on" || text == "yes") {
      *field = true;
    } else if (text == "0" || text == "false" || text == "off" ||
               text == "no") {
      *field = false;
    } else {
      Report(name, "1 or 0");
    }
  }

  template <typename T>
  void Number(const char* name, std::int64_t low, std::int64_t high, T* field) {
    const char* value = Get(name);
    if (value == nullptr) return;
    const std::string_view text = value;
    std::int64_t number = 0;
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || at != end || number < low || number > high) {
      Report(name, "a whole number from " + std::to_string(low) + " to " +
                       std::to_string(high));
      return;
    }
    *field = static_cast<T>(number);
  }

  // From 0 to 1.
  void Share(const char* name, double* field) {
    const char* value = Get(name);
    if (value == nullptr) return;
    const std::string_view text = value;
    double number = 0;
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || at != end || !(number >= 0 && number <= 1)) {
      Report(name, "a share from 0 to 1, like 0.05");
      return;
    }
    *field = number;
  }

  void Patterns(const char* name, std::vector<std::string>* field) {
    const char* value = Get(name);
    if (value == nullptr) return;
    const auto filter = NameFilter::Create({value});
    if (!filter.ok()) {
      settings_.problems.push_back(std::string(name) + " is ignored: " +
                                   std::string(filter.status().message()));
      return;
    }
    *field = {value};
  }

 private:
  const Environment& environment_;
  Settings& settings_;
};

// "weight,grad": those and no others.
void ReadMode(Overrides* from, bool* offline) {
  const char* value = from->Get("GRADTAP_MODE");
  if (value == nullptr) return;
  const std::string_view mode = value;
  if (mode == "online" || mode == "offline") {
    *offline = mode == "offline";
  } else {
    from->Report("GRADTAP_MODE", "online or offline");
  }
}

void ReadRoles(Overrides* from, RoleOptions* roles) {
  const char* value = from->Get("GRADTAP_ROLES");
  if (value == nullptr) return;
  RoleOptions read{false, false, false, false};
  std::stringstream list{std::string(value)};
  for (std::string role; std::getline(list, role, ',');) {
    if (role == "weight") {
      read.weight = true;
    } else if (role == "grad") {
      read.grad = true;
    } else if (role == "update") {
      read.update = true;
    } else if (role == "buffer") {
      read.buffer = true;
    } else {
      from->Report("GRADTAP_ROLES",
                   "a list like weight,grad,update,buffer; no role is called " +
                       Quoted(role));
      return;
    }
  }
  *roles = read;
}

void ReadRingFolder(Overrides* from, std::string* folder) {
  *folder = DefaultRingFolder();
  from->Text("GRADTAP_RING_FOLDER", folder);
  if (*folder == "off") folder->clear();
}

void ReadTags(Overrides* from, std::map<std::string, std::string>* tags) {
  const char* value = from->Get("GRADTAP_TAGS");
  if (value == nullptr) return;
  std::stringstream list{std::string(value)};
  for (std::string tag; std::getline(list, tag, ',');) {
    if (tag.empty()) continue;
    const std::size_t equals = tag.find('=');
    if (equals == std::string::npos || equals == 0) {
      from->Report("GRADTAP_TAGS", "a list like key=value,key2=value2");
      continue;
    }
    (*tags)[tag.substr(0, equals)] = tag.substr(equals + 1);
  }
}

// What a variable says wins over what the program does.
void ChooseToken(Overrides* from, AgentOptions* o) {
  if (const char* token = from->Get("GRADTAP_TOKEN")) {
    o->token = token;
    o->token_file.clear();
  } else if (const char* path = from->Get("GRADTAP_TOKEN_FILE")) {
    o->token_file = path;
  }
}

// `*path` becomes where the file is now, even if the program goes elsewhere.
// False: Attach would wait for whoever writes into it. What is not there, or
// may not be read, is said by who reads it.
bool Settle(const char* option, std::string* path, Settings* s) {
  std::error_code failed;
  const auto absolute = std::filesystem::absolute(*path, failed);
  if (!failed) *path = absolute.string();
  if (!std::filesystem::is_other(*path, failed)) return true;
  s->errors.push_back(std::string(option) + ": " + Quoted(*path) +
                      " is no regular file: name one that stays");
  return false;
}

void CheckTlsFiles(Settings* s) {
  AgentOptions& o = s->options;
  if (!o.tls) return;
  const std::pair<const char*, std::string*> files[] = {
      {"GRADTAP_TLS_CA", &o.tls_ca_file},
      {"GRADTAP_TLS_CERT", &o.tls_cert_file},
      {"GRADTAP_TLS_KEY", &o.tls_key_file}};
  for (const auto& [name, path] : files) {
    if (!path->empty()) Settle(name, path, s);
  }
}

void CompleteToken(Settings* settings) {
  AgentOptions& o = settings->options;
  if (o.token_file.empty()) return;
  if (!Settle("GRADTAP_TOKEN_FILE", &o.token_file, settings)) return;
  absl::StatusOr<std::string> token = ReadBearerToken(o.token_file);
  if (token.ok()) {
    o.token = *std::move(token);
  } else {
    settings->errors.push_back(std::string(token.status().message()));
  }
}

void ReadEnvironment(const Environment& environment, Settings* settings) {
  AgentOptions& o = settings->options;
  Overrides from(environment, settings);
  constexpr int kMaxRank = std::numeric_limits<int>::max() - 1;
  if (const char* value = from.Get("GRADTAP_COLLECTOR")) {
    if (CompleteAddress(value).empty()) {
      from.Report("GRADTAP_COLLECTOR",
                  "HOST:PORT, without a scheme, or unix:/PATH");
    } else {
      o.collector = value;
    }
  }
  if (const char* value = from.Get("GRADTAP_RUN")) {
    if (IsValidRunName(value)) {
      o.run = value;
    } else {
      from.Report("GRADTAP_RUN",
                  "1 to 128 letters, digits, dots, underscores or dashes");
    }
  }
  from.Number("GRADTAP_RANK", 0, kMaxRank, &o.rank);
  from.Number("GRADTAP_WORLD_SIZE", 1, kMaxRank, &o.world_size);
  ReadTags(&from, &o.tags);
  from.Patterns("GRADTAP_INCLUDE", &o.include);
  from.Patterns("GRADTAP_EXCLUDE", &o.exclude);
  from.Patterns("GRADTAP_SHARDED", &o.sharded);
  ReadRoles(&from, &o.roles);
  from.Number("GRADTAP_INTERVAL", 1, kMaxInterval, &o.interval_steps);
  from.Number("GRADTAP_HISTOGRAM_INTERVAL", 0, kMaxInterval,
              &o.histogram_interval_steps);
  from.Share("GRADTAP_BUDGET", &o.overhead_budget);
  from.Number("GRADTAP_AUDIT", 0, kMaxAuditSteps, &o.audit_steps);
  from.Number("GRADTAP_RING_BYTES", static_cast<std::int64_t>(kMinRingBytes),
              static_cast<std::int64_t>(kMaxRingBytes), &o.ring_bytes);
  ReadRingFolder(&from, &settings->ring_folder);
  from.Text("GRADTAP_SPOOL", &o.spool);
  from.Number("GRADTAP_SPOOL_BYTES", static_cast<std::int64_t>(kMinSpoolBytes),
              static_cast<std::int64_t>(kMaxSpoolBytes), &o.spool_bytes);
  ReadMode(&from, &o.offline);
  std::int64_t shutdown_ms = o.shutdown_deadline.count();
  from.Number("GRADTAP_SHUTDOWN_MS", 0, kMaxShutdownMs, &shutdown_ms);
  o.shutdown_deadline = std::chrono::milliseconds(shutdown_ms);
  from.Bool("GRADTAP_SIGTERM", &o.stop_on_sigterm);
  from.Bool("GRADTAP_TLS", &o.tls);
  from.Text("GRADTAP_TLS_CA", &o.tls_ca_file);
  from.Text("GRADTAP_TLS_CERT", &o.tls_cert_file);
  from.Text("GRADTAP_TLS_KEY", &o.tls_key_file);
  ChooseToken(&from, &o);
  from.Bool("GRADTAP_PROXY", &o.use_proxy);
  from.Bool("GRADTAP_FORCE_DEVICE_PATH", &settings->force_device_path);
}

// "off" stays; else an absolute path, or nothing where there is no home. The
// program may change its working directory.
void CompleteSpool(const Environment& environment, Settings* settings) {
  std::string* const spool = &settings->options.spool;
  if (spool->empty()) {
    *spool =
        DefaultSpoolRoot(environment("XDG_STATE_HOME"), environment("HOME"));
  } else if (*spool != "off") {
    std::error_code failed;
    const auto absolute = std::filesystem::absolute(*spool, failed);
    if (!failed) *spool = absolute.string();
  }
  if (settings->options.offline && (spool->empty() || *spool == "off")) {
    settings->errors.push_back(
        "offline, everything goes to the spool, and there is none: set "
        "GRADTAP_SPOOL to a folder on a local disk");
  }
}

std::string DefaultRunName(const ProcessFacts& process) {
  char time[32] = "";
  const auto seconds = static_cast<std::time_t>(process.unix_seconds);
  std::tm utc{};
  if (::gmtime_r(&seconds, &utc) != nullptr) {
    std::strftime(time, sizeof(time), "%Y%m%dT%H%M%SZ", &utc);
  }
  // Program and host are cut, not the time between them.
  constexpr std::size_t kMaxPart = 50;
  return ToRunName(process.program.substr(0, kMaxPart) + "-" + time + "-" +
                   process.host.substr(0, kMaxPart));
}

void CompletePlace(const Environment& environment, Settings* settings) {
  AgentOptions& o = settings->options;
  const Place place = PlaceInJob(environment, &settings->problems);
  if (o.rank < 0) o.rank = place.rank < 0 ? 0 : place.rank;
  if (o.world_size < 0) {
    o.world_size = place.world_size < 1 ? 1 : place.world_size;
  }
  if (o.world_size < 1 || o.rank >= o.world_size) {
    settings->errors.push_back(
        "rank " + std::to_string(o.rank) + " is not below world size " +
        std::to_string(o.world_size) + ": set both, or neither");
  }
}

void CheckTags(Settings* settings) {
  std::map<std::string, std::string> good;
  for (const auto& [key, value] : settings->options.tags) {
    if (!IsTagKey(key)) {
      settings->problems.push_back(
          "tag " + Quoted(key) +
          " is ignored: a key is 1 to 64 letters, digits, dots, underscores "
          "or dashes");
    } else if (good.size() == kMaxTags) {
      settings->problems.push_back("only the first 64 tags are used");
      break;
    } else {
      good[key] = value.empty() ? value : SafeName(value);
    }
  }
  settings->options.tags = std::move(good);
}

void CheckRanges(Settings* settings) {
  AgentOptions& o = settings->options;
  const auto error = [&](const std::string& text) {
    settings->errors.push_back(text);
  };
  if (o.interval_steps < 1 || o.interval_steps > kMaxInterval) {
    error("interval_steps " + std::to_string(o.interval_steps) +
          " is out of range: 1 to 2^30");
  }
  if (o.histogram_interval_steps < 0 ||
      o.histogram_interval_steps > kMaxInterval) {
    error("histogram_interval_steps " +
          std::to_string(o.histogram_interval_steps) +
          " is out of range: 0 to 2^30");
  }
  // Not a number is not in it either.
  if (!(o.overhead_budget >= 0 && o.overhead_budget <= 1)) {
    error("overhead_budget " + std::to_string(o.overhead_budget) +
          " is out of range: a share from 0 to 1, like 0.05");
  }
  if (o.audit_steps < 0 || o.audit_steps > kMaxAuditSteps) {
    error("audit_steps " + std::to_string(o.audit_steps) +
          " is out of range: 0 to 2^20");
  }
  if (o.ring_bytes != 0 &&
      (o.ring_bytes < kMinRingBytes || o.ring_bytes > kMaxRingBytes)) {
    error("ring_bytes " + std::to_string(o.ring_bytes) +
          " is out of range: 0, or 1 MiB to 64 GiB");
  }
  if (o.spool_bytes < kMinSpoolBytes || o.spool_bytes > kMaxSpoolBytes) {
    error("spool_bytes " + std::to_string(o.spool_bytes) +
          " is out of range: 1 MiB to 1 TiB");
  }
  const auto ms = o.shutdown_deadline.count();
  if (ms < 0 || ms > kMaxShutdownMs) {
    error("shutdown_deadline of " + std::to_string(ms) +
          " ms is out of range: 0 to a day");
  }
  if (!o.token.empty() && !o.tls &&
      !StaysOnThisMachine(CompleteAddress(o.collector))) {
    error("a token is not sent to another machine, " + Quoted(o.collector) +
          ", without TLS: set tls, or drop the token");
  }
  for (const auto* patterns : {&o.include, &o.exclude, &o.sharded}) {
    const auto filter = NameFilter::Create(*patterns);
    if (!filter.ok()) error(std::string(filter.status().message()));
  }
}

}  // namespace

std::string CompleteAddress(const std::string& address) {
  if (IsSocketAddress(address)) return address;
  if (!address.empty() && address[0] == '[') {
    const std::size_t close = address.find(']');
    if (close == std::string::npos || !IsV6(address.substr(1, close - 1))) {
      return "";
    }
    const std::string rest = address.substr(close + 1);
    if (rest.empty()) return address + ":" + kDefaultPort;
    return rest[0] == ':' && IsPort(rest.substr(1)) ? address : "";
  }
  const std::size_t colon = address.find(':');
  if (colon != address.rfind(':')) {
    return IsV6(address) ? "[" + address + "]:" + kDefaultPort : "";
  }
  const std::string host = address.substr(0, colon);
  const std::string port =
      colon == std::string::npos ? kDefaultPort : address.substr(colon + 1);
  if (host.empty() && colon != 0) return "";
  if (!IsPort(port) || (!host.empty() && !IsHost(host))) return "";
  return (host.empty() ? "127.0.0.1" : host) + ":" + port;
}

std::string MeantFor(const AgentOptions& complete) {
  const bool told = complete.collector != AgentOptions().collector;
  return complete.offline && !told ? "" : complete.collector;
}

Settings ResolveSettings(AgentOptions options, const Environment& environment,
                         const ProcessFacts& process) {
  Settings settings;
  settings.options = std::move(options);
  Overrides from(environment, &settings);
  settings.log_off = from.Get("GRADTAP_LOG") != nullptr &&
                     std::string_view(from.Get("GRADTAP_LOG")) == "off";
  from.Bool("GRADTAP_DISABLED", &settings.disabled);
  if (settings.disabled) return settings;

  ReadEnvironment(environment, &settings);
  AgentOptions& o = settings.options;
  const std::string address = CompleteAddress(o.collector);
  if (address.empty()) {
    settings.errors.push_back("collector " + Quoted(o.collector) +
                              " is no address: give HOST:PORT, without a "
                              "scheme, or unix:/PATH");
  } else {
    o.collector = address;
  }
  CompletePlace(environment, &settings);
  CompleteSpool(environment, &settings);
  CompleteToken(&settings);
  CheckTlsFiles(&settings);
  settings.launch = LaunchKey(environment);
  const bool named = !o.run.empty();
  if (!named) o.run = JobRunName(environment);
  if (o.run.empty()) o.run = DefaultRunName(process);
  if (!IsValidRunName(o.run)) {
    settings.errors.push_back("run " + Quoted(o.run) +
                              " is no run name: use 1 to 128 letters, digits, "
                              "dots, underscores or dashes");
  }
  if (o.world_size > 1 && settings.launch.empty()) {
    settings.problems.push_back(
        "nothing says which processes belong to one launch: each rank will be "
        "an attempt of its own" +
        std::string(named ? "" : " in a run of its own") +
        "; set GRADTAP_LAUNCH" + (named ? "" : " and GRADTAP_RUN") +
        " to the same value on all ranks");
  }
  CheckTags(&settings);
  CheckRanges(&settings);
  return settings;
}

}  // namespace gradtap::agent
