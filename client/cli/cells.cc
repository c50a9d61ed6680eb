#include "client/cli/cells.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {

Cell ValueCell(std::string_view statistic, const std::optional<double>& value) {
  if (!value) return {"-", Tone::kFaint};
  const bool count = IsCountStatistic(statistic);
  const bool bad_count = count && *value > 0 && !statistic.empty() &&
                         statistic.substr(statistic.find('.') + 1) != "zero";
  return {count ? HumanCountValue(*value) : HumanNumber(*value),
          !std::isfinite(*value) || bad_count ? Tone::kBad : Tone::kPlain};
}

Cell NameCell(std::string_view name) {
  return {EscapeForTerminal(name), Tone::kPlain};
}

Cell StateCell(v1::RunState state) {
  Tone tone = Tone::kPlain;
  if (state == v1::RUN_STATE_RUNNING) tone = Tone::kGood;
  if (state == v1::RUN_STATE_LOST) tone = Tone::kBad;
  return {std::string(StateWord(state)), tone};
}

std::string_view GapState(const v1::GapInfo& info) {
  if (info.gap().cause() == v1::GAP_CAUSE_ROLLED_UP) return "kept in part";
  return info.lost() ? "lost" : "skipped";
}

std::string GapText(const v1::GapInfo& info) {
  const v1::Gap& gap = info.gap();
  std::string text =
      gap.first_step() == gap.last_step()
          ? absl::StrCat("step ", gap.first_step())
          : absl::StrCat("steps ", gap.first_step(), "-", gap.last_step());
  absl::StrAppend(&text, " of rank ", info.rank(), ", attempt ", info.attempt(),
                  ": ", std::string(GapState(info)), ", ",
                  std::string(CauseWord(gap.cause())), " (",
                  Plural(gap.steps(), "step"), ")");
  if (!gap.detail().empty()) {
    absl::StrAppend(&text, ": ", EscapeForTerminal(gap.detail()));
  }
  return text;
}

std::string GroupText(std::string_view group, std::uint32_t members) {
  return absl::StrCat(EscapeForTerminal(group), ": ",
                      Plural(members, "parameter"), " together");
}

CLI::Option* AddRunArgument(CLI::App& app, std::string& run) {
  return app.add_option("RUN", run, "The run's name")
      ->type_name("")
      ->required();
}

CLI::Option* AddMatchOption(CLI::App& app, std::string& match) {
  return app
      .add_option("-m,--match", match,
                  "Only parameters whose name matches (RE2, unanchored)")
      ->option_text("RE");
}

CLI::Option* AddMergeOption(CLI::App& app, std::vector<std::string>& patterns) {
  return app
      .add_option("--merge", patterns,
                  "Take all parameters that match together, as one tensor; "
                  "several times: one group each")
      ->option_text("RE")
      ->expected(1)
      ->take_all();
}

}  // namespace gradtap::client
