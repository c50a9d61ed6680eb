// What streams take of the collector's memory for as long as they are stored:
// what their processes said of themselves, and their branches. Of all runs
// together, and of each.
//
// A stream may have 57 KB of tags and 10,000 branches, and there may be 100,000
// streams: each within its own bounds they would take gigabytes, after each
// restart again. One run has a quarter of the room at most, so that it does not
// take all of it from others.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h. Thread-safe: the committer opens streams, sessions add branches.

#ifndef GRADTAP_SERVER_INGEST_STREAM_ROOM_H_
#define GRADTAP_SERVER_INGEST_STREAM_ROOM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "core/sync.h"
#include "server/store/store.h"

namespace gradtap::server {

class StreamRoom {
 public:
  static constexpr std::uint64_t kBranchBytes = sizeof(Branch);

  // `bytes`: of all runs.
  explicit StreamRoom(std::uint64_t bytes) : bytes_(bytes) {}

  // About what one takes: with the Hello, and branch 0.
  static std::uint64_t BytesOf(const StreamHello& hello);
  static std::uint64_t BytesOf(const StreamEntry& stream);

  // All that there are: those that are not known yet are counted, stream by
  // stream, and those that are gone leave their room.
  void LookAt(const std::vector<std::shared_ptr<const RunEntry>>& runs)
      ABSL_LOCKS_EXCLUDED(mu_);

  // kResourceExhausted names the limit, and nothing is taken. The run may be
  // one that is about to be created.
  absl::Status Take(const std::string& run, std::uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);
  // What was taken and is not stored after all.
  void GiveBack(const std::string& run, std::uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Run {
    std::int64_t created_unix_ns =
        -1;  // Which life of that name; -1: none yet.
    std::uint64_t bytes = 0;
    std::uint64_t seen = 0;  // By which look.
  };

  const std::uint64_t bytes_;
  Mutex mu_;
  std::unordered_map<std::string, Run> runs_ ABSL_GUARDED_BY(mu_);
  std::uint64_t taken_ ABSL_GUARDED_BY(mu_) = 0;  // By all of them.
  std::uint64_t looks_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_STREAM_ROOM_H_
