#include "server/ingest/record_step.h"

#include "core/wire.h"

namespace gradtap::server {

std::optional<std::int64_t> StepOfRecord(std::string_view head_untrusted) {
  constexpr std::uint64_t kNumber =
      wire::TagOf(wire::step::kStep, wire::Type::kVarint);
  std::string_view rest = head_untrusted;
  std::uint64_t tag = 0, bytes = 0, value = 0;
  if (!wire::ReadVarint(&rest, &tag) ||
      tag != wire::TagOf(wire::record::kStep, wire::Type::kBytes) ||
      !wire::ReadVarint(&rest, &bytes)) {
    return std::nullopt;
  }
  // The first step of all has no number: proto3 leaves zeros out.
  if (bytes == 0) return 0;
  if (!wire::ReadVarint(&rest, &tag)) return std::nullopt;
  if (tag != kNumber) return 0;
  if (!wire::ReadVarint(&rest, &value)) return std::nullopt;
  const auto step = static_cast<std::int64_t>(value);
  if (step < 0) return std::nullopt;
  return step;
}

}  // namespace gradtap::server
