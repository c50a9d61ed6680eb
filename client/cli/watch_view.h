// How a live run looks: a table that is redrawn in place on a terminal, lines
// when piped.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_WATCH_VIEW_H_
#define GRADTAP_CLIENT_CLI_WATCH_VIEW_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/cli/context.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// Not thread-safe. Each method returns what writing returned.
class WatchView {
 public:
  virtual ~WatchView() = default;

  virtual absl::Status Begin() { return absl::OkStatus(); }
  virtual absl::Status Show(const v1::WatchResponse& message) = 0;
  // Called now and then while nothing happens.
  virtual absl::Status Tick() { return absl::OkStatus(); }
  // A message for the person, once something went wrong or right again.
  virtual absl::Status Remark(const std::string& text) = 0;
  // The last call. `ended`: the run has; else the watcher had enough.
  virtual absl::Status End(const v1::RunInfo& run, bool ended) = 0;
};

// A WatchResponse per line, as JSON.
std::unique_ptr<WatchView> MakeJsonView(Context& context);
// run,attempt,rank,step,time,param,stat,value, as `series` prints them.
std::unique_ptr<WatchView> MakeCsvView(Context& context);
// A line for each parameter and step, for each change of state and each gap.
std::unique_ptr<WatchView> MakeLinesView(Context& context);
// A table in place. `sort` as SortRows() takes it; empty: the first statistic.
std::unique_ptr<WatchView> MakeLiveView(Context& context, std::string sort);

// "run fashion-mnist finished at step 1874: 1,875 steps stored, 0 lost";
// escaped.
std::string RunEndText(const v1::RunInfo& run);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_WATCH_VIEW_H_
