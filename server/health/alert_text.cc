#include "server/health/alert_text.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/names.h"
#include "core/statistic.h"

namespace gradtap::server {
namespace {

// A name in a line for people, and in an address.
constexpr std::size_t kShownNameBytes = 120;
constexpr std::size_t kLinkedNameBytes = 256;
// Steps that a link shows on either side.
constexpr std::int64_t kAround = 100;

std::string Shown(const std::string& name) {
  std::string text = EscapeForTerminal(name);
  if (text.size() <= kShownNameBytes) return text;
  std::size_t cut = kShownNameBytes;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) {
    --cut;
  }
  return text.substr(0, cut) + "...";
}

std::string_view NameOf(v1::Role role) {
  return RoleName(static_cast<Role>(static_cast<int>(role)));
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return absl::StrFormat("%.4g", value);
}

// What broke the rule, without where.
std::string What(v1::HealthRule rule, const v1::Offender& worst) {
  const std::string subject =
      !worst.scalar().empty() ? Shown(worst.scalar())
      : !worst.parameter().empty()
          ? absl::StrCat(std::string(NameOf(worst.role())), " of ",
                         Shown(worst.parameter()))
          : "";
  const std::string value = Number(worst.value());
  const std::string limit = Number(worst.limit());
  switch (rule) {
    case v1::HEALTH_RULE_NONFINITE:
      if (!worst.scalar().empty()) return subject + " became " + value;
      if (subject.empty()) {
        return absl::StrCat(value, " steps in a row were skipped by the loop");
      }
      return absl::StrCat(subject, " became non-finite (", value, " elements)");
    case v1::HEALTH_RULE_EXPLODING:
      return absl::StrCat(subject, " explodes: rms ", value,
                          ", over its limit of ", limit);
    case v1::HEALTH_RULE_VANISHING:
      return absl::StrCat(subject, " vanishes: rms ", value,
                          ", under its limit of ", limit);
    case v1::HEALTH_RULE_DEAD:
      return absl::StrCat(Shown(worst.parameter()), " was not updated for ",
                          value, " steps, though it has gradients");
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return absl::StrCat("update.ratio of ", Shown(worst.parameter()), " is ",
                          value, ", beyond ", limit);
    case v1::HEALTH_RULE_LOSS_SPIKE:
      return absl::StrCat(subject, " spikes: ", value, ", over its limit of ",
                          limit);
    case v1::HEALTH_RULE_STALLED:
      return absl::StrCat("no step for ", value, " s");
    case v1::HEALTH_RULE_LOST_RANK:
      return absl::StrCat("lost: silent for ", value, " s, no End");
    default:
      return subject;
  }
}

// All but what an address may have anywhere.
std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                       c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      absl::StrAppendFormat(&out, "%%%02X", byte);
    }
  }
  return out;
}

// The statistic that shows what the rule is about.
std::string StatisticOf(v1::HealthRule rule, const v1::Offender& worst) {
  if (rule == v1::HEALTH_RULE_DEAD || rule == v1::HEALTH_RULE_UPDATE_RATIO) {
    return "update.ratio";
  }
  return worst.parameter().empty()
             ? ""
             : absl::StrCat(std::string(NameOf(worst.role())), ".l2");
}

}  // namespace

std::string OffenderText(const v1::Offender& offender) {
  const std::string rank = absl::StrCat("rank ", offender.rank());
  if (!offender.scalar().empty()) {
    return absl::StrCat("scalar ", Shown(offender.scalar()), " ", rank);
  }
  if (offender.parameter().empty()) return rank;
  return absl::StrCat(std::string(NameOf(offender.role())), " ",
                      Shown(offender.parameter()), " ", rank);
}

std::string AlertSummary(const v1::Alert& alert, const v1::Offender& first) {
  std::string text = What(alert.rule(), first);
  if (alert.rule() == v1::HEALTH_RULE_STALLED) {
    absl::StrAppend(&text, " after step ", alert.first_step());
  } else if (alert.rule() == v1::HEALTH_RULE_LOST_RANK) {
    text = absl::StrCat("rank ", first.rank(), " is ", text);
    if (alert.offenders() > 1) {
      absl::StrAppend(&text, ", and ", alert.offenders() - 1, " more ranks");
    }
    return text;
  } else {
    absl::StrAppend(&text, " at step ", alert.first_step());
  }
  absl::StrAppend(&text, " on rank ", alert.rank());
  if (alert.offenders() > 1) {
    absl::StrAppend(&text, ", and ", alert.offenders() - 1, " more");
  }
  return text;
}

std::string AlertLink(const v1::Alert& alert) {
  std::string link =
      absl::StrCat("/?run=", Escaped(alert.run()), "&attempt=", alert.attempt(),
                   "&rank=", alert.rank());
  if (alert.first_step() >= 0) {
    absl::StrAppend(&link, "&steps=",
                    std::max<std::int64_t>(0, alert.first_step() - kAround),
                    "%3A", alert.first_step() + kAround + 1);
  }
  std::string statistic;
  std::set<std::string> pinned;
  for (const v1::Offender& worst : alert.worst()) {
    if (statistic.empty()) statistic = StatisticOf(alert.rule(), worst);
    if (worst.parameter().empty() ||
        worst.parameter().size() > kLinkedNameBytes ||
        !pinned.insert(worst.parameter()).second) {
      continue;
    }
    absl::StrAppend(&link, "&pin=", Escaped(worst.parameter()));
  }
  if (!statistic.empty()) absl::StrAppend(&link, "&stat=", statistic);
  return link;
}

}  // namespace gradtap::server
