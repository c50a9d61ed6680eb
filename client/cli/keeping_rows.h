// What `gradtap status` says of what is kept, and of what the collector has
// removed by itself.
//
// Layer: client/cli. Pure functions.

#ifndef GRADTAP_CLIENT_CLI_KEEPING_ROWS_H_
#define GRADTAP_CLIENT_CLI_KEEPING_ROWS_H_

#include <cstdint>
#include <string>

#include "client/cli/table.h"
#include "gradtap/v1/keeping.pb.h"

namespace gradtap::client {

// A row of two cells, if nothing is stored for want of room.
void AddIngestStopped(const v1::KeepingStatus& keeping,
                      std::int64_t now_unix_ns, Table* table);

// Rows of two cells. None for a collector that does not tell.
void AddKeepingRows(const v1::KeepingStatus& keeping, Table* table);

// The newest removals, at most `most`, as a table; empty: there are none.
std::string RemovalsText(const v1::KeepingStatus& keeping, int most,
                         std::int64_t now_unix_ns, const TableStyle& style);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_KEEPING_ROWS_H_
