#include "server/query/errors.h"

#include "absl/strings/cord.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

// The name, in the status of an unknown run. It stays in this process.
constexpr char kUnknownRun[] = "gradtap/unknown_run";

}  // namespace

std::string Quote(std::string_view name) {
  constexpr std::size_t kMaxBytes = 128;
  std::string text = EscapeForTerminal(name.substr(0, kMaxBytes));
  if (name.size() > kMaxBytes) text += "...";
  return "'" + text + "'";
}

absl::Status NotFoundNearest(std::string_view kind, std::string_view name,
                             const std::vector<std::string>& known) {
  std::string message = "no ";
  message.append(kind).append(" ").append(Quote(name));
  if (known.empty()) {
    message += "; there is none yet";
  } else if (const std::string near = Nearest(name, known); !near.empty()) {
    message += "; the nearest known one is " + Quote(near);
  } else if (known.size() <= 8) {
    message += "; known:";
    for (const std::string& one : known) message += " " + Quote(one);
  }
  return absl::NotFoundError(message);
}

absl::Status UnknownRun(std::string_view name) {
  absl::Status status = absl::NotFoundError("no run " + Quote(name));
  status.SetPayload(kUnknownRun, absl::Cord(std::string(name)));
  return status;
}

absl::Status WithNearestRun(
    const absl::Status& status,
    const std::function<std::vector<std::string>()>& known) {
  const auto name = status.GetPayload(kUnknownRun);
  if (!name.has_value()) return status;
  return NotFoundNearest("run", std::string(*name), known());
}

}  // namespace gradtap::server
