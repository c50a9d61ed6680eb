#include "core/match_limit.h"

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "re2/re2.h"

namespace gradtap {
namespace {

using std::chrono::nanoseconds;

// How much matching passes between two looks at whether anybody waits.
constexpr std::chrono::milliseconds kLook{5};

thread_local MatchLimit* limit_of_thread = nullptr;

nanoseconds TimeOfThread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

absl::Status TookTooLong(const re2::RE2& pattern, nanoseconds most) {
  constexpr std::size_t kShown = 80;
  const std::string& text = pattern.pattern();
  return absl::ResourceExhaustedError(absl::StrCat(
      "matching names took longer than ",
      std::chrono::duration<double>(most).count(),
      " s of a processor, the limit; the pattern '",
      EscapeForTerminal(text.substr(0, kShown)),
      text.size() > kShown ? "...'" : "'", " compiles to ",
      pattern.ProgramSize(),
      " instructions of RE2: a shorter one, or smaller numbers in {}"));
}

bool Match(const re2::RE2& pattern, std::string_view text, bool whole) {
  // Newer RE2 takes Abseil's string_view, which need not be std's.
  const re2::StringPiece piece(text.data(), text.size());
  return whole ? re2::RE2::FullMatch(piece, pattern)
               : re2::RE2::PartialMatch(piece, pattern);
}

}  // namespace

MatchLimit::MatchLimit(nanoseconds most, std::function<bool()> gone)
    : most_(most),
      gone_(std::move(gone)),
      began_(TimeOfThread()),
      before_(std::exchange(limit_of_thread, this)),
      next_look_(kLook) {}

MatchLimit::~MatchLimit() { limit_of_thread = before_; }

absl::Status MatchLimit::OfThread() {
  return limit_of_thread == nullptr ? absl::OkStatus()
                                    : limit_of_thread->status_;
}

// The clock on the wall is cheap, but runs on while other threads have the
// processor; the thread's own counts what else it does. The lesser of them is
// at least what matching took.
void MatchLimit::Took(const re2::RE2& pattern, nanoseconds time) {
  used_ += time;
  if (used_ > most_) used_ = std::min(used_, TimeOfThread() - began_);
  if (used_ > most_) {
    status_ = TookTooLong(pattern, most_);
  } else if (gone_ && used_ >= next_look_) {
    next_look_ = used_ + kLook;
    if (gone_()) status_ = absl::CancelledError("the caller has gone");
  }
}

bool MatchPattern(const re2::RE2& pattern, std::string_view text, bool whole) {
  MatchLimit* const limit = limit_of_thread;
  if (limit == nullptr) return Match(pattern, text, whole);
  if (!limit->status_.ok()) return false;
  const auto begin = std::chrono::steady_clock::now();
  const bool matches = Match(pattern, text, whole);
  limit->Took(pattern, std::chrono::steady_clock::now() - begin);
  return matches;
}

}  // namespace gradtap
