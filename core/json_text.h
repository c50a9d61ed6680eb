// Texts and numbers as JSON; messages are proto/text's.
//
// Layer: core. This file: std. Pure functions; any thread may call them.

#ifndef GRADTAP_CORE_JSON_TEXT_H_
#define GRADTAP_CORE_JSON_TEXT_H_

#include <string>
#include <string_view>

namespace gradtap {

// The text as a JSON string, in quotes. Control characters, DEL and C1 are
// escaped; the rest stays as it is.
std::string JsonString(std::string_view text);

// A number, or one of the strings that stand for what JSON cannot write.
std::string JsonNumber(double value);

}  // namespace gradtap

#endif  // GRADTAP_CORE_JSON_TEXT_H_
