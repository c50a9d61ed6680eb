// A real gradtapd and the real gradtap command, as child processes.

#ifndef GRADTAP_TESTS_INTEGRATION_COLLECTOR_H_
#define GRADTAP_TESTS_INTEGRATION_COLLECTOR_H_

#include <memory>
#include <string>
#include <vector>

#include "integration/process.h"

namespace gradtap::testing {

// The command line of a collector on `data_dir`; ports as given, 0: any.
std::vector<std::string> CollectorCommand(const std::string& data_dir,
                                          int grpc_port = 0);

class Collector {
 public:
  // Returns when it listens. A collector that does not start fails the test and
  // has the address "". `options` go to gradtapd as they are.
  explicit Collector(const std::string& data_dir, int grpc_port = 0,
                     const std::vector<std::string>& options = {});

  const std::string& address() const { return address_; }  // HOST:PORT.
  int port() const { return port_; }
  Process& process() { return process_; }

  // SIGKILL; returns when it is gone.
  void Kill();
  // SIGTERM; returns the exit code, -1000 if it does not end.
  int Terminate();

 private:
  Process process_;
  std::string address_;
  int port_ = 0;
};

// `gradtap --collector ADDRESS ARGS...`.
Outcome Gradtap(const std::string& address,
                const std::vector<std::string>& args,
                std::chrono::milliseconds timeout = std::chrono::seconds(120));
// The command line alone, for a Process of its own.
std::vector<std::string> GradtapCommand(const std::string& address,
                                        const std::vector<std::string>& args);

// What `gradtap runs --output json` says of one run; no such run: "" as state.
struct RunRow {
  std::string state;  // "RUNNING", ...
  std::uint64_t stored_steps = 0;
  std::uint64_t skipped_steps = 0;
  std::uint64_t lost_steps = 0;
  std::int64_t first_step = -1;
  std::int64_t last_step = -1;
  std::uint32_t attempts = 0;
};
RunRow FindRun(const std::string& address, const std::string& run);

// Asks until the run is in `state`. False after `timeout`.
bool WaitForState(const std::string& address, const std::string& run,
                  const std::string& state,
                  std::chrono::milliseconds timeout = std::chrono::seconds(60));

// One row of `gradtap params --output json`, and its totals.
struct ParamRow {
  std::string name;
  std::string kind;  // "KIND_PARAMETER", "KIND_BUFFER".
  std::string module_path, module_type, dtype, device, layout;
  std::vector<std::int64_t> shape;
  bool requires_grad = false;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> aliases;
  std::string unsupported_reason;
};
struct ParamTable {
  std::vector<ParamRow> rows;
  std::uint64_t parameter_count = 0, parameter_numel = 0, parameter_bytes = 0;
  std::uint64_t trainable_numel = 0;
  std::uint64_t buffer_count = 0, buffer_numel = 0, buffer_bytes = 0;
};
// The text must be the protobuf JSON mapping of ListParametersResponse, else
// the test fails.
ParamTable ParseParams(const std::string& json);

// Values of one series as JSON says them; absent ones are not among them.
struct SeriesRow {
  std::string parameter, statistic;
  std::uint32_t attempt = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  double value = 0;
  bool absent = false;
};
// The text must be the protobuf JSON mapping of GetSeriesResponse.
std::vector<SeriesRow> ParseSeries(const std::string& json);

// The text must be the protobuf JSON mapping of GetRunResponse or the like;
// here the attempts of ListGaps: (cause, first, last, steps).
struct GapLine {
  std::string cause;
  std::int64_t first = 0, last = 0;
  std::uint64_t steps = 0;
  bool lost = false;
  std::string detail;
};
std::vector<GapLine> ParseGaps(const std::string& json);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_COLLECTOR_H_
