// gradtap snapshot
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/snapshot_rows.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"

namespace gradtap::client {
namespace {

struct SnapshotOptions {
  std::string run;
  std::optional<std::int64_t> step;
  std::vector<std::string> statistics;
  std::string match;
  std::vector<std::string> merge;
  std::string sort;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::StatusOr<v1::GetSnapshotRequest> ToRequest(
    const SnapshotOptions& options) {
  v1::GetSnapshotRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  if (options.step) request.set_step(*options.step);
  for (const std::string& name : SplitList(options.statistics)) {
    request.add_statistics(name);
  }
  request.set_match(options.match);
  request.mutable_merge_match()->Assign(options.merge.begin(),
                                        options.merge.end());
  const auto rank = ParseOneRank(options.ranks, "a snapshot");
  if (!rank.ok()) return rank.status();
  request.set_rank(rank->rank);
  request.set_merged(rank->merged);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

absl::Status WriteTable(const v1::GetSnapshotResponse& snapshot,
                        Context& context) {
  const TableStyle style = context.table_style();
  std::string text =
      Paint(SnapshotCaption(snapshot), Tone::kFaint, style.colour) + "\n";
  const std::string scalars = ScalarsText(snapshot);
  if (!scalars.empty()) absl::StrAppend(&text, scalars, "\n");
  absl::StrAppend(&text, "\n");
  if (snapshot.rows().empty()) {
    absl::StrAppend(&text, "No parameter is like that.\n");
  } else {
    text +=
        SnapshotTable(snapshot, std::numeric_limits<int>::max()).Render(style);
  }
  bool first = true;
  for (const std::string& group : GroupTexts(snapshot.rows())) {
    absl::StrAppend(&text, first ? "\n" : "", group, "\n");
    first = false;
  }
  return context.Write(text);
}

absl::Status WriteRows(const v1::GetSnapshotResponse& snapshot,
                       Context& context) {
  absl::Status status;
  WriteCsv(snapshot, context.csv_options(), [&](const std::string& row) {
    status = context.Write(row);
    return status.ok();
  });
  return status;
}

absl::Status Run(const SnapshotOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetSnapshotResponse snapshot;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetSnapshot, *request, &snapshot);
  if (status.ok()) status = SortRows(options.sort, snapshot);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(snapshot);
    case Format::kCsv:
      return WriteRows(snapshot, context);
    case Format::kTable:
      break;
  }
  return WriteTable(snapshot, context);
}

}  // namespace

Command AddSnapshot(CLI::App& app) {
  auto options = std::make_shared<SnapshotOptions>();
  AddRunArgument(app, options->run);
  app.add_option("--step", options->step,
                 "Which step; negative counts from the end; default: the last")
      ->option_text("N");
  app.add_option("-s,--stat", options->statistics,
                 "One column each; default: a useful choice. With a quantile "
                 "(grad.p50) steps that have histograms alone count")
      ->option_text("S,...")
      ->expected(1)
      ->take_all();
  AddMatchOption(app, options->match);
  AddMergeOption(app, options->merge);
  app.add_option("--sort", options->sort,
                 "By name, or by a statistic shown: the largest first, what is "
                 "not finite before all; default: the model's order")
      ->option_text("S|name");
  app.add_option("--rank", options->ranks, "Of this rank; default 0")
      ->option_text("R|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Of this attempt's line alone")
      ->option_text("K");
  app.footer(
      "Examples:\n"
      "  gradtap snapshot fashion-mnist\n"
      "  gradtap snapshot fashion-mnist --stat grad.l2,grad.nan --sort "
      "grad.l2\n"
      "  gradtap snapshot gpt --merge '^blocks\\.3\\.' --merge "
      "'^blocks\\.4\\.'\n"
      "  gradtap snapshot gpt --step -100 --match attn --output csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
