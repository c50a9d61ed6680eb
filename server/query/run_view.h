// A run as one query sees it: one commit's entry, its attempts and schemas.
//
// Layer: server/query. This file: std, absl, store; no grpc.

#ifndef GRADTAP_SERVER_QUERY_RUN_VIEW_H_
#define GRADTAP_SERVER_QUERY_RUN_VIEW_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/query/line.h"
#include "server/query/selection.h"
#include "server/store/store.h"

namespace gradtap::server {

struct RunView {
  std::shared_ptr<const RunEntry> entry;
  std::vector<Attempt> attempts;  // Into *entry.

  const std::string& name() const { return entry->run; }
  // Null if there is none of that label.
  const Attempt* FindAttempt(std::uint32_t label) const;
  // The canonical line, or with a label that of the attempt alone.
  Line LineOf(std::uint32_t rank, std::uint32_t attempt) const;
  // Ranks of the attempt, or of the run if `attempt` is 0.
  std::vector<std::uint32_t> Ranks(std::uint32_t attempt) const;
};

// UnknownRun(); kInvalidArgument: the name is empty.
absl::StatusOr<RunView> OpenRun(const Store& store, const std::string& name);

// kNotFound if there is no such attempt (0: any) or rank; says which there are.
absl::Status CheckAttempt(const RunView& run, std::uint32_t attempt);
absl::Status CheckRank(const RunView& run, std::uint32_t attempt,
                       std::uint32_t rank);

// Schemas of one query, each indexed once. Not thread-safe.
class SchemaCache {
 public:
  explicit SchemaCache(Store* store) : store_(store) {}

  absl::StatusOr<std::shared_ptr<const SchemaIndex>> Get(
      StreamId stream, std::uint32_t schema_id);

 private:
  Store* const store_;
  std::map<std::pair<StreamId, std::uint32_t>,
           std::shared_ptr<const SchemaIndex>>
      known_;
};

// The rank's newest stream that has a schema; null: none. Streams of an
// attempt, or with 0 of all attempts, the newest first.
struct SchemaSource {
  const StreamEntry* stream = nullptr;
  std::uint32_t attempt = 0;
};
SchemaSource NewestSchema(const RunView& run, std::uint32_t rank,
                          std::uint32_t attempt);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_RUN_VIEW_H_
