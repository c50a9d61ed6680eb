#include "server/ingest/hello.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kNonceBytes = 16;
constexpr std::size_t kMaxLaunchBytes = 128;
constexpr std::size_t kMaxTagKeyBytes = 64;
constexpr std::size_t kMaxTextBytes = 512;

// Short and safe, for an error message.
std::string Shown(std::string_view text) {
  constexpr std::size_t kShown = 64;
  const bool cut = text.size() > kShown;
  return absl::StrCat("'", EscapeForTerminal(text.substr(0, kShown)),
                      cut ? "...'" : "'");
}

absl::Status Bad(std::string_view field, const std::string& value,
                 std::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("Hello.", std::string(field),
                                                 " is ", value, "; it must be ",
                                                 std::string(wanted)));
}

absl::Status CheckText(std::string_view field, const std::string& text) {
  if (text.size() > kMaxTextBytes) {
    return Bad(field, absl::StrCat("of ", text.size(), " bytes"),
               "at most 512 bytes");
  }
  if (!IsValidUtf8(text)) return Bad(field, Shown(text), "valid UTF-8");
  return absl::OkStatus();
}

bool IsTagKey(std::string_view key) {
  return !key.empty() && key.size() <= kMaxTagKeyBytes &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
         });
}

absl::Status CheckTags(const HelloUntrusted& hello_untrusted,
                       StreamHello* hello) {
  if (hello_untrusted.tags.size() > kMaxTags) {
    return Bad("tags", absl::StrCat(hello_untrusted.tags.size(), " tags"),
               "at most 64");
  }
  for (const auto& [key, value] : hello_untrusted.tags) {
    if (!IsTagKey(key)) {
      return Bad("tags.key", Shown(key), "1 to 64 of [A-Za-z0-9._-]");
    }
    if (const auto s = CheckText("tags.value", value); !s.ok()) return s;
    if (!hello->tags.emplace(key, value).second) {
      return Bad("tags", absl::StrCat(Shown(key), " twice"),
                 "one value for each key");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckIdentity(const HelloUntrusted& hello_untrusted) {
  if (!IsValidRunName(hello_untrusted.run)) {
    return Bad("run", Shown(hello_untrusted.run),
               "1 to 128 of [A-Za-z0-9._-], and not . or ..");
  }
  if (hello_untrusted.launch.empty() ||
      hello_untrusted.launch.size() > kMaxLaunchBytes) {
    return Bad("launch",
               absl::StrCat("of ", hello_untrusted.launch.size(), " bytes"),
               "1 to 128 bytes");
  }
  if (hello_untrusted.world_size == 0 ||
      hello_untrusted.rank >= hello_untrusted.world_size) {
    return Bad(
        "rank", absl::StrCat(hello_untrusted.rank),
        absl::StrCat("below the world size, ", hello_untrusted.world_size));
  }
  if (hello_untrusted.process_nonce.size() != kNonceBytes) {
    return Bad(
        "process_nonce",
        absl::StrCat("of ", hello_untrusted.process_nonce.size(), " bytes"),
        "16 bytes");
  }
  if (hello_untrusted.start_time_unix_ns < 0) {
    return Bad("start_time_unix_ns",
               absl::StrCat(hello_untrusted.start_time_unix_ns),
               "a time after 1970");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StreamHello> ValidateHello(
    const HelloUntrusted& hello_untrusted) {
  if (hello_untrusted.protocol_version != kProtocolVersion) {
    return absl::UnimplementedError(absl::StrCat(
        "the agent speaks protocol version ", hello_untrusted.protocol_version,
        "; this collector speaks ", kProtocolVersion));
  }
  if (const auto s = CheckIdentity(hello_untrusted); !s.ok()) return s;
  const std::pair<std::string_view, const std::string&> texts[] = {
      {"launch", hello_untrusted.launch},
      {"agent_version", hello_untrusted.agent_version},
      {"torch_version", hello_untrusted.torch_version},
      {"host", hello_untrusted.host}};
  for (const auto& [field, text] : texts) {
    if (const auto s = CheckText(field, text); !s.ok()) return s;
  }
  StreamHello hello;
  if (const auto s = CheckTags(hello_untrusted, &hello); !s.ok()) return s;
  hello.run = hello_untrusted.run;
  hello.launch = hello_untrusted.launch;
  hello.rank = hello_untrusted.rank;
  hello.world_size = hello_untrusted.world_size;
  hello.process_nonce = hello_untrusted.process_nonce;
  hello.start_time_unix_ns = hello_untrusted.start_time_unix_ns;
  hello.host = hello_untrusted.host;
  hello.pid = hello_untrusted.pid;
  hello.agent_version = hello_untrusted.agent_version;
  hello.torch_version = hello_untrusted.torch_version;
  return hello;
}

}  // namespace gradtap::server
