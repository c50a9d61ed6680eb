// Cells and arguments that several commands share.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_CELLS_H_
#define GRADTAP_CLIENT_CLI_CELLS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/cli/table.h"
#include "gradtap/v1/query.pb.h"
#include "proto/text/answer_csv.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace gradtap::client {

// A statistic's value: "-" if absent; what is not finite stands out.
Cell ValueCell(std::string_view statistic, const std::optional<double>& value);
// A name, escaped.
Cell NameCell(std::string_view name);
Cell StateCell(v1::RunState state);
// "steps 10-19 of rank 0, attempt 1: lost, ring_full (10 steps)"; escaped.
std::string GapText(const v1::GapInfo& gap);
// "lost", "skipped" or "kept in part": what became of its steps.
std::string_view GapState(const v1::GapInfo& info);

// "/^blocks/: 12 parameters together"; escaped.
std::string GroupText(std::string_view group, std::uint32_t members);
// Of series or rows that are groups, each once.
template <typename Rows>
std::vector<std::string> GroupTexts(const Rows& rows) {
  std::vector<std::string> texts;
  for (const auto& row : rows) {
    if (row.members() == 0) continue;
    std::string text = GroupText(row.parameter(), row.members());
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) {
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

// The required positional RUN.
CLI::Option* AddRunArgument(CLI::App& app, std::string& run);
// --match RE.
CLI::Option* AddMatchOption(CLI::App& app, std::string& match);
// --merge RE, once or several times.
CLI::Option* AddMergeOption(CLI::App& app, std::vector<std::string>& patterns);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_CELLS_H_
