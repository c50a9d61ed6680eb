#include "client/cli/doctor_rows.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "core/json_text.h"

namespace gradtap::client {
namespace {

using Level = Finding::Level;

std::string_view LevelWord(Level level) {
  switch (level) {
    case Level::kOk:
      return "OK";
    case Level::kNote:
      return "note";
    case Level::kProblem:
      break;
  }
  return "problem";
}

Tone LevelTone(Level level) {
  switch (level) {
    case Level::kOk:
      return Tone::kGood;
    case Level::kNote:
      return Tone::kStrong;
    case Level::kProblem:
      break;
  }
  return Tone::kBad;
}

std::string Padded(std::string_view text, std::size_t width) {
  std::string padded(text);
  padded.resize(std::max(padded.size(), width), ' ');
  return padded;
}

std::size_t Problems(const std::vector<Finding>& findings) {
  return static_cast<std::size_t>(std::count_if(
      findings.begin(), findings.end(),
      [](const Finding& f) { return f.level == Level::kProblem; }));
}

}  // namespace

std::string DoctorText(const std::vector<Finding>& findings,
                       const TableStyle& style) {
  constexpr std::size_t kLevel = 9;
  std::size_t check = 0;
  for (const Finding& finding : findings) {
    check = std::max(check, finding.check.size() + 2);
  }
  const std::string indent(kLevel + check, ' ');
  std::string text;
  for (const Finding& finding : findings) {
    absl::StrAppend(&text,
                    Paint(Padded(LevelWord(finding.level), kLevel),
                          LevelTone(finding.level), style.colour),
                    Padded(finding.check, check), finding.what, "\n");
    if (finding.advice.empty()) continue;
    absl::StrAppend(&text, indent, "do: ", finding.advice, "\n");
  }
  if (Problems(findings) == 0) absl::StrAppend(&text, "\nNo problem found.\n");
  return text;
}

std::string DoctorCsv(const std::vector<Finding>& findings,
                      CsvOptions options) {
  std::string text = CsvHeader({"check", "level", "what", "advice"}, options);
  CsvRow row(options);
  for (const Finding& finding : findings) {
    row.Text(finding.check)
        .Text(LevelWord(finding.level))
        .Text(finding.what)
        .Text(finding.advice);
    text += row.Take();
  }
  return text;
}

std::string DoctorJson(const std::vector<Finding>& findings) {
  std::string text = "{\n \"findings\": [";
  const char* comma = "";
  for (const Finding& finding : findings) {
    absl::StrAppend(&text, comma,
                    "\n  {\n   \"check\": ", JsonString(finding.check),
                    ",\n   \"level\": ", JsonString(LevelWord(finding.level)),
                    ",\n   \"what\": ", JsonString(finding.what),
                    ",\n   \"advice\": ", JsonString(finding.advice), "\n  }");
    comma = ",";
  }
  absl::StrAppend(&text, findings.empty() ? "]" : "\n ]",
                  ",\n \"problems\": ", Problems(findings), "\n}\n");
  return text;
}

absl::Status DoctorResult(const std::vector<Finding>& findings) {
  const std::size_t problems = Problems(findings);
  if (problems == 0) return absl::OkStatus();
  std::string first;
  bool others = false;
  for (const Finding& finding : findings) {
    if (finding.level != Level::kProblem) continue;
    if (first.empty()) first = finding.what;
    others = others || !finding.unreachable;
  }
  if (!others) return absl::UnavailableError(first);
  return absl::FailedPreconditionError(
      absl::StrCat(Plural(problems, "problem"), ", the first: ", first));
}

}  // namespace gradtap::client
