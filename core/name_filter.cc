#include "core/name_filter.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/match_limit.h"
#include "core/names.h"
#include "re2/re2.h"

namespace gradtap {
namespace {

constexpr std::size_t kMaxPatternBytes = 4096;
// For compiling one: ".{999}" takes ten thousand instructions, and a query has
// up to 64 patterns.
constexpr std::int64_t kMaxProgramBytes = std::int64_t{2} << 20;

// For a message: one line, short.
std::string Shown(const std::string& text) {
  constexpr std::size_t kShown = 120;
  return EscapeForTerminal(text.substr(0, kShown)) +
         (text.size() > kShown ? "..." : "");
}

absl::Status Compile(const std::vector<std::string>& patterns,
                     std::vector<std::unique_ptr<re2::RE2>>* compiled) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxProgramBytes);
  for (const std::string& pattern : patterns) {
    constexpr std::size_t kShown = 80;
    const std::string shown =
        absl::StrCat("pattern '", EscapeForTerminal(pattern.substr(0, kShown)),
                     pattern.size() > kShown ? "...'" : "'");
    if (pattern.size() > kMaxPatternBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(shown, " has ", pattern.size(), " bytes; at most ",
                       kMaxPatternBytes, " are allowed"));
    }
    auto regex = std::make_unique<re2::RE2>(pattern, options);
    if (!regex->ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          shown, " is not a valid RE2 pattern: ", Shown(regex->error())));
    }
    compiled->push_back(std::move(regex));
  }
  return absl::OkStatus();
}

bool MatchesAny(const std::vector<std::unique_ptr<re2::RE2>>& regexes,
                std::string_view name) {
  for (const auto& regex : regexes) {
    if (MatchPattern(*regex, name)) return true;
  }
  return false;
}

}  // namespace

NameFilter::NameFilter() = default;
NameFilter::~NameFilter() = default;
NameFilter::NameFilter(NameFilter&&) noexcept = default;
NameFilter& NameFilter::operator=(NameFilter&&) noexcept = default;

absl::StatusOr<NameFilter> NameFilter::Create(
    const std::vector<std::string>& include,
    const std::vector<std::string>& exclude) {
  NameFilter filter;
  absl::Status status = Compile(include, &filter.include_);
  if (status.ok()) status = Compile(exclude, &filter.exclude_);
  if (!status.ok()) return status;
  return filter;
}

bool NameFilter::Matches(std::string_view name) const {
  if (!include_.empty() && !MatchesAny(include_, name)) return false;
  return !MatchesAny(exclude_, name);
}

std::size_t NameFilter::instructions() const {
  std::size_t all = 0;
  for (const auto* regexes : {&include_, &exclude_}) {
    for (const auto& regex : *regexes) {
      all += static_cast<std::size_t>(regex->ProgramSize());
    }
  }
  return all;
}

}  // namespace gradtap
