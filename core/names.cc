#include "core/names.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/hash.h"

namespace gradtap {
namespace {

constexpr char kHex[] = "0123456789abcdef";

struct Character {
  std::size_t bytes = 0;  // 0: no valid character begins here.
  char32_t code = 0;
};

// Strict UTF-8 (RFC 3629). `text` is not empty.
Character Decode(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  char32_t code = lead & (0x7f >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = (code << 6) | (byte(i) & 0x3f);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[bytes] || code > 0x10ffff ||
      (code >= 0xd800 && code <= 0xdfff)) {
    return {};
  }
  return {bytes, code};
}

void AppendByteEscape(unsigned char byte, std::string* out) {
  out->append("\\x");
  out->push_back(kHex[byte >> 4]);
  out->push_back(kHex[byte & 15]);
}

void AppendHex(std::uint64_t value, int digits, std::string* out) {
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) {
    out->push_back(kHex[(value >> shift) & 15]);
  }
}

// What would change how the text around it is shown, or is not shown at all:
// C1 controls, bidirectional controls, line and paragraph separators, zero
// width space, word joiner, byte order mark, interlinear annotation, tags.
bool MustEscape(char32_t c) {
  return (c >= 0x80 && c <= 0x9f) || c == 0x061c || c == 0x200b ||
         c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
         (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = Decode(text).bytes;
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string SafeName(std::string_view name) {
  if (name.empty()) return "(empty)";
  constexpr std::size_t kSuffix = 1 + 16;
  std::string out;
  out.reserve(std::min(name.size(), kMaxNameBytes));
  std::size_t cut = 0;  // Where a cut leaves whole characters and escapes.
  std::string_view rest = name;
  while (!rest.empty() && out.size() <= kMaxNameBytes) {
    if (out.size() <= kMaxNameBytes - kSuffix) cut = out.size();
    const std::size_t bytes = Decode(rest).bytes;
    if (bytes == 0) {
      AppendByteEscape(static_cast<unsigned char>(rest[0]), &out);
      rest.remove_prefix(1);
    } else {
      out.append(rest.substr(0, bytes));
      rest.remove_prefix(bytes);
    }
  }
  if (out.size() <= kMaxNameBytes) return out;
  out.resize(cut);
  out.push_back('~');
  AppendHex(StableHash64(name), 16, &out);
  return out;
}

std::string EscapeForTerminal(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = Decode(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    if (c.bytes == 0 || c.code < 0x20 || c.code == 0x7f) {
      if (byte == '\n') {
        out.append("\\n");
      } else if (byte == '\t') {
        out.append("\\t");
      } else {
        AppendByteEscape(byte, &out);
      }
      text.remove_prefix(1);
      continue;
    }
    if (MustEscape(c.code)) {
      out.append("\\u{");
      AppendHex(c.code, c.code > 0xffff ? 5 : 4, &out);
      out.push_back('}');
    } else {
      out.append(text.substr(0, c.bytes));
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

bool IsValidRunName(std::string_view name) {
  if (name.empty() || name.size() > 128 || name == "." || name == "..") {
    return false;
  }
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

namespace {

constexpr std::size_t kCompared = 64;

// Optimal string alignment: insertions, deletions, replacements and swaps of
// neighbours. At most `limit`, or limit + 1 if it is more than that.
std::size_t EditDistance(std::string_view a, std::string_view b,
                         std::size_t limit) {
  using Row = std::array<std::size_t, kCompared + 1>;
  Row before_last{}, last{}, row{};
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    std::size_t best = row[0];
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
      best = std::min(best, row[j]);
    }
    // A swap reaches back two rows and adds one: never below best - 1.
    if (best > limit + 1) return limit + 1;
    before_last = last;
    last = row;
  }
  return std::min(last[b.size()], limit + 1);
}

}  // namespace

std::string Nearest(std::string_view name,
                    const std::vector<std::string>& candidates) {
  constexpr std::size_t kCandidates = 100'000;
  const std::string_view wanted = name.substr(0, kCompared);
  const std::string* nearest = nullptr;
  std::size_t nearest_distance = kCompared + 1;
  for (std::size_t i = 0; i < std::min(candidates.size(), kCandidates); ++i) {
    const std::string_view candidate =
        std::string_view(candidates[i]).substr(0, kCompared);
    const std::size_t longer = std::max(wanted.size(), candidate.size());
    const std::size_t shorter = std::min(wanted.size(), candidate.size());
    if (nearest_distance == 0) break;
    const std::size_t limit = std::min(longer / 3, nearest_distance - 1);
    if (longer - shorter > limit) continue;
    const std::size_t distance = EditDistance(wanted, candidate, limit);
    if (distance > limit) continue;
    nearest = &candidates[i];
    nearest_distance = distance;
  }
  return nearest == nullptr ? std::string() : *nearest;
}

}  // namespace gradtap
