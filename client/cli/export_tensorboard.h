// A run as TensorBoard's event files.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_EXPORT_TENSORBOARD_H_
#define GRADTAP_CLIENT_CLI_EXPORT_TENSORBOARD_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "client/cli/context.h"
#include "client/rpc/query_channel.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// What a series is called there, so that its cards stand together by statistic
// and unfold along the modules: "grad.l2/encoder/layer1/weight" of
// encoder.layer1.weight; "scalar/loss", "agent/step_seconds".
std::string TensorboardTag(std::string_view statistic,
                           std::string_view parameter);

struct TensorboardExport {
  v1::GetSeriesRequest request;  // The run, and what of it.
  std::optional<v1::StepRange> steps;
  std::string folder;
  // Until the run has ended, or an interrupt.
  bool follow = false;
};

// Writes FOLDER/RUN/events.out.tfevents.*, of several ranks
// FOLDER/RUN/rank-K/...: a scalar for each value, a histogram where there are
// some. Files of an earlier export are replaced. Where steps come again (a
// restart from a checkpoint while it follows) TensorBoard is told to forget the
// old ones. kFailedPrecondition: a file cannot be written.
absl::Status ExportTensorboard(const TensorboardExport& what,
                               QueryChannel& channel, Context& context);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_EXPORT_TENSORBOARD_H_
