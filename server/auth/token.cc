#include "server/auth/token.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kTokenWord = "gradtap_";
constexpr std::size_t kIdDigits = 8;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kSecretDigits = 43;  // Of base64url, without padding.

constexpr char kHead[] =
    "# gradtap tokens, made by `gradtapd token`. These are hashes: nobody gets "
    "in with them.\n";
// What a head begins with, by whatever version.
constexpr std::string_view kHeadWords = "# gradtap tokens";

std::string Hex(std::string_view bytes) {
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

bool IsHex(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

using Fields = std::map<std::string, std::string>;

// "key=value key=value"; false: a word is not of that form, or a key twice.
bool SplitFields(const std::string& line, Fields* fields) {
  const std::vector<std::string> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  for (const std::string& word : words) {
    const std::size_t is = word.find('=');
    if (is == std::string::npos) return false;
    if (!fields->emplace(word.substr(0, is), word.substr(is + 1)).second) {
      return false;
    }
  }
  return true;
}

bool ParseEntry(Fields fields, TokenEntry* entry) {
  constexpr const char* kKeys[] = {"id",      "role",   "runs", "created",
                                   "expires", "sha256", "name"};
  for (const char* key : kKeys) {
    if (fields.count(key) == 0) return false;
  }
  if (fields.size() != std::size(kKeys)) return false;
  const absl::StatusOr<Rights> rights = ParseRights(fields["role"]);
  const std::string& hash = fields["sha256"];
  if (!rights.ok() || !IsHex(fields["id"], kIdDigits) ||
      !IsHex(hash, 2 * sizeof(TokenHash)) || !IsValidRunName(fields["name"]) ||
      (!fields["runs"].empty() && !IsValidRunName(fields["runs"])) ||
      !absl::SimpleAtoi(fields["created"], &entry->created_unix_s) ||
      !absl::SimpleAtoi(fields["expires"], &entry->expires_unix_s) ||
      entry->created_unix_s < 0 || entry->expires_unix_s < 0) {
    return false;
  }
  entry->id = fields["id"];
  entry->name = fields["name"];
  entry->rights = *rights;
  entry->runs = fields["runs"];
  // Abseil's has another signature in each of its versions.
  std::size_t bytes = 0;
  return OPENSSL_hexstr2buf_ex(entry->hash.data(), entry->hash.size(), &bytes,
                               hash.c_str(), '\0') == 1 &&
         bytes == entry->hash.size();
}

}  // namespace

absl::StatusOr<std::string> MakeToken() {
  unsigned char random[kIdDigits / 2 + kSecretBytes];
  if (RAND_bytes(random, sizeof random) != 1) {
    return absl::InternalError("the system has no random bytes to give");
  }
  const std::string bytes(reinterpret_cast<const char*>(random), sizeof random);
  OPENSSL_cleanse(random, sizeof random);
  return absl::StrCat(std::string(kTokenWord),
                      Hex(bytes.substr(0, kIdDigits / 2)), "_",
                      absl::WebSafeBase64Escape(bytes.substr(kIdDigits / 2)));
}

std::string_view IdOf(std::string_view token_untrusted) {
  constexpr std::size_t kSize =
      kTokenWord.size() + kIdDigits + 1 + kSecretDigits;
  if (token_untrusted.size() != kSize ||
      !token_untrusted.starts_with(kTokenWord)) {
    return {};
  }
  const std::string_view id =
      token_untrusted.substr(kTokenWord.size(), kIdDigits);
  const bool good = IsHex(id, kIdDigits) &&
                    token_untrusted[kTokenWord.size() + kIdDigits] == '_';
  return good ? id : std::string_view();
}

TokenHash HashOf(std::string_view token) {
  TokenHash hash;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         hash.data());
  return hash;
}

bool SameHash(const TokenHash& a, const TokenHash& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

absl::StatusOr<std::vector<TokenEntry>> ParseTokens(std::string_view text) {
  std::vector<TokenEntry> entries;
  int number = 0;
  const std::vector<std::string> lines =
      absl::StrSplit(std::string(text), '\n');
  for (const std::string& line : lines) {
    ++number;
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    Fields fields;
    TokenEntry entry;
    if (!SplitFields(line, &fields) || !ParseEntry(fields, &entry)) {
      return absl::DataLossError(absl::StrCat(
          "line ", number, " is not a token's: restore it, or take it out"));
    }
    const bool twice =
        std::any_of(entries.begin(), entries.end(),
                    [&](const TokenEntry& one) { return one.id == entry.id; });
    if (twice) {
      return absl::DataLossError(absl::StrCat(
          "line ", number, " has the id of another one: take one out"));
    }
    entries.push_back(std::move(entry));
  }
  // Somebody writes it in place, or could not: it is not what it is to be.
  if (!text.empty() && text.back() != '\n') {
    return absl::DataLossError(
        absl::StrCat("line ", number,
                     " has no end, the file may be cut off: restore it, or end "
                     "the line"));
  }
  if (entries.empty() && !text.starts_with(kHeadWords)) {
    return absl::DataLossError(
        "it has no token, and not the first line of a list without one: "
        "restore it, or remove it and make a token with `gradtapd token "
        "create`");
  }
  return entries;
}

std::string FormatTokens(const std::vector<TokenEntry>& entries) {
  std::string text = kHead;
  for (const TokenEntry& entry : entries) {
    absl::StrAppend(&text, "id=", entry.id, " role=", ToString(entry.rights),
                    " runs=", entry.runs, " created=", entry.created_unix_s,
                    " expires=", entry.expires_unix_s, " sha256=",
                    Hex({reinterpret_cast<const char*>(entry.hash.data()),
                         entry.hash.size()}),
                    " name=", entry.name, "\n");
  }
  return text;
}

}  // namespace gradtap::server
