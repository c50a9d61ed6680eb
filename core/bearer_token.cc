#include "core/bearer_token.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap {
namespace {

constexpr std::size_t kMaxTokenBytes = 4096;
constexpr char kBlanks[] = " \t\r\n";

// As server/auth/token.h has them.
constexpr std::string_view kTokenWord = "gradtap_";
constexpr std::size_t kIdDigits = 8;
constexpr std::size_t kSecretDigits = 43;
constexpr char kHexDigits[] = "0123456789abcdef";
constexpr char kSecretCharacters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

}  // namespace

absl::Status CheckBearerToken(std::string_view token_untrusted) {
  const bool printable =
      std::all_of(token_untrusted.begin(), token_untrusted.end(),
                  [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (printable && !token_untrusted.empty() &&
      token_untrusted.size() <= kMaxTokenBytes) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "token: it is empty, has blanks, line ends or other characters that "
      "cannot be in a header, or more than 4096 of them");
}

absl::StatusOr<std::string> ReadBearerToken(const std::string& path) {
  const std::string shown = EscapeForTerminal(path);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(2 * kMaxTokenBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read a token from '", shown,
                     "': ", std::strerror(errno != 0 ? errno : EIO)));
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  const bool longer = text.size() == 2 * kMaxTokenBytes;
  const std::size_t begin = text.find_first_not_of(kBlanks);
  const std::size_t end = text.find_last_not_of(kBlanks);
  if (begin != std::string::npos) text = text.substr(begin, end - begin + 1);
  if (longer || begin == std::string::npos || !CheckBearerToken(text).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file '", shown, "' has no token alone in it"));
  }
  return text;
}

std::string MaskTokens(std::string_view text) {
  std::string masked;
  std::size_t done = 0;
  std::size_t at = 0;
  while ((at = text.find(kTokenWord, at)) != std::string_view::npos) {
    at += kTokenWord.size();
    const std::size_t secret = at + kIdDigits + 1;
    if (text.substr(at).find_first_not_of(kHexDigits) != kIdDigits ||
        text[secret - 1] != '_') {
      continue;
    }
    const std::size_t end = std::min(
        text.find_first_not_of(kSecretCharacters, secret), text.size());
    if (end - secret < kSecretDigits) continue;
    masked.append(text.substr(done, secret - done)).append("...");
    at = done = end;
  }
  return masked.append(text.substr(done));
}

}  // namespace gradtap
