// gradtap watch
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/watch_view.h"
#include "client/rpc/watch_loop.h"
#include "client/rpc/words.h"

namespace gradtap::client {
namespace {

struct WatchOptions {
  std::string run;
  std::vector<std::string> statistics;
  std::string match;
  std::vector<std::string> ranks;
  std::string sort;
};

absl::StatusOr<v1::WatchRequest> ToRequest(const WatchOptions& options) {
  v1::WatchRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  for (const std::string& name : SplitList(options.statistics)) {
    request.add_statistics(name);
  }
  request.set_match(options.match);
  const auto ranks = ParseRanks(options.ranks);
  if (!ranks.ok()) return ranks.status();
  if (ranks->merged) {
    return absl::InvalidArgumentError(
        "bad rank 'merged': a live run is watched rank by rank");
  }
  request.mutable_ranks()->Assign(ranks->ranks.begin(), ranks->ranks.end());
  return request;
}

std::unique_ptr<WatchView> MakeView(const WatchOptions& options,
                                    Context& context) {
  switch (context.format()) {
    case Format::kJson:
      return MakeJsonView(context);
    case Format::kCsv:
      return MakeCsvView(context);
    case Format::kTable:
      break;
  }
  const std::string term = context.io().env("TERM").value_or("");
  if (context.io().out_is_terminal && !term.empty() && term != "dumb") {
    return MakeLiveView(context, options.sort);
  }
  return MakeLinesView(context);
}

// Feeds a view from a watch until the run ends or the person has enough.
class Watcher {
 public:
  Watcher(QueryChannel& channel, const v1::WatchRequest& request,
          WatchView& view, Context& context)
      : channel_(channel), request_(request), view_(view), context_(context) {}

  absl::Status Run() {
    WatchLoopOptions options;
    options.tick = std::chrono::milliseconds(100);
    WatchHandlers handlers;
    handlers.on_message = [this](const v1::WatchResponse& message) {
      return OnMessage(message);
    };
    handlers.on_tick = [this] { return Go(view_.Tick()); };
    handlers.on_disconnected = [this](const absl::Status& why) {
      return Go(view_.Remark(
          absl::StrCat(std::string(why.message()), "; dialling again")));
    };
    handlers.on_reconnected = [this] {
      return Go(view_.Remark(
          absl::StrCat("the collector at ", channel_.address(), " is back")));
    };
    if (!Go(view_.Begin())) return written_;
    absl::Status status = RunWatchLoop(channel_, request_, options, handlers);
    if (!written_.ok()) return written_;
    if (absl::Status end = view_.End(run_, ended_); !end.ok()) return end;
    return status;
  }

 private:
  // Whether to go on.
  bool Go(absl::Status status) {
    written_ = std::move(status);
    return written_.ok() && !context_.interrupted();
  }

  bool OnMessage(const v1::WatchResponse& message) {
    if (message.has_snapshot()) any_snapshot_ = true;
    if (!Go(view_.Show(message))) return false;
    if (!message.has_run()) return true;
    run_ = message.run();
    ended_ = HasEnded(run_.state());
    if (ended_ && !any_snapshot_) ShowLastStep(message.ordinal());
    return !ended_;
  }

  // For a run that had ended before anybody watched. One without a step has
  // nothing to show.
  void ShowLastStep(std::uint64_t ordinal) {
    v1::GetSnapshotRequest request;
    request.set_run(request_.run());
    *request.mutable_statistics() = request_.statistics();
    request.set_match(request_.match());
    if (!request_.ranks().empty()) request.set_rank(request_.ranks(0));
    v1::WatchResponse message;
    message.set_ordinal(ordinal);
    const absl::Status status = channel_.Call(
        &v1::Query::Stub::GetSnapshot, request, message.mutable_snapshot());
    if (status.ok()) Go(view_.Show(message));
  }

  QueryChannel& channel_;
  const v1::WatchRequest& request_;
  WatchView& view_;
  Context& context_;
  v1::RunInfo run_;
  bool any_snapshot_ = false;
  bool ended_ = false;
  absl::Status written_;
};

absl::Status Run(const WatchOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  context.io().catch_interrupts();
  const std::unique_ptr<WatchView> view = MakeView(options, context);
  return Watcher(**channel, *request, *view, context).Run();
}

}  // namespace

Command AddWatch(CLI::App& app) {
  auto options = std::make_shared<WatchOptions>();
  AddRunArgument(app, options->run);
  app.add_option("-s,--stat", options->statistics,
                 "One column each; default: a useful choice")
      ->option_text("S,...")
      ->expected(1)
      ->take_all();
  AddMatchOption(app, options->match);
  app.add_option("--rank", options->ranks,
                 "Only these ranks; the live table shows the lowest")
      ->option_text("R,...")
      ->expected(1)
      ->take_all();
  app.add_option("--sort", options->sort,
                 "The live table: by name, or by a statistic shown, the "
                 "largest first; default: the first statistic")
      ->option_text("S|name");
  app.footer(
      "A table on a terminal, lines when piped. Ends with the run, or with "
      "Ctrl-C;\ngoes on where it stopped when the collector comes back.\n"
      "\n"
      "Examples:\n"
      "  gradtap watch fashion-mnist\n"
      "  gradtap watch gpt --stat grad.l2,update.ratio --match attn\n"
      "  gradtap watch gpt --output json | jq .snapshot.step");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
