#include "agent/surroundings.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace gradtap::agent {
namespace {

std::int64_t ThreadCpuNanos() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
}

}  // namespace

Surroundings GetSurroundings() {
  Surroundings s;
  s.clock = &RealClock();
  s.thread_cpu_nanos = ThreadCpuNanos;
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
