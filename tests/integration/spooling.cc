// A process that records steps into a spool and dies when the test says so; no
// torch, no network.
//
//   gradtap_test_spooling ROOT RUN LAUNCH RANK WORLD_SIZE
//       NONCE_CHARACTER[=COLLECTOR]
//
// Each line of standard input is a number of steps: they are recorded and
// spilled, then the spool's folder is printed.
//
// With a variable LEAVE_RING_IN=FOLDER each number of steps is left in a ring's
// file there but for records 1 to 59, which are in the spool.
//
//   gradtap_test_spooling ROOT RUN LAUNCH RANK WORLD_SIZE COLLECTOR
//
// The same as an agent does it, which sends them; then "delivered" is printed.

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "agent/delivery/delivery.h"
#include "agent/delivery/leftover_fixtures.h"
#include "agent/spool/syscalls.h"

namespace {

int Deliver(char** argv) {
  gradtap::agent::DeliveryOptions options;
  options.spool_folder = argv[1];
  options.run = argv[2];
  options.launch = argv[3];
  options.rank = static_cast<std::uint32_t>(std::atoi(argv[4]));
  options.world_size = static_cast<std::uint32_t>(std::atoi(argv[5]));
  options.collector = argv[6];
  options.log = [](const std::string& line) { std::cerr << line << std::endl; };
  auto delivery = gradtap::agent::Delivery::Create(options);
  if (!delivery.ok()) return 1;
  (*delivery)->PutSchema(gradtap::testing::MakeSchema(1, 4));
  std::int64_t next = 0;
  std::string line;
  while (std::getline(std::cin, line)) {
    for (int n = std::atoi(line.c_str()); n > 0; --n) {
      (*delivery)->PutStep(gradtap::testing::MakeStep(next++, 1, 4));
    }
    const auto flushed = (*delivery)->Flush(std::chrono::seconds(60));
    std::cout << (flushed.delivered ? "delivered" : "kept") << std::endl;
  }
  (*delivery)->Shutdown(gradtap::EndReason::kFinished, std::chrono::seconds(5));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const std::string last = argv[6];
  if (last.size() > 1 && last[1] != '=') return Deliver(argv);
  gradtap::agent::SpoolIdentity identity;
  identity.run = argv[2];
  identity.launch = argv[3];
  identity.rank = static_cast<std::uint32_t>(std::atoi(argv[4]));
  identity.world_size = static_cast<std::uint32_t>(std::atoi(argv[5]));
  identity.process_nonce = std::string(16, last[0]);
  if (last.size() > 1) identity.collector = last.substr(2);
  identity.agent_version = "0.1.0";
  identity.host = "host";
  identity.pid = ::getpid();
  identity.start_time_unix_ns = gradtap::RealClock().UnixNanos();
  std::string line;
  if (const char* const rings = std::getenv("LEAVE_RING_IN")) {
    while (std::getline(std::cin, line)) {
      gradtap::testing::LeaveRing(rings, argv[1], std::atoi(line.c_str()), 60,
                                  60, identity);
      std::cout << argv[1] << std::endl;
    }
    return 0;
  }
  gradtap::testing::DyingProcess process(argv[1], identity,
                                         gradtap::agent::RealSyscalls());
  while (std::getline(std::cin, line)) {
    process.PutSteps(std::atoi(line.c_str()));
    std::cout << process.Spill() << std::endl;
  }
  std::_Exit(0);  // As if killed: nothing is put in order.
}
