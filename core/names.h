// Names come from models and peers: hostile text until made safe.
//
// Layer: core. Pure functions; any thread may call them.

#ifndef GRADTAP_CORE_NAMES_H_
#define GRADTAP_CORE_NAMES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap {

inline constexpr std::size_t kMaxNameBytes = 512;

// True for strict UTF-8: no overlong form, no surrogate, nothing above
// U+10FFFF.
bool IsValidUtf8(std::string_view text);

// Valid UTF-8 of at most kMaxNameBytes: each byte that is not part of valid
// UTF-8 becomes \xHH, an existing backslash is kept as it is. A longer
// name is cut at a character and ends in "~" and 16 hex digits of a hash of the
// whole, so that different names stay different. Valid names within
// the cap come back unchanged; an empty one becomes "(empty)".
std::string SafeName(std::string_view name);

// For a terminal or a log line: control characters, DEL, C1 controls, bidi
// overrides and invalid bytes become \n, \t, \xHH or \u{HHHH}; one line, no
// escape sequence survives.
std::string EscapeForTerminal(std::string_view text);

// [A-Za-z0-9._-]{1,128}, and not "." or "..".
bool IsValidRunName(std::string_view name);

// The candidate with the smallest edit distance to `name`, or "" if none is
// near (more than a third of the longer one away). Bounded work: looks at the
// first 100,000 candidates and at the first 64 bytes of each.
std::string Nearest(std::string_view name,
                    const std::vector<std::string>& candidates);

}  // namespace gradtap

#endif  // GRADTAP_CORE_NAMES_H_
