// Exceptions of LibTorch become statuses here.
//
// Layer: agent/capture. This file: std, absl.

#ifndef GRADTAP_AGENT_CAPTURE_GUARDED_H_
#define GRADTAP_AGENT_CAPTURE_GUARDED_H_

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace gradtap::agent {

// The first line: what LibTorch throws goes on with a backtrace.
inline std::string FirstLine(std::string_view text) {
  constexpr std::size_t kMax = 300;
  return std::string(text.substr(0, std::min(text.find('\n'), kMax)));
}

// Calls `f`; what it throws is kInternal.
template <typename F>
absl::Status Guarded(F&& f) noexcept {
  try {
    f();
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return absl::InternalError(FirstLine(e.what()));
  } catch (...) {
    return absl::InternalError("an unknown exception");
  }
}

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_GUARDED_H_
