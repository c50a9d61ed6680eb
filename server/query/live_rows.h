// The rows of a snapshot as the bytes that go over the wire, straight from a
// step as it was committed: what a watcher gets of each step. The same values
// and fields as FillSnapshot() makes of it, without a message in between.
//
// Layer: server/query. This file: std, core; no grpc.

#ifndef GRADTAP_SERVER_QUERY_LIVE_ROWS_H_
#define GRADTAP_SERVER_QUERY_LIVE_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/codec.h"
#include "server/query/selection.h"
#include "server/query/snapshot_query.h"

namespace gradtap::server {

// One selection of one schema. Immutable.
class LiveRows {
 public:
  // Whether it can: quantiles need histograms, which are not in the step.
  static bool Suits(const SnapshotSelection& selection);

  LiveRows(std::shared_ptr<const SchemaIndex> index,
           const SnapshotSelection& selection);

  // Parameters that match.
  std::size_t size() const { return rows_.size(); }

  // Encoded fields `rows` of a GetSnapshotResponse, one for each parameter that
  // matches. `step` is of the schema. `scratch` keeps its memory from one step
  // to the next.
  std::string Encode(const StepView& step, std::string* scratch) const;

 private:
  struct RowHead {
    std::size_t parameter = 0;  // Of the schema.
    std::size_t begin = 0;      // Of its bytes in heads_.
    std::size_t bytes = 0;
  };

  const std::shared_ptr<const SchemaIndex> index_;
  const std::vector<Statistic> statistics_;
  std::vector<Role> roles_;  // That they are made of, each once.
  std::vector<RowHead> rows_;
  // Of each row the fields up to its values: parameter, kind, tag and length.
  std::string heads_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_LIVE_ROWS_H_
