// What `drain` and `import` print: a row for each process that has left
// something.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_LEFTOVER_ROWS_H_
#define GRADTAP_CLIENT_CLI_LEFTOVER_ROWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/cli/table.h"
#include "core/csv.h"

namespace gradtap::client {

struct LeftoverRow {
  enum class State {
    kDelivered,   // Something of it is new.
    kUpToDate,    // The collector had all of it.
    kRunning,     // Its process lives, and delivers by itself.
    kSetAside,    // Delivered before; what is left cannot be read.
    kRefused,     // Some steps for good; the collector has the rest.
    kForAnother,  // Of another collector than the one that was asked for.
    kFailed,      // Not all of it is delivered.
  };
  std::string folder;
  std::string process;  // 32 hex digits; empty if not known.
  std::string run;      // Empty if not known; so the next three.
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::int64_t pid = 0;  // Of the process, or of the owner that lives.
  // The one that the records are for; empty: any, or not known.
  std::string collector;
  State state = State::kFailed;
  std::uint64_t records_sent = 0;
  std::uint64_t steps_sent = 0;
  std::uint64_t records_there = 0;  // Before.
  std::uint64_t steps_there = 0;
  std::uint64_t steps_refused = 0;
  std::vector<std::string> problems;
};

std::string LeftoverTable(const std::vector<LeftoverRow>& rows,
                          const TableStyle& style);
std::string LeftoverCsv(const std::vector<LeftoverRow>& rows,
                        CsvOptions options);
// One object, names as in the protobuf JSON mapping.
std::string LeftoverJson(const std::vector<LeftoverRow>& rows);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_LEFTOVER_ROWS_H_
