#include "agent/surroundings.h"

#include <errno.h>
#include <unistd.h>

#include <cstdlib>

namespace gradtap::agent {

Surroundings GetSurroundings() {
  Surroundings s;
  s.clock = &RealClock();
  s.environment = [](const char* name) -> const char* {
    return std::getenv(name);
  };
  s.process.program = ::program_invocation_short_name;
  char host[256] = "";
  if (::gethostname(host, sizeof(host) - 1) == 0) s.process.host = host;
  s.process.unix_seconds = s.clock->UnixNanos() / 1'000'000'000;
  s.make_delivery = Delivery::Create;
  return s;
}

}  // namespace gradtap::agent
