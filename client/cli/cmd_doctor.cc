// gradtap doctor
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/doctor.h"
#include "client/cli/doctor_rows.h"

namespace gradtap::client {
namespace {

absl::Status Run(Context& context) {
  const ChannelOptions given = context.channel_options();
  DoctorOptions options;
  options.connect_deadline = given.connect_deadline;
  options.deadline = given.deadline;
  if (!given.collector.empty()) {
    auto complete = CompleteAddress(given.collector);
    if (!complete.ok()) return complete.status();
    options.given["GRADTAP_COLLECTOR"] = *std::move(complete);
  }
  if (given.tls) options.given["GRADTAP_TLS"] = "1";
  for (const auto& [name, value] :
       {std::pair("GRADTAP_TLS_CA", &given.tls_ca_file),
        std::pair("GRADTAP_TLS_CERT", &given.tls_cert_file),
        std::pair("GRADTAP_TLS_KEY", &given.tls_key_file),
        std::pair("GRADTAP_TOKEN", &given.token)}) {
    if (!value->empty()) options.given[name] = *value;
  }
  const auto world = MakeWorld(context.io());
  const std::vector<Finding> findings = Examine(world.get(), options);
  absl::Status written;
  switch (context.format()) {
    case Format::kJson:
      written = context.Write(DoctorJson(findings));
      break;
    case Format::kCsv:
      written = context.Write(DoctorCsv(findings, context.csv_options()));
      break;
    case Format::kTable:
      written = context.Write(DoctorText(findings, context.table_style()));
      break;
  }
  return written.ok() ? DoctorResult(findings) : written;
}

}  // namespace

Command AddDoctor(CLI::App& app) {
  app.footer(
      "Run it where the training program runs: as the same user, in the same\n"
      "container, with the same environment. It looks at the GRADTAP_ and\n"
      "proxy variables, the way to the collector (name, connection, TLS,\n"
      "token), whether the collector stores, versions, clocks, shared memory,\n"
      "the spool, and what ended processes have left. Options of the\n"
      "connection stand in for variables.\n"
      "What the program sets itself (AgentOptions) it cannot see.\n"
      "\n"
      "A note: it works, with less. A problem: an agent does not record, does\n"
      "not deliver, or loses steps. Exit codes: 0 no problem, 1 a problem,\n"
      "3 only that the collector cannot be reached. Nothing is changed.\n"
      "\n"
      "Examples:\n"
      "  gradtap doctor\n"
      "  GRADTAP_COLLECTOR=gpu7:7317 gradtap doctor --output json\n"
      "  gradtap --collector gpu7:7317 --tls --tls-ca ca.pem doctor");
  return [](Context& context) { return Run(context); };
}

}  // namespace gradtap::client
