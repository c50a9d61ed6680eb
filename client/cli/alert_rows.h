// Alerts as tables and CSV.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_ALERT_ROWS_H_
#define GRADTAP_CLIENT_CLI_ALERT_ROWS_H_

#include <string>

#include "client/cli/table.h"
#include "core/csv.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "gradtap/v1/alert.pb.h"

namespace gradtap::client {

using Alerts = google::protobuf::RepeatedPtrField<v1::Alert>;

// One a row, with what it says.
Table AlertTable(const Alerts& alerts);
// One a row, under its header.
std::string AlertCsv(const Alerts& alerts, const CsvOptions& options);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_ALERT_ROWS_H_
