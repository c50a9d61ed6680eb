#include "agent/problem_log.h"

#include <utility>

#include "core/names.h"

namespace gradtap::agent {

void ProblemLog::Report(std::string_view message) noexcept {
  Emit(message, /*keep=*/true);
}

void ProblemLog::Note(std::string_view message) noexcept {
  Emit(message, /*keep=*/false);
}

void ProblemLog::Emit(std::string_view message, bool keep) noexcept {
  try {
    if (!Take(message, keep)) return;
    for (std::string next; Next(&next);) {
      try {
        sink_(next);
      } catch (...) {  // The program's own callback; nothing to do about it.
      }
    }
  } catch (...) {  // No memory for a message.
  }
}

// True if the caller is to emit what waits.
bool ProblemLog::Take(std::string_view message, bool keep) {
  std::string text = EscapeForTerminal(message.substr(0, kMaxMessageBytes));
  MutexLock lock(mu_);
  if (seen_.size() >= kMaxEmitted || !seen_.insert(text).second) return false;
  if (keep) {
    if (kept_.size() == kMaxProblems) kept_.pop_front();
    kept_.push_back(text);
  }
  if (sink_ == nullptr) return false;
  waiting_.push_back(std::move(text));
  if (emitting_) return false;
  emitting_ = true;
  return true;
}

bool ProblemLog::Next(std::string* message) {
  MutexLock lock(mu_);
  if (waiting_.empty()) {
    emitting_ = false;
    return false;
  }
  *message = std::move(waiting_.front());
  waiting_.pop_front();
  return true;
}

std::vector<std::string> ProblemLog::problems() const {
  MutexLock lock(mu_);
  return {kept_.begin(), kept_.end()};
}

}  // namespace gradtap::agent
