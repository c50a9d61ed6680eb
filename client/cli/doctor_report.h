// What the files of the doctor share: the list that findings go into, and what
// the checks after the environment's go by.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_DOCTOR_REPORT_H_
#define GRADTAP_CLIENT_CLI_DOCTOR_REPORT_H_

#include <string>
#include <string_view>
#include <vector>

#include "agent/options.h"
#include "client/cli/doctor.h"

namespace gradtap::client {

// Text becomes harmless on a terminal here, and is cut at 2,000 bytes.
class Report {
 public:
  void Ok(std::string_view check, std::string_view what) {
    Add(check, Finding::Level::kOk, what, "");
  }
  void Note(std::string_view check, std::string_view what,
            std::string_view advice) {
    Add(check, Finding::Level::kNote, what, advice);
  }
  void Problem(std::string_view check, std::string_view what,
               std::string_view advice) {
    Add(check, Finding::Level::kProblem, what, advice);
  }
  void Unreachable(std::string_view check, std::string_view what,
                   std::string_view advice) {
    Problem(check, what, advice);
    findings_.back().unreachable = true;
  }
  std::vector<Finding> Take() { return std::move(findings_); }

 private:
  void Add(std::string_view check, Finding::Level level, std::string_view what,
           std::string_view advice);

  std::vector<Finding> findings_;
};

// "'text'", escaped, cut at 200 bytes.
std::string Quoted(std::string_view text);

// What an agent would run with here, if its program says nothing else.
struct DoctorPlan {
  agent::Settings settings;
  std::string run;  // GRADTAP_RUN; empty: the program says it.
  // A proxy that gRPC would go by: its variable, empty: none.
  std::string proxy_variable;
};

// GRADTAP_* and the proxies'. One that switches the agent off is reported, and
// the rest is read as if it did not.
DoctorPlan CheckEnvironment(World* world, const DoctorOptions& options,
                            Report* report);
// The collector's address, TLS, token, version and clock.
void CheckCollector(World* world, const DoctorPlan& plan,
                    const DoctorOptions& options, Report* report);
// Shared memory, the spool, what is left in both, the agent's library.
void CheckHost(World* world, const DoctorPlan& plan, Report* report);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_DOCTOR_REPORT_H_
