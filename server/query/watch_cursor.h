// What one watcher has seen of a run, and what it is to see next.
//
// First the run, then its newest steps (or, resumed, all that was committed
// after an ordinal), then what is committed: steps, gaps, changes of state. A
// watcher that is more than kMaxBacklog rows behind is conflated: it gets the
// newest step of each rank, every gap, and the number of steps between.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc. One thread
// at a time; nothing here waits.

#ifndef GRADTAP_SERVER_QUERY_WATCH_CURSOR_H_
#define GRADTAP_SERVER_QUERY_WATCH_CURSOR_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/run_query.h"
#include "server/query/watch_question.h"

namespace gradtap::server {

// One encoded WatchResponse: the fields of `event`, if there is one, then
// `rest`.
struct WatchMessage {
  std::shared_ptr<const EncodedEvent> event;
  std::string rest;
};

class WatchCursor {
 public:
  // Committed rows and gaps that a live watcher may be behind.
  static constexpr std::uint64_t kMaxBacklog = 64;

  // `environment` and `overheads` must outlive the cursor; `questions` are only
  // used here. kNotFound and kInvalidArgument as for GetSnapshot; kOutOfRange
  // if after_ordinal is beyond what the run has; kResourceExhausted, later as
  // well, if matching the run's names takes too long.
  static absl::StatusOr<std::unique_ptr<WatchCursor>> Open(
      const QueryEnvironment* environment, OverheadCache* overheads,
      WatchQuestions* questions, const v1::WatchRequest& request);

  // Fills the next message and returns true, or false if there is none now;
  // then behind() says whether to call again at once, as looking through many
  // rows of other ranks is done in pieces. kNotFound once the run has been
  // deleted.
  absl::StatusOr<bool> Next(WatchMessage* message);
  bool behind() const { return behind_; }

 private:
  struct Event {
    std::uint64_t ordinal = 0;
    std::optional<Row> row;
    std::shared_ptr<const RunEntry> entry;  // That the row's segment is of.
    std::uint32_t rank = 0;                 // Of the row.
    std::optional<v1::GapInfo> gap;
  };

  WatchCursor(const QueryEnvironment* environment, OverheadCache* overheads,
              std::shared_ptr<WatchQuestion> question)
      : environment_(environment),
        overheads_(overheads),
        question_(std::move(question)) {}

  absl::StatusOr<RunView> View() const;
  absl::Status Start(const RunView& run);
  absl::Status AddNewest(const RunView& run);
  absl::Status ReadBlock(const RunView& run, std::uint64_t until);
  absl::Status Conflate(const RunView& run);
  absl::StatusOr<bool> StateChange(const RunView& run, WatchMessage* message);
  absl::Status Emit(const Event& event, WatchMessage* message);
  bool WantsRank(std::uint32_t rank) const;

  const QueryEnvironment* const environment_;
  OverheadCache* const overheads_;
  const std::shared_ptr<WatchQuestion> question_;
  v1::WatchRequest request_;

  std::int64_t created_unix_ns_ = 0;  // Tells a run from its successor.
  bool started_ = false;
  bool behind_ = false;
  std::uint64_t position_ = 0;  // Everything up to here has been dealt with.
  std::uint64_t lossless_until_ = 0;  // A resumed watcher gets all up to here.
  // Steps with statistics of each stream that were delivered, conflated or
  // passed over, of those that count: all but what a resumption brings.
  std::map<StreamId, std::uint64_t> accounted_;
  std::uint64_t conflated_ = 0;  // To be told with the next message.
  StateSince state_;             // As told last.
  std::uint32_t attempts_ = 0;
  std::deque<Event> pending_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_WATCH_CURSOR_H_
