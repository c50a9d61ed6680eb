// An audit as people, scripts and spreadsheets read it.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_AUDIT_REPORT_H_
#define GRADTAP_CLIENT_CLI_AUDIT_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/audit.h"
#include "client/cli/table.h"
#include "core/csv.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// The steps of an answer to agent.step_seconds and agent.capture_seconds of
// one rank, with its gaps. kNotFound: no step was left out for an audit.
absl::StatusOr<std::vector<AuditStep>> AuditStepsOf(
    const v1::GetSeriesResponse& response, std::uint32_t rank);

struct AuditReport {
  std::string run;
  std::uint32_t rank = 0;
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;
  AuditResult result;
};

// What it comes to, in a sentence or two.
std::string AuditSentence(const AuditResult& result);

// kNotFound: too few blocks for an interval; says how to get more.
absl::Status CheckEnough(const AuditReport& report);

std::string AuditTable(const AuditReport& report, const TableStyle& style);
// A header and a row.
std::string AuditCsv(const AuditReport& report, CsvOptions options);
// One object, names as in the protobuf JSON mapping.
std::string AuditJson(const AuditReport& report);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_AUDIT_REPORT_H_
