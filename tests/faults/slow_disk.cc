// Preloaded: writing to a file takes as long as on a disk of
// SLOW_DISK_BYTES_PER_SECOND, and a sync 50 ms more.

#include <dlfcn.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

namespace {

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

void Sleep(double seconds) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec =
      static_cast<long>((seconds - static_cast<double>(time.tv_sec)) * 1e9);
  ::nanosleep(&time, nullptr);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ssize_t writev(
    int fd, const iovec* pieces, int count) {
  static const auto real = Real<ssize_t (*)(int, const iovec*, int)>("writev");
  const ssize_t wrote = real(fd, pieces, count);
  const char* const rate = std::getenv("SLOW_DISK_BYTES_PER_SECOND");
  if (wrote > 0 && rate != nullptr) {
    Sleep(static_cast<double>(wrote) / std::atof(rate));
  }
  return wrote;
}

extern "C" __attribute__((visibility("default"))) int fdatasync(int fd) {
  static const auto real = Real<int (*)(int)>("fdatasync");
  Sleep(0.05);
  return real(fd);
}
