// Reads what is stored of a run, a chunk of steps at a time.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_EXPORT_READER_H_
#define GRADTAP_CLIENT_CLI_EXPORT_READER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "client/cli/context.h"
#include "client/rpc/query_channel.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// What is read of a run if the request names no statistics.
enum class ExportDefault {
  kStored,  // All that is stored, and all scalars.
  kNorms,   // What people look at: norms, the update's ratio, all scalars.
};

// One thread.
class ExportReader {
 public:
  using OnChunk =
      std::function<absl::Status(const v1::GetSeriesResponse& chunk,
                                 std::int64_t begin, std::int64_t end)>;

  // `request`: the run, and what of it; its steps are set here.
  ExportReader(QueryChannel& channel, v1::GetSeriesRequest request,
               ExportDefault what, Context& context)
      : channel_(channel),
        all_statistics_(request.statistics().empty()),
        what_(what),
        request_(std::move(request)),
        context_(context) {}

  // What there is of the run: its steps, statistics, a chunk's size. To be
  // called before Read(); again, to learn what has come since. kNotFound if no
  // parameter matches.
  absl::Status Plan(const std::optional<v1::StepRange>& wanted);

  // Calls `on_chunk` until it fails, for the steps [begin, end). Chunks have
  // about 200,000 values; one that the collector refuses as too large is
  // halved.
  absl::Status Read(std::int64_t begin, std::int64_t end,
                    const OnChunk& on_chunk);

  // How far it is, on a terminal; to be left out where the data goes to it too.
  void ShowProgress() { shows_progress_ = true; }

  // Of the last Plan().
  const v1::GetRunResponse& run() const { return run_; }
  // That the parameters have.
  const std::set<v1::Role>& roles() const { return roles_; }
  // Half-open; empty if begin >= end.
  std::int64_t begin_step() const { return begin_; }
  std::int64_t end_step() const { return end_; }

 private:
  void FindSteps(const v1::StepRange& wanted);
  absl::Status AddRoles(std::uint32_t attempt, std::uint32_t rank,
                        std::int64_t* parameters);
  void SetStatistics();
  absl::Status Ask(std::int64_t begin, std::int64_t end,
                   v1::GetSeriesResponse* chunk);
  void Progress(std::int64_t done, std::int64_t steps);
  void EndProgress();

  QueryChannel& channel_;
  const bool all_statistics_;
  const ExportDefault what_;
  v1::GetSeriesRequest request_;
  Context& context_;
  v1::GetRunResponse run_;
  std::set<v1::Role> roles_;
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  std::int64_t chunk_ = 1;
  absl::Status no_match_;
  bool shows_progress_ = false;
  bool drew_progress_ = false;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_EXPORT_READER_H_
