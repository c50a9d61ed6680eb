// A PromQL text as tokens.
//
// Layer: server/promql. Pure.

#ifndef GRADTAP_SERVER_PROMQL_LEXER_H_
#define GRADTAP_SERVER_PROMQL_LEXER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace gradtap::server::promql {

struct Token {
  enum class Kind : std::uint8_t {
    kEnd,
    kIdentifier,  // May have ':'.
    kNumber,
    kDuration,
    kString,
    kSign,  // One or two characters: ( ) { } [ ] , + - == =~ ...
  };
  Kind kind = Kind::kEnd;
  std::string text;  // Of a string its value.
  double number = 0;
  std::int64_t duration_ms = 0;
  std::size_t at = 0;  // Its first byte.
};

// The last one is kEnd. kInvalidArgument says where it is wrong.
absl::StatusOr<std::vector<Token>> Tokens(std::string_view text);

// "1h30m", "500ms". kInvalidArgument names it.
absl::StatusOr<std::int64_t> ParseDuration(std::string_view text);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_LEXER_H_
