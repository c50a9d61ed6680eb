// What watchers of one run ask for, and the messages that those who ask for the
// same thing share: each step is evaluated and encoded once for all of them.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc. One thread
// at a time: that of the watches.

#ifndef GRADTAP_SERVER_QUERY_WATCH_QUESTION_H_
#define GRADTAP_SERVER_QUERY_WATCH_QUESTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/live_rows.h"
#include "server/query/snapshot_query.h"

namespace gradtap::server {

// Fields of an encoded WatchResponse: head and rows, one after the other.
// Immutable, shared by all messages that have them.
struct EncodedEvent {
  std::string head;
  std::string rows;  // The rest of the snapshot that head begins.

  std::size_t size() const { return head.size() + rows.size(); }
};

// Holds on to what was encoded last, so that whoever comes a little later finds
// it.
class RecentEvents {
 public:
  explicit RecentEvents(std::size_t max_bytes) : max_bytes_(max_bytes) {}
  void Add(std::shared_ptr<const EncodedEvent> event);
  void Clear();
  std::size_t bytes() const { return bytes_; }

 private:
  const std::size_t max_bytes_;
  std::deque<std::shared_ptr<const EncodedEvent>> events_;
  std::size_t bytes_ = 0;
};

// What all questions use.
struct WatchMemory {
  // Of messages that have been sent, in bytes.
  static constexpr std::size_t kRecentBytes = std::size_t{32} << 20;

  RecentEvents recent{kRecentBytes};
  std::string scratch;  // One message is made here.
};

class WatchQuestion {
 public:
  // `environment` must outlive it. kNotFound and kInvalidArgument as for
  // GetSnapshot.
  static absl::StatusOr<std::shared_ptr<WatchQuestion>> Create(
      const QueryEnvironment* environment, std::shared_ptr<WatchMemory> memory,
      const v1::WatchRequest& request);

  const SnapshotSelection& selection() const { return selection_; }
  SchemaCache* schemas() { return &schemas_; }

  // The row's ordinal, and its snapshot or the gap that it is. What is still
  // held by somebody is given again. `shared`: others are to ask for it, too.
  absl::StatusOr<std::shared_ptr<const EncodedEvent>> Encode(std::uint32_t rank,
                                                             const Row& row,
                                                             bool shared);

 private:
  WatchQuestion(const QueryEnvironment* environment,
                std::shared_ptr<WatchMemory> memory,
                const v1::WatchRequest& request, SnapshotSelection selection);

  absl::StatusOr<std::shared_ptr<const EncodedEvent>> EncodeAnew(
      std::uint32_t rank, const Row& row);
  // Null: the step is not one that it suits.
  absl::StatusOr<std::shared_ptr<const LiveRows>> LiveRowsOf(const Row& row);
  // Of the row's schema: PlacesShown(), found once. It has columns.
  absl::StatusOr<const std::vector<std::size_t>*> PlacesOf(const Row& row);

  const QueryEnvironment* const environment_;
  const std::shared_ptr<WatchMemory> memory_;
  const std::string run_;
  const SnapshotSelection selection_;
  SnapshotSelection head_selection_;  // The same without parameters.
  SchemaCache schemas_;
  std::map<std::pair<StreamId, std::uint32_t>, std::shared_ptr<const LiveRows>>
      live_rows_;
  std::map<std::pair<StreamId, std::uint32_t>, std::vector<std::size_t>>
      places_;

  // Stream, ordinal and the attempt's label: streams' ids are never used again.
  using Key = std::tuple<StreamId, std::uint64_t, std::uint32_t>;
  std::map<Key, std::weak_ptr<const EncodedEvent>> encoded_;
};

// The questions that are open.
class WatchQuestions {
 public:
  // The one of another request of the same run, statistics and pattern, or a
  // new one.
  absl::StatusOr<std::shared_ptr<WatchQuestion>> Get(
      const QueryEnvironment* environment, const v1::WatchRequest& request);

  // Nobody watches.
  void Clear();

 private:
  const std::shared_ptr<WatchMemory> memory_ = std::make_shared<WatchMemory>();
  std::map<std::string, std::weak_ptr<WatchQuestion>> questions_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_WATCH_QUESTION_H_
