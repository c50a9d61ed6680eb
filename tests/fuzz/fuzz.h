// What each target of this folder gives: one input, tried; and inputs to begin
// with.
//
// A target aborts, by Require() or a sanitizer, if something is wrong with the
// code; that an input is refused is never wrong. Two programs run one: a test,
// over its seeds, over what was found earlier (corpus/) and over a number of
// changes of those (replay.cc); and libFuzzer, for as long as one likes
// (entry.cc).

#ifndef GRADTAP_TESTS_FUZZ_FUZZ_H_
#define GRADTAP_TESTS_FUZZ_FUZZ_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap::fuzz {

// The target's.
void Try(std::string_view input);
std::vector<std::string> Seeds();

inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// Takes an input apart. Beyond its end there are zeros.
class Taker {
 public:
  explicit Taker(std::string_view input) : rest_(input) {}

  bool empty() const { return rest_.empty(); }
  template <typename T>
  T Number() {
    T value = 0;
    const std::string_view bytes = Bytes(sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::string_view Bytes(std::size_t count) {
    const std::string_view bytes = rest_.substr(0, count);
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  // As many as its next two bytes say.
  std::string_view Text() { return Bytes(Number<std::uint16_t>()); }
  std::string_view Rest() { return Bytes(rest_.size()); }

 private:
  std::string_view rest_;
};

// For seeds of a target that takes its input apart.
template <typename T>
void PutNumber(T value, std::string* to) {
  to->append(reinterpret_cast<const char*>(&value), sizeof(value));
}
inline void PutText(std::string_view text, std::string* to) {
  PutNumber(static_cast<std::uint16_t>(text.size()), to);
  to->append(text);
}

}  // namespace gradtap::fuzz

#endif  // GRADTAP_TESTS_FUZZ_FUZZ_H_
