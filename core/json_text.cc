#include "core/json_text.h"

#include <cmath>
#include <cstdio>

#include "core/csv.h"

namespace gradtap {

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = text[i];
    char buffer[8];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      std::snprintf(buffer, sizeof(buffer), "\\u%04x", c);
      out += buffer;
    } else if (c == 0xc2 && i + 1 < text.size() &&
               static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      std::snprintf(buffer, sizeof(buffer), "\\u%04x",
                    static_cast<unsigned char>(text[++i]));
      out += buffer;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + "\"";
}

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return JsonString(ExactNumber(value));
  if (value == 0 && std::signbit(value)) return "-0.0";
  return ExactNumber(value);
}

}  // namespace gradtap
