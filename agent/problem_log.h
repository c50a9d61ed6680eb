// What went wrong, said once; and what is said without being wrong.
//
// Layer: agent. This file: std, absl, core.

#ifndef GRADTAP_AGENT_PROBLEM_LOG_H_
#define GRADTAP_AGENT_PROBLEM_LOG_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "core/sync.h"

namespace gradtap::agent {

// Thread-safe. Messages are made safe for a terminal, of one line, and cut at
// kMaxMessageBytes. The newest kMaxProblems distinct ones are kept; each is
// emitted once, and no more than kMaxEmitted in all.
class ProblemLog {
 public:
  static constexpr std::size_t kMaxProblems = 64;
  static constexpr std::size_t kMaxEmitted = 1024;
  static constexpr std::size_t kMaxMessageBytes = 1024;

  using Sink = std::function<void(const std::string& message)>;

  // A null sink keeps the messages and emits nothing.
  explicit ProblemLog(Sink sink) : sink_(std::move(sink)) {}

  // Calls the sink with one message at a time and no lock held: a message that
  // arrives meanwhile is emitted by the thread that is at it. What the sink
  // throws is swallowed.
  void Report(std::string_view message) noexcept ABSL_LOCKS_EXCLUDED(mu_);
  // Emits it likewise, but it is none of the problems.
  void Note(std::string_view message) noexcept ABSL_LOCKS_EXCLUDED(mu_);

  std::vector<std::string> problems() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Emit(std::string_view message, bool keep) noexcept
      ABSL_LOCKS_EXCLUDED(mu_);
  bool Take(std::string_view message, bool keep) ABSL_LOCKS_EXCLUDED(mu_);
  bool Next(std::string* message) ABSL_LOCKS_EXCLUDED(mu_);

  const Sink sink_;

  mutable Mutex mu_;
  std::unordered_set<std::string> seen_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> kept_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> waiting_ ABSL_GUARDED_BY(mu_);
  bool emitting_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_PROBLEM_LOG_H_
