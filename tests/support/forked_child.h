// A child process for tests of what a process leaves behind. The test's process
// must have no other threads.

#ifndef GRADTAP_TESTS_SUPPORT_FORKED_CHILD_H_
#define GRADTAP_TESTS_SUPPORT_FORKED_CHILD_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace gradtap::testing {

// Does `work`, then waits to be killed; gone with this at the latest.
class ForkedChild {
 public:
  // Returns once the child has done `work`.
  explicit ForkedChild(const std::function<void()>& work) {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      work();
      (void)!::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the child has died";
    ::close(ready[0]);
  }
  ~ForkedChild() { Kill(); }
  ForkedChild(const ForkedChild&) = delete;
  ForkedChild& operator=(const ForkedChild&) = delete;

  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// A child of a child that has done `work` and been killed; it lives on, and is
// the caller's to kill.
inline pid_t OrphanOf(const std::function<void()>& work) {
  int pid_pipe[2];
  EXPECT_EQ(::pipe(pid_pipe), 0);
  ForkedChild parent([&] {
    work();
    const pid_t orphan = ::fork();
    if (orphan == 0) {
      for (;;) ::pause();
    }
    (void)!::write(pid_pipe[1], &orphan, sizeof(orphan));
  });
  pid_t orphan = 0;
  EXPECT_EQ(::read(pid_pipe[0], &orphan, sizeof(orphan)),
            static_cast<ssize_t>(sizeof(orphan)));
  ::close(pid_pipe[0]);
  ::close(pid_pipe[1]);
  return orphan;
}

// What `work` says in a child that ends after it, as an exit status.
inline int InChild(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(work());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_FORKED_CHILD_H_
