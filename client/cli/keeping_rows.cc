#include "client/cli/keeping_rows.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

std::string Limits(const v1::KeepingStatus& keeping) {
  std::string text;
  const auto add = [&text](std::string limit) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", limit);
  };
  if (keeping.keep_for_ns() > 0) {
    add(absl::StrCat("finished runs for ",
                     HumanDuration(keeping.keep_for_ns())));
  }
  if (keeping.keep_bytes() > 0) {
    add(absl::StrCat("at most ", HumanBytes(keeping.keep_bytes())));
  }
  if (keeping.disk_reserve_bytes() > 0) {
    add(absl::StrCat(HumanBytes(keeping.disk_reserve_bytes()),
                     " of the disk free"));
  }
  return text.empty() ? "everything" : text;
}

std::string Growth(const v1::KeepingStatus& keeping) {
  const double per_day = keeping.growth_bytes_per_day();
  const double days = keeping.days_until_full();
  if (std::isnan(per_day) || std::isnan(days)) return "not known yet";
  if (per_day <= 0) return "none";
  std::string text =
      absl::StrCat(HumanBytes(static_cast<std::uint64_t>(per_day)), " a day");
  if (days > 3'650) return absl::StrCat(text, ", full in more than 10 years");
  return absl::StrCat(
      text, ", full in ",
      days >= 2 ? absl::StrCat(HumanNumber(std::floor(days)), " days")
                : HumanDuration(static_cast<std::int64_t>(days * 86'400e9)));
}

std::string Removed(const v1::KeepingStatus& keeping) {
  std::string text = absl::StrCat(Plural(keeping.removed_runs(), "run"), ", ",
                                  HumanBytes(keeping.removed_bytes()));
  if (keeping.shrunk_steps() > 0) {
    absl::StrAppend(&text, "; values of ",
                    Plural(keeping.shrunk_steps(), "step"), ", ",
                    HumanBytes(keeping.shrunk_bytes()));
  }
  return text;
}

std::string_view WhyWord(v1::Removal::Why why) {
  switch (why) {
    case v1::Removal::WHY_AGE:
      return "age (--keep-for)";
    case v1::Removal::WHY_SIZE:
      return "size (--keep-bytes)";
    case v1::Removal::WHY_RESERVE:
      return "disk (--disk-reserve)";
    default:
      return "unknown";
  }
}

}  // namespace

void AddIngestStopped(const v1::KeepingStatus& keeping,
                      std::int64_t now_unix_ns, Table* table) {
  if (!keeping.ingest_stopped()) return;
  table->AddRow(
      {{"INGEST STOPPED", Tone::kBad},
       {absl::StrCat(
            HumanAge(keeping.ingest_stopped_since_unix_ns(), now_unix_ns),
            ": the disk is at its reserve; make room, or delete runs"),
        Tone::kBad}});
}

void AddKeepingRows(const v1::KeepingStatus& keeping, Table* table) {
  if (keeping.disk_total_bytes() == 0) return;
  const auto add = [table](const char* what, std::string value) {
    table->AddRow({{what}, {std::move(value)}});
  };
  add("kept", Limits(keeping));
  if (keeping.pinned_runs() > 0) {
    add("pinned", absl::StrCat(Plural(keeping.pinned_runs(), "run"), ", ",
                               HumanBytes(keeping.pinned_bytes())));
  }
  add("growth", Growth(keeping));
  add("removed since start", Removed(keeping));
}

std::string RemovalsText(const v1::KeepingStatus& keeping, int most,
                         std::int64_t now_unix_ns, const TableStyle& style) {
  if (keeping.removals().empty()) return "";
  Table table({{"REMOVED", Align::kRight},
               {"RUN", Align::kLeft, true},
               {"WHAT"},
               {"STEPS", Align::kRight},
               {"SIZE", Align::kRight},
               {"WHY"}});
  for (const v1::Removal& removal : keeping.removals()) {
    if (most-- == 0) break;
    table.AddRow(
        {{HumanAge(removal.time_unix_ns(), now_unix_ns)},
         NameCell(removal.run()),
         {removal.what() == v1::Removal::WHAT_RUN ? "run" : "old values"},
         {HumanCount(removal.steps())},
         {HumanBytes(removal.bytes())},
         {std::string(WhyWord(removal.why()))}});
  }
  return table.Render(style);
}

}  // namespace gradtap::client
