// How long matching patterns may take a thread.
//
// RE2 is linear in the text, but each byte may cost as much as the pattern is
// long: what a pattern takes over the names of a run is known only when it has
// been tried. So it is measured. All that a thread matches while it has a
// MatchLimit counts, whoever matches it; once that has taken too long nothing
// matches any more, at once, and whoever made the limit throws away what came
// of it.
//
// Layer: core. This file: std, absl.

#ifndef GRADTAP_CORE_MATCH_LIMIT_H_
#define GRADTAP_CORE_MATCH_LIMIT_H_

#include <chrono>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace gradtap {

// Of the thread that makes it, until it is destroyed there; one within another
// stands for it. No call waits.
class MatchLimit {
 public:
  // `most`: of the thread's time, in all matches together. `gone`, unless it is
  // empty, is asked every few ms of it whether anybody still wants to know.
  explicit MatchLimit(std::chrono::nanoseconds most,
                      std::function<bool()> gone = nullptr);
  ~MatchLimit();
  MatchLimit(const MatchLimit&) = delete;
  MatchLimit& operator=(const MatchLimit&) = delete;

  // kResourceExhausted, naming the pattern and its size: it took too long.
  // kCancelled: nobody wants to know. From then on it stays so.
  const absl::Status& status() const { return status_; }

  // Of the limit that this thread has; OK if it has none. For who keeps what
  // has been matched.
  static absl::Status OfThread();

 private:
  friend bool MatchPattern(const re2::RE2& pattern, std::string_view text,
                           bool whole);

  void Took(const re2::RE2& pattern, std::chrono::nanoseconds time);

  const std::chrono::nanoseconds most_;
  const std::function<bool()> gone_;
  const std::chrono::nanoseconds began_;  // Of the thread's own time.
  MatchLimit* const before_;
  std::chrono::nanoseconds used_{0};
  std::chrono::nanoseconds next_look_;
  absl::Status status_;
};

// Whether the pattern matches in the text, or if `whole` all of it. False once
// the limit that the thread has, if any, is used up.
bool MatchPattern(const re2::RE2& pattern, std::string_view text,
                  bool whole = false);

}  // namespace gradtap

#endif  // GRADTAP_CORE_MATCH_LIMIT_H_
