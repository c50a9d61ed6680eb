// gradtapd token create, list, revoke

#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/clock.h"
#include "core/names.h"
#include "server/auth/file_stamp.h"
#include "server/auth/token_file.h"
#include "server/keeping/option_values.h"
#include "server/subcommands.h"

namespace gradtap::server {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

struct TokenOptions {
  std::string name;
  std::string role;
  std::string runs;
  std::string expires_in;
  std::string id;
};

int Failed(const absl::Status& status) {
  Say(std::string(status.message()));
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

// "2026-11-29T19:19:29Z".
std::string Time(std::int64_t unix_s) {
  const auto seconds = static_cast<std::time_t>(unix_s);
  std::tm utc{};
  char text[32] = "?";
  if (::gmtime_r(&seconds, &utc) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  }
  return text;
}

// Of a file that is not there yet there are none.
absl::StatusOr<std::vector<TokenEntry>> ReadOrNone(const std::string& file) {
  absl::StatusOr<std::vector<TokenEntry>> entries = ReadTokenFile(file);
  if (StampOf(file) == FileStamp()) return std::vector<TokenEntry>();
  return entries;
}

absl::StatusOr<TokenEntry> EntryOf(const TokenOptions& options,
                                   std::int64_t now_unix_ns) {
  TokenEntry entry;
  if (!IsValidRunName(options.name)) {
    return absl::InvalidArgumentError(
        "--name '" + options.name +
        "': whose token it is, 1 to 128 characters of A-Z a-z 0-9 . _ -");
  }
  const absl::StatusOr<Rights> rights = ParseRights(options.role);
  if (!rights.ok()) {
    return absl::InvalidArgumentError("--role: " +
                                      std::string(rights.status().message()));
  }
  if (!options.runs.empty() && !IsValidRunName(options.runs)) {
    return absl::InvalidArgumentError(
        "--runs '" + options.runs +
        "': what the names of runs begin with, 1 to 128 characters of A-Z a-z "
        "0-9 . _ -");
  }
  entry.created_unix_s = now_unix_ns / kSecond;
  if (!options.expires_in.empty()) {
    const auto after = ParseDuration(options.expires_in);
    if (!after.ok()) {
      return absl::InvalidArgumentError("--expires-in: " +
                                        std::string(after.status().message()));
    }
    if (*after <= std::chrono::nanoseconds(0)) {
      return absl::InvalidArgumentError(
          "--expires-in " + options.expires_in +
          ": leave it out for a token that does not expire");
    }
    entry.expires_unix_s =
        entry.created_unix_s +
        std::chrono::duration_cast<std::chrono::seconds>(*after).count();
  }
  entry.name = options.name;
  entry.rights = *rights;
  entry.runs = options.runs;
  return entry;
}

void SayMade(const TokenEntry& entry, const std::string& file, bool first) {
  Say("token " + entry.id + " of " + entry.name + ": " +
      ToString(entry.rights) + ", " +
      (entry.runs.empty() ? "all runs" : "runs " + entry.runs + "*") +
      (entry.expires_unix_s == 0 ? ""
                                 : ", until " + Time(entry.expires_unix_s)) +
      "; it is not shown again, " + file + " has its hash");
  if (first) {
    Say("a collector that runs without tokens asks for them once it is started "
        "again");
  }
}

int Create(const std::string& file, const TokenOptions& options) {
  absl::StatusOr<TokenEntry> entry = EntryOf(options, RealClock().UnixNanos());
  if (!entry.ok()) return Failed(entry.status());
  const absl::StatusOr<std::string> token = MakeToken();
  if (!token.ok()) return Failed(token.status());
  entry->id = std::string(IdOf(*token));
  entry->hash = HashOf(*token);
  bool first = false;
  const auto add = [&](std::vector<TokenEntry>* entries) {
    first = entries->empty();
    for (const TokenEntry& one : *entries) {
      if (one.id == entry->id) {
        return absl::AbortedError("an id came twice; try again");
      }
    }
    entries->push_back(*entry);
    return absl::OkStatus();
  };
  const absl::Status written = ChangeTokenFile(file, add);
  if (!written.ok()) return Failed(written);
  std::printf("%s\n", token->c_str());
  SayMade(*entry, file, first);
  return 0;
}

int List(const std::string& file) {
  const absl::StatusOr<std::vector<TokenEntry>> entries = ReadOrNone(file);
  if (!entries.ok()) return Failed(entries.status());
  std::printf("%-8s  %-10s  %-20s  %-20s  %-20s  %s\n", "ID", "ROLE", "CREATED",
              "EXPIRES", "RUNS", "NAME");
  for (const TokenEntry& entry : *entries) {
    std::printf("%-8s  %-10s  %-20s  %-20s  %-20s  %s\n", entry.id.c_str(),
                ToString(entry.rights).c_str(),
                Time(entry.created_unix_s).c_str(),
                entry.expires_unix_s == 0 ? "never"
                                          : Time(entry.expires_unix_s).c_str(),
                entry.runs.empty() ? "all" : (entry.runs + "*").c_str(),
                entry.name.c_str());
  }
  return 0;
}

int Revoke(const std::string& file, const std::string& id) {
  const auto take = [&](std::vector<TokenEntry>* entries) {
    const auto same = [&](const TokenEntry& one) { return one.id == id; };
    if (std::erase_if(*entries, same) > 0) return absl::OkStatus();
    return absl::NotFoundError("no token has the id '" + id +
                               "'; `gradtapd token list` shows them");
  };
  const absl::Status written = ChangeTokenFile(file, take);
  if (!written.ok()) return Failed(written);
  std::printf("token %s is revoked\n", id.c_str());
  return 0;
}

void AddCreate(CLI::App* create, TokenOptions* options) {
  create->fallthrough();
  create
      ->add_option("--name", options->name,
                   "Whose it is: a host, a person, a service")
      ->required();
  create
      ->add_option("--role", options->role,
                   "write: agents; read: queries and the page; admin: those, "
                   "and delete, pin, backup, compact. Several: write,read")
      ->option_text("write|read|admin REQUIRED")
      ->required();
  create
      ->add_option("--runs", options->runs,
                   "Only for runs whose names begin with this; default: all")
      ->option_text("PREFIX");
  create
      ->add_option("--expires-in", options->expires_in,
                   "It is a token for so long: 90d, 12h; default: for ever")
      ->option_text("TIME");
  create->footer(
      "The token is on standard output, all that is said of it on standard "
      "error. It is\nnot shown again. Which file has its hash: --data-dir and "
      "--tokens, as of\n`gradtapd token`.\n\n"
      "Examples:\n"
      "  (umask 077; gradtapd token create --name cluster-a --role write > "
      "token)\n"
      "  gradtapd token create --name ann --role read --runs vision- "
      "--expires-in 90d\n"
      "  gradtapd --config /etc/gradtap/gradtapd.conf token create --name ann "
      "--role read");
}

void AddList(CLI::App* list) {
  list->fallthrough();
  list->footer(
      "ID, role, when it was made and when it ends, its runs, its name; of the "
      "token\nitself nothing. Which file: --data-dir and --tokens, as of "
      "`gradtapd token`.\n\n"
      "Example:\n"
      "  gradtapd token list");
}

void AddRevoke(CLI::App* revoke, TokenOptions* options) {
  revoke->fallthrough();
  revoke->add_option("ID", options->id, "As `gradtapd token list` shows it")
      ->required();
  revoke->footer(
      "A running collector knows it within a second. Which file: --data-dir "
      "and\n--tokens, as of `gradtapd token`.\n\n"
      "Example:\n"
      "  gradtapd token revoke 3f9a0c1d");
}

}  // namespace

Subcommand AddToken(CLI::App& app, std::string* file) {
  const auto options = std::make_shared<TokenOptions>();
  app.add_option("--tokens", *file,
                 "The file of tokens; default: that of the collector's options "
                 "(--config), else 'tokens' in the data folder")
      ->option_text("FILE");
  CLI::App* const create =
      app.add_subcommand("create", "Make a token and print it, this once");
  AddCreate(create, options.get());
  CLI::App* const list =
      app.add_subcommand("list", "Whose tokens there are, and what they may");
  AddList(list);
  CLI::App* const revoke = app.add_subcommand(
      "revoke", "From now on it is a token no more; what it has open ends");
  AddRevoke(revoke, options.get());
  app.require_subcommand(1);
  app.footer(
      "Kept are hashes alone, in a file of mode 0600 that a running collector "
      "reads\nagain when it changes.\n\n"
      "Examples:\n"
      "  (umask 077; gradtapd token create --name cluster-a --role write > "
      "token)\n"
      "  gradtapd token create --name ann --role read --runs vision- "
      "--expires-in 90d\n"
      "  gradtapd token revoke 3f9a0c1d");
  return [=](const std::string& data_dir) {
    const std::string path = file->empty() ? TokenFileIn(data_dir) : *file;
    if (create->parsed()) return Create(path, *options);
    if (list->parsed()) return List(path);
    return Revoke(path, options->id);
  };
}

}  // namespace gradtap::server
