#include "agent/delivery/options.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/bearer_token.h"
#include "core/names.h"
#include "core/peer_address.h"

namespace gradtap::agent {
namespace {

constexpr std::uint64_t kMinRingBytes = 64 * 1024;
constexpr std::uint64_t kMaxRingBytes = std::uint64_t{64} << 30;
constexpr std::uint64_t kMinSpoolBytes = 1u << 20;
constexpr std::size_t kMaxTags = 64;

std::string Shown(std::string_view text) {
  return absl::StrCat("'", EscapeForTerminal(text.substr(0, 200)), "'");
}

bool IsTagKey(std::string_view key) {
  return key.size() >= 1 && key.size() <= 64 &&
         std::all_of(key.begin(), key.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
         });
}

absl::Status ValidateTags(const DeliveryOptions& options) {
  if (options.tags.size() > kMaxTags) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tags: ", options.tags.size(), " of them; at most ", kMaxTags));
  }
  for (const auto& [key, value] : options.tags) {
    if (!IsTagKey(key)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tags: the key ", Shown(key),
                       " is not 1 to 64 characters of A-Z a-z 0-9 . _ -"));
    }
    if (value.size() > 512 || !IsValidUtf8(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tags: the value of ", Shown(key),
                       " is longer than 512 bytes or not UTF-8"));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateSecurity(const DeliveryOptions& options) {
  if (!options.tls) {
    const bool has_token =
        !options.token.empty() || !options.token_file.empty();
    if (has_token && !StaysOnThisMachine(options.collector) &&
        !(options.offline && options.collector.empty())) {
      return absl::InvalidArgumentError(
          absl::StrCat("token: it would travel to ", Shown(options.collector),
                       " unencrypted; set tls (GRADTAP_TLS=1) too"));
    }
    for (const auto* file : {&options.tls_ca_file, &options.tls_cert_file,
                             &options.tls_key_file}) {
      if (!file->empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("tls: it is off, and the file ", Shown(*file),
                         " is named for it; set tls (GRADTAP_TLS=1)"));
      }
    }
  }
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError(
        "tls_cert_file and tls_key_file: one is set without the other");
  }
  return options.token.empty() ? absl::OkStatus()
                               : CheckBearerToken(options.token);
}

}  // namespace

absl::Status ValidateCollector(std::string_view collector) {
  if (IsSocketAddress(collector)) return absl::OkStatus();
  const auto wrong = [&](const char* what) {
    return absl::InvalidArgumentError(
        absl::StrCat("collector: ", Shown(collector), " ", what,
                     "; HOST:PORT is expected, as in 127.0.0.1:7317, or "
                     "unix:/PATH"));
  };
  const std::size_t colon = collector.rfind(':');
  if (colon == std::string_view::npos) return wrong("has no port");
  std::string_view host = collector.substr(0, colon);
  const std::string_view port = collector.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return wrong("has more than one colon (an IPv6 address needs brackets)");
  }
  if (host.empty() || host.size() > 253) return wrong("has no usable host");
  for (const unsigned char c : host) {
    if (c <= 0x20 || c >= 0x7f || std::strchr("/\\@?#,[]\"'", c) != nullptr) {
      return wrong("has a host with characters that no host has");
    }
  }
  std::uint32_t number = 0;
  const bool digits =
      !port.empty() && std::all_of(port.begin(), port.end(),
                                   [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || !absl::SimpleAtoi({port.data(), port.size()}, &number) ||
      number < 1 || number > 65535) {
    return wrong("has a port that is not a number from 1 to 65535");
  }
  return absl::OkStatus();
}

absl::Status ValidateOptions(const DeliveryOptions& options) {
  const bool for_any = options.offline && options.collector.empty();
  if (auto status = ValidateCollector(options.collector);
      !status.ok() && !for_any) {
    return status;
  }
  if (!IsValidRunName(options.run)) {
    return absl::InvalidArgumentError(
        absl::StrCat("run: ", Shown(options.run),
                     " is not 1 to 128 characters of A-Z a-z 0-9 . _ -"));
  }
  if (options.launch.size() > 128 || !IsValidUtf8(options.launch)) {
    return absl::InvalidArgumentError(
        absl::StrCat("launch: ", Shown(options.launch),
                     " is longer than 128 bytes or not UTF-8"));
  }
  if (options.world_size == 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank: ", options.rank, " is not below the world size, ",
                     options.world_size));
  }
  if (options.offline && options.spool_folder.empty()) {
    return absl::InvalidArgumentError(
        "spool_folder: offline, records go to the spool alone, and there is "
        "none");
  }
  if (options.spool_bytes < kMinSpoolBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("spool_bytes: ", options.spool_bytes, " is less than ",
                     kMinSpoolBytes));
  }
  if (options.ring_bytes != 0 && (options.ring_bytes < kMinRingBytes ||
                                  options.ring_bytes > kMaxRingBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring_bytes: ", options.ring_bytes, " is not from ",
                     kMinRingBytes, " to ", kMaxRingBytes));
  }
  if (auto status = ValidateTags(options); !status.ok()) return status;
  return ValidateSecurity(options);
}

}  // namespace gradtap::agent
