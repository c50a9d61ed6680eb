// What `doctor` prints: a line for each finding, and one for what to do.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_DOCTOR_ROWS_H_
#define GRADTAP_CLIENT_CLI_DOCTOR_ROWS_H_

#include <string>
#include <vector>

#include "client/cli/doctor.h"
#include "client/cli/table.h"
#include "core/csv.h"

namespace gradtap::client {

std::string DoctorText(const std::vector<Finding>& findings,
                       const TableStyle& style);
std::string DoctorCsv(const std::vector<Finding>& findings, CsvOptions options);
// One object, names as in the protobuf JSON mapping.
std::string DoctorJson(const std::vector<Finding>& findings);

// What the command comes to. kUnavailable: the problems are that no collector
// can be reached, and nothing else; kFailedPrecondition: there are others.
absl::Status DoctorResult(const std::vector<Finding>& findings);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_DOCTOR_ROWS_H_
