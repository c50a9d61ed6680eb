// A snapshot's rows in the order and the shape that people want.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_SNAPSHOT_ROWS_H_
#define GRADTAP_CLIENT_CLI_SNAPSHOT_ROWS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/table.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// Sorts the rows: "name" ascending; a statistic of the answer descending, what
// is not finite first, what is absent last. Equal ones stay in order. Empty:
// leaves them as they are. kInvalidArgument names what can be sorted by.
absl::Status SortRows(std::string_view by, v1::GetSnapshotResponse& snapshot);

// One row a parameter, one column a statistic; at most `most` rows.
Table SnapshotTable(const v1::GetSnapshotResponse& snapshot, int most);

// "fashion-mnist  attempt 1  rank 0  step 12  2026-11-24 15:43:16.123Z";
// escaped, no line end.
std::string SnapshotCaption(const v1::GetSnapshotResponse& snapshot);

// "loss 0.1234  lr 0.01"; escaped; empty if there is none.
std::string ScalarsText(const v1::GetSnapshotResponse& snapshot);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_SNAPSHOT_ROWS_H_
