// Include and exclude patterns over full parameter names.
//
// Layer: core.

#ifndef GRADTAP_CORE_NAME_FILTER_H_
#define GRADTAP_CORE_NAME_FILTER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace gradtap {

// Immutable after Create(), and thread-safe.
class NameFilter {
 public:
  // RE2 patterns, unanchored. A name passes if it matches one of `include` (or
  // that is empty) and none of `exclude`. kInvalidArgument names the pattern
  // and says what is wrong with it; a pattern over 4,096 bytes is refused, and
  // one that compiles to more than 2 MiB.
  static absl::StatusOr<NameFilter> Create(
      const std::vector<std::string>& include,
      const std::vector<std::string>& exclude = {});

  // Passes everything.
  NameFilter();
  ~NameFilter();
  NameFilter(NameFilter&&) noexcept;
  NameFilter& operator=(NameFilter&&) noexcept;

  bool Matches(std::string_view name) const;

  // RE2's instructions of all patterns: some 24 bytes each.
  std::size_t instructions() const;

 private:
  std::vector<std::unique_ptr<re2::RE2>> include_;
  std::vector<std::unique_ptr<re2::RE2>> exclude_;
};

}  // namespace gradtap

#endif  // GRADTAP_CORE_NAME_FILTER_H_
