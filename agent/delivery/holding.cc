#include "agent/delivery/holding.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace gradtap::agent {
namespace {

constexpr std::uint64_t kSteps = 16;
constexpr std::chrono::seconds kLate{60};

// The halves, quarters and eighths of a ring take every step, every 2nd, 4th
// and 8th: 1/2 + 2/4 + 4/8 + 8/8 of what it holds of every step, about.
constexpr double kRingUnthinned = 0.5;
constexpr double kRingThinned = 0.5 + 0.25 * 2 + 0.125 * 4 + 0.125 * 8;

// Two digits, or all before the point.
std::string Short(double value) {
  if (value < 0.995) return absl::StrFormat("%.2f", value);
  if (value < 9.5) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.0f", value);
}

std::string Size(double bytes) {
  constexpr double kKiB = 1024;
  if (bytes < kKiB) return absl::StrFormat("%.0f bytes", bytes);
  if (bytes < kKiB * kKiB) return Short(bytes / kKiB) + " KiB";
  if (bytes < kKiB * kKiB * kKiB) return Short(bytes / kKiB / kKiB) + " MiB";
  return Short(bytes / kKiB / kKiB / kKiB) + " GiB";
}

std::string Time(double minutes) {
  if (minutes < 1) return Short(minutes * 60) + " s";
  if (minutes < 120) return Short(minutes) + " minutes";
  return Short(minutes / 60) + " hours";
}

}  // namespace

Holding HoldingOf(double step_bytes, double steps_per_second,
                  std::uint64_t ring_bytes, std::uint64_t spool_bytes) {
  const double per_minute = step_bytes * steps_per_second * 60;
  if (!(per_minute > 0)) return {};
  const auto ring = static_cast<double>(ring_bytes);
  const auto spool = static_cast<double>(spool_bytes);
  Holding holding;
  holding.minutes = (spool + ring * kRingUnthinned) / per_minute;
  holding.minutes_thinned = (spool + ring * kRingThinned) / per_minute;
  return holding;
}

std::string DescribeHolding(double step_bytes, double steps_per_second,
                            std::uint64_t ring_bytes,
                            std::uint64_t spool_bytes) {
  const Holding holding =
      HoldingOf(step_bytes, steps_per_second, ring_bytes, spool_bytes);
  const std::string what =
      spool_bytes == 0
          ? absl::StrCat("the ring of ", Size(static_cast<double>(ring_bytes)),
                         " holds ")
          : absl::StrCat("the ring of ", Size(static_cast<double>(ring_bytes)),
                         " and the spool of ",
                         Size(static_cast<double>(spool_bytes)), " hold ");
  return absl::StrCat("a step takes ", Size(step_bytes), ", ",
                      Short(steps_per_second),
                      " steps/s: while the collector is away ", what,
                      Time(holding.minutes), " of every step, or ",
                      Time(holding.minutes_thinned), " with steps left out");
}

std::optional<std::string> HoldingWatch::Observe(TimePoint now,
                                                 std::uint64_t steps,
                                                 std::uint64_t bytes,
                                                 std::uint64_t ring_bytes,
                                                 std::uint64_t spool_bytes) {
  if (said_ || steps == 0) return std::nullopt;
  if (!first_) {
    first_ = Look{now, steps, bytes};
    return std::nullopt;
  }
  const std::uint64_t more = steps > first_->steps ? steps - first_->steps : 0;
  const auto passed = now - first_->at;
  const bool known =
      (more >= kSteps && passed >= soon_) || (more >= 1 && passed >= kLate);
  if (!known) return std::nullopt;
  said_ = true;
  const double count = static_cast<double>(more);
  return DescribeHolding(static_cast<double>(bytes - first_->bytes) / count,
                         count / std::chrono::duration<double>(passed).count(),
                         ring_bytes, spool_bytes);
}

}  // namespace gradtap::agent
