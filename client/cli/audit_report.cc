#include "client/cli/audit_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"
#include "core/json_text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

// An interval of more than this much of a step, to either side, is wide.
constexpr double kWideShare = 0.01;

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string Milliseconds(double seconds) {
  return Format("%.3f ms", seconds * 1e3);
}
std::string SignedMilliseconds(double seconds) {
  return Format("%+.3f ms", seconds * 1e3);
}
// "1.1 %"; small shares keep two decimals.
std::string PerCent(double share) {
  const double percent = share * 100;
  return Format(std::fabs(percent) < 0.1 ? "%.2f %%" : "%.1f %%", percent);
}

double ShareOf(double seconds, const AuditResult& result) {
  return seconds / result.without_seconds;
}

std::string Interval(const AuditResult& result) {
  return absl::StrCat("95 % interval ",
                      PerCent(ShareOf(result.lower_seconds, result)), " to ",
                      PerCent(ShareOf(result.upper_seconds, result)));
}

// First and last step of the gaps of one attempt, by first step.
struct Range {
  std::int64_t last = 0;
  v1::GapCause cause = v1::GAP_CAUSE_UNSPECIFIED;
};
using Ranges = std::map<std::pair<std::uint32_t, std::int64_t>, Range>;

AuditStep::Kind KindOf(const Ranges& ranges, std::uint32_t attempt,
                       std::int64_t step) {
  const auto after = ranges.upper_bound({attempt, step});
  if (after == ranges.begin()) return AuditStep::Kind::kWith;
  const auto& [key, range] = *std::prev(after);
  if (key.first != attempt || step > range.last) return AuditStep::Kind::kWith;
  switch (range.cause) {
    case v1::GAP_CAUSE_AUDIT:
      return AuditStep::Kind::kWithout;
    // Not due: that is how capture is set up, and what it costs on average.
    case v1::GAP_CAUSE_INTERVAL:
    case v1::GAP_CAUSE_BUDGET:
      return AuditStep::Kind::kWith;
    default:
      return AuditStep::Kind::kNeither;
  }
}

struct Number {
  const char* csv_name;
  const char* json_name;
  double value;
};

std::vector<Number> NumbersOf(const AuditResult& r) {
  return {
      {"with_step_seconds", "withStepSeconds", r.with_seconds},
      {"without_step_seconds", "withoutStepSeconds", r.without_seconds},
      {"difference_seconds", "differenceSeconds", r.difference_seconds},
      {"lower_seconds", "lowerSeconds", r.lower_seconds},
      {"upper_seconds", "upperSeconds", r.upper_seconds},
      {"difference_share", "differenceShare", ShareOf(r.difference_seconds, r)},
      {"lower_share", "lowerShare", ShareOf(r.lower_seconds, r)},
      {"upper_share", "upperShare", ShareOf(r.upper_seconds, r)},
      {"own_seconds", "ownSeconds", r.own_seconds}};
}

struct Count {
  const char* csv_name;
  const char* json_name;
  std::uint64_t value;
};

std::vector<Count> CountsOf(const AuditResult& r) {
  return {{"block_steps", "blockSteps", r.block_steps},
          {"comparisons", "comparisons", r.comparisons},
          {"with_blocks", "withBlocks", r.with_blocks},
          {"without_blocks", "withoutBlocks", r.without_blocks},
          {"with_steps", "withSteps", r.with_steps},
          {"without_steps", "withoutSteps", r.without_steps}};
}

}  // namespace

absl::StatusOr<std::vector<AuditStep>> AuditStepsOf(
    const v1::GetSeriesResponse& response, std::uint32_t rank) {
  Ranges ranges;
  bool any = false;
  for (const v1::GapInfo& info : response.gaps()) {
    if (info.rank() != rank) continue;
    const v1::Gap& gap = info.gap();
    // Of joined gaps the place is only a range: nothing there is sure.
    const bool whole = gap.last_step() >= gap.first_step() &&
                       static_cast<std::uint64_t>(gap.last_step()) -
                               static_cast<std::uint64_t>(gap.first_step()) +
                               1 ==
                           gap.steps();
    any |= gap.cause() == v1::GAP_CAUSE_AUDIT;
    ranges[{info.attempt(), gap.first_step()}] = {
        gap.last_step(), whole ? gap.cause() : v1::GAP_CAUSE_UNSPECIFIED};
  }
  if (!any) {
    return absl::NotFoundError(
        "no audit is stored there: start the job with GRADTAP_AUDIT=50 (or "
        "AgentOptions::audit_steps), which takes turns of 50 steps with and 50 "
        "steps without capture; some 1,000 steps give a useful answer");
  }
  std::map<std::pair<std::uint32_t, std::int64_t>, double> own;
  std::vector<AuditStep> steps;
  for (const v1::Series& series : response.series()) {
    const bool is_own = series.statistic() == "agent.capture_seconds";
    if (series.rank() != rank ||
        (!is_own && series.statistic() != "agent.step_seconds")) {
      continue;
    }
    for (int i = 0; i < PointCount(series); ++i) {
      const double value = series.value(i);
      if (is_own) {
        own[{series.attempt(i), series.step(i)}] = value;
        continue;
      }
      AuditStep& step = steps.emplace_back();
      step.step = series.step(i);
      step.attempt = series.attempt(i);
      step.kind = KindOf(ranges, step.attempt, step.step);
      step.seconds = value;
      if (!(std::isfinite(value) && value >= 0)) {
        step.kind = AuditStep::Kind::kNeither;
      }
    }
  }
  for (AuditStep& step : steps) {
    const auto it = own.find({step.attempt, step.step});
    if (it == own.end() || !std::isfinite(it->second)) continue;
    step.capture_seconds = std::max(0.0, it->second);
  }
  return steps;
}

std::string AuditSentence(const AuditResult& result) {
  const double share = ShareOf(result.difference_seconds, result);
  std::string text;
  if (result.lower_seconds > 0) {
    text = absl::StrCat("Capture costs ", PerCent(share), " of step time (",
                        Interval(result), ").");
  } else if (result.upper_seconds < 0) {
    text = absl::StrCat(
        "Steps were ", PerCent(-share), " shorter with capture (",
        Interval(result),
        "): capture cannot do that. Something else keeps time with the blocks; "
        "try another GRADTAP_AUDIT.");
  } else {
    text = absl::StrCat("Capture costs ", PerCent(share), " of step time (",
                        Interval(result),
                        "): no slowdown can be told from noise.");
  }
  const double half = (result.upper_seconds - result.lower_seconds) / 2;
  if (ShareOf(half, result) > kWideShare) {
    absl::StrAppend(&text,
                    " The interval is wide: four times as many steps halve "
                    "it, and so does a quieter machine.");
  }
  return text;
}

absl::Status CheckEnough(const AuditReport& report) {
  const AuditResult& result = report.result;
  if (result.comparisons >= kFewestComparisons) return absl::OkStatus();
  const std::size_t lacking = kFewestComparisons - result.comparisons;
  const std::size_t more = 2 * result.block_steps * lacking;
  return absl::NotFoundError(absl::StrCat(
      "too few blocks for an interval: ", Plural(result.comparisons, "block"),
      " with capture between two without, ", kFewestComparisons,
      " are needed; let the job run at least ", Plural(more, "step"),
      " more, or start it with a smaller GRADTAP_AUDIT than ",
      result.block_steps));
}

std::string AuditTable(const AuditReport& report, const TableStyle& style) {
  const AuditResult& r = report.result;
  std::string text =
      Paint(absl::StrCat(EscapeForTerminal(report.run), "  rank ", report.rank,
                         "  steps ", report.first_step, "-", report.last_step,
                         "  blocks of ", Plural(r.block_steps, "step")),
            Tone::kFaint, style.colour);
  Table means({{""},
               {"STEP TIME", Align::kRight},
               {"BLOCKS", Align::kRight},
               {"STEPS", Align::kRight}});
  means.AddRow({{"with capture"},
                {Milliseconds(r.with_seconds)},
                {HumanCount(r.with_blocks)},
                {HumanCount(r.with_steps)}});
  means.AddRow({{"without"},
                {Milliseconds(r.without_seconds)},
                {HumanCount(r.without_blocks)},
                {HumanCount(r.without_steps)}});
  absl::StrAppend(&text, "\n\n", means.Render(style), "\n");
  absl::StrAppend(
      &text, "difference  ", SignedMilliseconds(r.difference_seconds), " (",
      PerCent(ShareOf(r.difference_seconds, r)), ") a step, 95 % interval ",
      SignedMilliseconds(r.lower_seconds), " to ",
      SignedMilliseconds(r.upper_seconds), "\n");
  absl::StrAppend(&text, "the agent itself says ",
                  SignedMilliseconds(r.own_seconds), " (",
                  PerCent(ShareOf(r.own_seconds, r)), ")\n\n");
  const Tone tone = r.lower_seconds > 0 ? Tone::kStrong : Tone::kGood;
  absl::StrAppend(&text, Paint(AuditSentence(r), tone, style.colour), "\n");
  return text;
}

std::string AuditCsv(const AuditReport& report, CsvOptions options) {
  std::vector<std::string> names = {"run", "rank", "first_step", "last_step"};
  CsvRow row(options);
  row.Text(report.run)
      .Unsigned(report.rank)
      .Integer(report.first_step)
      .Integer(report.last_step);
  for (const Count& count : CountsOf(report.result)) {
    names.emplace_back(count.csv_name);
    row.Unsigned(count.value);
  }
  for (const Number& number : NumbersOf(report.result)) {
    names.emplace_back(number.csv_name);
    row.Number(number.value);
  }
  return CsvHeader(names, options) + row.Take();
}

std::string AuditJson(const AuditReport& report) {
  std::string text = absl::StrCat(
      "{\n \"run\": ", JsonString(report.run), ",\n \"rank\": ", report.rank,
      ",\n \"firstStep\": \"", report.first_step, "\",\n \"lastStep\": \"",
      report.last_step, "\"");
  for (const Count& count : CountsOf(report.result)) {
    absl::StrAppend(&text, ",\n \"", count.json_name, "\": \"", count.value,
                    "\"");
  }
  for (const Number& number : NumbersOf(report.result)) {
    absl::StrAppend(&text, ",\n \"", number.json_name,
                    "\": ", JsonNumber(number.value));
  }
  absl::StrAppend(&text,
                  ",\n \"summary\": ", JsonString(AuditSentence(report.result)),
                  "\n}\n");
  return text;
}

}  // namespace gradtap::client
