#include "server/allocator.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace gradtap::server {

void UseHugePages(char** argv) {
  constexpr char kVariable[] = "GLIBC_TUNABLES";
  constexpr char kTunable[] = "glibc.malloc.hugetlb";
  const char* const set = std::getenv(kVariable);
  std::string tunables = set == nullptr ? "" : set;
  if (tunables.find(kTunable) != tunables.npos) return;
  // Not /proc/self/exe itself, which would become the process's name.
  std::error_code error;
  const std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  if (!tunables.empty()) tunables += ':';
  tunables += std::string(kTunable) + "=1";
  if (::setenv(kVariable, tunables.c_str(), 1) != 0) return;
  ::execv(program.c_str(), argv);  // Returns if it fails.
}

void ShareMemoryAmongThreads() { mallopt(M_ARENA_MAX, 1); }

}  // namespace gradtap::server
