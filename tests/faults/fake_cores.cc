// Preloaded: the machine has FAKE_CORES cores, as far as sysconf() knows.

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

extern "C" __attribute__((visibility("default"))) long sysconf(
    int name) noexcept {
  using Function = long (*)(int);
  static const auto real =
      reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "sysconf"));
  const char* const cores = std::getenv("FAKE_CORES");
  const bool asked =
      name == _SC_NPROCESSORS_CONF || name == _SC_NPROCESSORS_ONLN;
  return asked && cores != nullptr ? std::atol(cores) : real(name);
}
