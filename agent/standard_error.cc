#include "agent/standard_error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gradtap::agent {
namespace {

static_assert(kMaxLineBytes <= PIPE_BUF);

// What the kernel sends to a thread whose write it refuses. Held back while
// this lives, but where one is held back and waits already.
class WithoutWriteSignals {
 public:
  WithoutWriteSignals() {
    ::sigset_t waiting;
    ::sigemptyset(&waiting);
    ::sigpending(&waiting);
    ::sigemptyset(&ours_);
    for (const int signal : {SIGPIPE, SIGXFSZ}) {
      if (::sigismember(&waiting, signal) == 0) ::sigaddset(&ours_, signal);
    }
    ::pthread_sigmask(SIG_BLOCK, &ours_, &before_);
  }
  ~WithoutWriteSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  WithoutWriteSignals(const WithoutWriteSignals&) = delete;
  WithoutWriteSignals& operator=(const WithoutWriteSignals&) = delete;

  // After a write that was refused: takes away what came of it.
  void Take() {
    const timespec now{};
    while (::sigtimedwait(&ours_, nullptr, &now) < 0 && errno == EINTR) {
    }
  }

 private:
  ::sigset_t ours_;
  ::sigset_t before_;
};

bool TakesMore(int fd) {
  pollfd poll{fd, POLLOUT, 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & POLLOUT) != 0;
}

// What a write may wait for though it says that it takes more, and what leads
// to the same place when it is opened again: a pipe, and a terminal. Not the
// other end of a terminal, where a new one would be opened, nor other devices,
// which may do something when they are.
bool IsPipeOrTerminal(int fd, ::mode_t mode) {
  if (S_ISFIFO(mode)) return true;
  unsigned int number = 0;
  return S_ISCHR(mode) && ::isatty(fd) != 0 &&
         ::ioctl(fd, TIOCGPTN, &number) != 0;
}

// A way into the same pipe or terminal that never waits, whoever else writes
// into it; -1 if there is none. The descriptor itself stays as the program has
// it.
int OpenWithoutWaiting(int fd) {
  char path[32];
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return ::open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

ssize_t WriteNow(int fd, ::mode_t mode, std::string_view line) {
  if (S_ISSOCK(mode)) {
    return ::send(fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  const int own = IsPipeOrTerminal(fd, mode) ? OpenWithoutWaiting(fd) : -1;
  const ssize_t written =
      ::write(own >= 0 ? own : fd, line.data(), line.size());
  const int error = errno;
  if (own >= 0) ::close(own);
  errno = error;
  return written;
}

}  // namespace

void WriteLineOrDrop(int fd, std::string_view line) noexcept {
  const int error = errno;
  struct stat about {};
  if (::fstat(fd, &about) == 0 && TakesMore(fd)) {
    WithoutWriteSignals quiet;
    line = line.substr(0, kMaxLineBytes);
    const ssize_t written = WriteNow(fd, about.st_mode, line);
    if (written < 0 && (errno == EPIPE || errno == EFBIG)) quiet.Take();
  }
  errno = error;
}

void LogToStderr(const std::string& message) {
  std::string line = "gradtap: " + message;
  line.resize(std::min(line.size(), kMaxLineBytes - 1));
  line += '\n';
  WriteLineOrDrop(STDERR_FILENO, line);
}

}  // namespace gradtap::agent
