#include "agent/delivery/stop_signal.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <system_error>
#include <thread>

#include "agent/delivery/fork_guard.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

// What the handler looks at. Never destroyed. A semaphore, not a descriptor:
// programs that go into the background close all those that they find.
std::atomic<bool> wanted{false};  // There are clients.
std::atomic<std::uint32_t> asked{0};
std::atomic<pid_t> owner{0};
sem_t wake;
// Written only while the handler is not installed.
struct sigaction before;

bool IsHandler(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 ||
         (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

void SetDefault(struct sigaction* old) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGTERM, &action, old);
}

// [Threading] any, at any moment: nothing but what is safe in a handler.
void Handle(int number, siginfo_t* info, void* context) {
  const int error = errno;
  const bool here = ::getpid() == owner.load();
  // In this order: Remove() takes `wanted` away and looks at `asked` then.
  if (here) asked.fetch_add(1);
  const bool ours = here && wanted.load();
  if (ours) ::sem_post(&wake);
  // As the kernel would have done it.
  if (IsHandler(before) && (before.sa_flags & SA_RESETHAND) != 0) {
    SetDefault(nullptr);
  }
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(number, info, context);
  } else if (IsHandler(before)) {
    before.sa_handler(number);
  } else if (before.sa_handler == SIG_DFL && !ours) {
    SetDefault(nullptr);
    ::raise(number);  // Comes when this handler has returned.
  }
  errno = error;
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &Handle;
}

bool Installed() {
  struct sigaction now;
  return ::sigaction(SIGTERM, nullptr, &now) == 0 && IsOurs(now);
}

// In this scope this thread runs no handler: not one that exits while it holds
// the lock, nor one in a thread that it starts.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &old_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t old_;
};

struct Registry {
  const ForkGuard fork;
  Mutex mu;
  std::set<StopSignal::Client*> clients ABSL_GUARDED_BY(mu);
  bool running ABSL_GUARDED_BY(mu) = false;
  std::uint32_t answered ABSL_GUARDED_BY(mu) = 0;  // Of `asked`.
  // Somebody who came later may have our handler as the one before his.
  bool buried ABSL_GUARDED_BY(mu) = false;
};

Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

void Install(bool buried) {
  struct sigaction now;
  if (::sigaction(SIGTERM, nullptr, &now) != 0 || IsOurs(now)) return;
  // Programs that this one starts inherit that it is ignored, but no handler.
  if (!IsHandler(now) && now.sa_handler == SIG_IGN) return;
  // Whoever stands there may call ours already: not twice around.
  if (buried && IsHandler(now)) return;
  before = now;
  struct sigaction action = {};
  action.sa_sigaction = &Handle;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  if (IsHandler(now)) {
    // It runs as it would have run.
    action.sa_flags = (now.sa_flags & ~SA_RESETHAND) | SA_SIGINFO;
    action.sa_mask = now.sa_mask;
  }
  ::sigaction(SIGTERM, &action, nullptr);
}

void EndByDefault() {
  struct sigaction old;
  SetDefault(&old);
  if (!IsOurs(old)) {  // Installed this very moment: it decides.
    ::sigaction(SIGTERM, &old, nullptr);
    return;
  }
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_UNBLOCK, &term, nullptr);
  ::raise(SIGTERM);
  ::_exit(128 + SIGTERM);  // The kernel spares process 1 of a container.
}

// Does not return if SIGTERM has come and nobody but us answers it.
void Answer(Registry& registry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry.mu) {
  const std::uint32_t times = asked;
  if (times == registry.answered || registry.clients.empty()) return;
  registry.answered = times;
  const auto asked_at = std::chrono::steady_clock::now();
  if (!Installed() || IsHandler(before)) return;  // The program's own decides.
  for (StopSignal::Client* client : registry.clients) client->OnStop();
  for (StopSignal::Client* client : registry.clients) {
    client->FinishStop(asked_at);
  }
  EndByDefault();
}

void Watch() {
  for (;;) {
    if (::sem_wait(&wake) != 0) continue;  // Interrupted.
    Registry& registry = TheRegistry();
    MutexLock lock(registry.mu);
    Answer(registry);
  }
}

// With all signals blocked.
bool StartWatching() {
  if (::sem_init(&wake, 0, 0) != 0) return false;
  try {
    std::thread thread(&Watch);
    ::pthread_setname_np(thread.native_handle(), "gradtap-term");
    thread.detach();
  } catch (const std::system_error&) {
    return false;
  }
  owner = ::getpid();
  return true;
}

}  // namespace

bool StopSignal::Add(Client* client) noexcept {
  Registry& registry = TheRegistry();
  if (registry.fork.forked()) return false;
  try {
    const SignalsBlocked blocked;
    MutexLock lock(registry.mu);
    if (!registry.running && !StartWatching()) return false;
    registry.running = true;
    if (registry.clients.empty()) registry.answered = asked;
    registry.clients.insert(client);
    wanted = true;
    Install(registry.buried);
    return true;
  } catch (...) {
    return false;
  }
}

void StopSignal::Remove(Client* client) noexcept {
  Registry& registry = TheRegistry();
  if (registry.fork.forked()) return;
  const SignalsBlocked blocked;
  MutexLock lock(registry.mu);
  if (registry.clients.count(client) == 0) return;
  if (registry.clients.size() == 1) wanted = false;
  Answer(registry);  // The thread may not have come to it yet.
  registry.clients.erase(client);
  if (!registry.clients.empty()) return;
  if (Installed()) {
    ::sigaction(SIGTERM, &before, nullptr);
  } else {
    registry.buried = true;
  }
}

std::uint32_t StopSignal::times_asked() noexcept { return asked; }

}  // namespace gradtap::agent
