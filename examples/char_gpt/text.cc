#include "examples/char_gpt/text.h"

#include <array>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace examples {

Text ReadText(const std::string& path, std::size_t least) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)),
                          std::istreambuf_iterator<char>());
  if (!file.good() && !file.eof()) {
    throw std::runtime_error(
        path + ": cannot be read; name any text file with --data");
  }
  if (bytes.size() < least) {
    throw std::runtime_error(path + ": has " + std::to_string(bytes.size()) +
                             " bytes; at least " + std::to_string(least) +
                             " are needed");
  }
  std::array<std::int64_t, 256> symbol_of;
  symbol_of.fill(-1);
  for (const char c : bytes) symbol_of[static_cast<unsigned char>(c)] = 0;
  Text text;
  for (int byte = 0; byte < 256; ++byte) {
    if (symbol_of[byte] < 0) continue;
    symbol_of[byte] = static_cast<std::int64_t>(text.symbols.size());
    text.symbols += static_cast<char>(byte);
  }
  text.content.reserve(bytes.size());
  for (const char c : bytes) {
    text.content.push_back(symbol_of[static_cast<unsigned char>(c)]);
  }
  return text;
}

}  // namespace examples
