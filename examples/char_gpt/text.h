// A text as numbers: each byte that occurs in it is one symbol.
//
// Layer: examples. This file: std; no torch.

#ifndef GRADTAP_EXAMPLES_CHAR_GPT_TEXT_H_
#define GRADTAP_EXAMPLES_CHAR_GPT_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace examples {

struct Text {
  std::string symbols;                // symbol -> byte, ascending.
  std::vector<std::int64_t> content;  // The text, as symbols.
};

// Throws std::runtime_error that names the file if it cannot be read, or has
// fewer than `least` bytes.
Text ReadText(const std::string& path, std::size_t least);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_CHAR_GPT_TEXT_H_
