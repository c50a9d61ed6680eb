#include "core/peer_address.h"

#include <algorithm>

namespace gradtap {
namespace {

constexpr std::string_view kSocket = "unix:";
constexpr std::size_t kMostPathBytes = 107;

bool IsV4Loopback(std::string_view host) {
  int part = 0;
  int parts = 1;
  int digits = 0;
  int first = -1;
  for (const char c : host) {
    if (c == '.') {
      if (digits == 0) return false;
      if (parts++ == 1) first = part;
      part = digits = 0;
    } else if (c >= '0' && c <= '9' && digits < 3) {
      part = part * 10 + (c - '0');
      ++digits;
      if (part > 255) return false;
    } else {
      return false;
    }
  }
  return parts == 4 && digits > 0 && first == 127;
}

}  // namespace

bool IsSocketAddress(std::string_view address) {
  if (!address.starts_with(kSocket)) return false;
  const std::string_view path = address.substr(kSocket.size());
  return path.size() > 1 && path.size() <= kMostPathBytes &&
         path.front() == '/' && path.back() != '/' &&
         std::all_of(path.begin(), path.end(), [](unsigned char c) {
           return c > 0x20 && c < 0x7f && c != '%' && c != '?' && c != '#';
         });
}

bool StaysOnThisMachine(std::string_view address) {
  if (IsSocketAddress(address)) return true;
  if (address.starts_with("[::1]:")) return true;
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view host = address.substr(0, colon);
  return host == "localhost" || IsV4Loopback(host);
}

}  // namespace gradtap
