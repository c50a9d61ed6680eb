// How long after a commit its subscribers have the step: a collector in this
// process, a feeder that commits to its store, and Watch calls over loopback
// from another process, each on a connection of its own.
//
//   tail_benchmark [--parameters N] [--rate STEPS_A_SECOND] [--steps N]
//                  [--live N] [--stalled N] [--ask same|each|all|all-each]
//                  [--dir DIR]
//
// A parameter has three roles of nine numbers. --rate 0 commits without a
// pause. Printed is the time from the return of the commit to the moment that a
// subscriber has the message: median, 99th percentile and longest of all steps
// and live subscribers, and of the slowest subscriber of each step; the same
// once it is parsed, which eight subscribers on one machine do on two cores;
// what was conflated, the time that commits took, and the process's CPU time
// and memory. The first steps do not count: connections learn their windows.
// Nothing is asserted but that each live subscriber came to the last step.

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "server/service/collector.h"
#include "tests/bench/tail_subscribers.h"
#include "tests/bench/usual_feeder.h"

extern char** environ;

namespace gradtap::bench {
namespace {

constexpr std::int64_t kWarmUpSteps = 5;

struct Options {
  std::size_t parameters = 1000;
  double rate = 10;
  std::int64_t steps = 20;
  SubscriberOptions subscribers;
  std::string dir = "/tmp/gradtap-tail-benchmark";
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) +
           1e-6 * static_cast<double>(t.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double ResidentMiB() {
  long pages = 0, resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  std::fclose(file);
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

// The process of the subscribers and what it prints.
class Child {
 public:
  explicit Child(const SubscriberOptions& options) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) Fail("pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::vector<std::string> words = {"tail_benchmark",
                                      "--subscribe",
                                      options.address,
                                      "--live",
                                      std::to_string(options.live),
                                      "--stalled",
                                      std::to_string(options.stalled),
                                      "--ask",
                                      options.ask,
                                      "--last-step",
                                      std::to_string(options.last_step)};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(),
                      environ) != 0) {
      Fail("cannot start the subscribers");
    }
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    out_ = ::fdopen(ends[0], "r");
    char line[64];
    if (std::fgets(line, sizeof line, out_) == nullptr ||
        std::string(line) != "ready\n") {
      Fail("the subscribers have not come so far");
    }
  }

  struct Arrival {
    int subscriber = 0;
    long long step = 0, at_ns = 0, parsed_ns = 0;
    std::size_t bytes = 0;
    unsigned long long conflated = 0;
  };
  std::vector<Arrival> Wait() {
    std::vector<Arrival> all;
    Arrival a;
    while (std::fscanf(out_, "%d %lld %lld %lld %zu %llu", &a.subscriber,
                       &a.step, &a.at_ns, &a.parsed_ns, &a.bytes,
                       &a.conflated) == 6) {
      all.push_back(a);
    }
    std::fclose(out_);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    if (status != 0) Fail("the subscribers failed");
    return all;
  }

 private:
  pid_t pid_ = 0;
  std::FILE* out_ = nullptr;
};

struct Distribution {
  std::vector<double> ms;

  void Print(const char* what) {
    if (ms.empty()) return;
    std::sort(ms.begin(), ms.end());
    std::printf("  %-34s median %8.2f  p99 %8.2f  max %8.2f ms  (%zu)\n", what,
                ms[ms.size() / 2], ms[(ms.size() * 99) / 100], ms.back(),
                ms.size());
  }
};

void Report(const Options& options,
            const std::map<std::int64_t, std::int64_t>& committed_ns,
            const std::vector<Child::Arrival>& arrivals) {
  Distribution each, parsed;
  std::map<long long, double> slowest;
  std::map<int, long long> last;
  unsigned long long conflated = 0;
  std::size_t bytes = 0;
  for (const Child::Arrival& a : arrivals) {
    conflated += a.conflated;
    last[a.subscriber] = a.step;
    const auto at = committed_ns.find(a.step);
    if (at == committed_ns.end() || a.step <= kWarmUpSteps) continue;
    bytes = a.bytes;
    const double ms = 1e-6 * static_cast<double>(a.at_ns - at->second);
    each.ms.push_back(ms);
    parsed.ms.push_back(1e-6 * static_cast<double>(a.parsed_ns - at->second));
    slowest[a.step] = std::max(slowest[a.step], ms);
  }
  Distribution of_slowest;
  for (const auto& [step, ms] : slowest) of_slowest.ms.push_back(ms);
  each.Print("commit to subscriber");
  of_slowest.Print("commit to the last of them");
  parsed.Print("commit to the parsed message");
  std::printf("  a message %.1f KiB; conflated %llu steps\n",
              static_cast<double>(bytes) / 1024, conflated);
  if (last.size() != static_cast<std::size_t>(options.subscribers.live)) {
    Fail("not all subscribers have come to the end");
  }
}

int Run(Options options) {
  std::filesystem::remove_all(options.dir);
  server::CollectorOptions collector_options;
  collector_options.data_dir = options.dir;
  collector_options.grpc_listen = "127.0.0.1:0";
  auto collector = server::Collector::Start(collector_options);
  Check(collector.status());
  UsualFeeder feeder(&(*collector)->store(), options.parameters);
  feeder.Encode(0);
  feeder.Commit();
  options.subscribers.address = (*collector)->grpc_address();
  options.subscribers.last_step = options.steps;
  std::printf("%zu parameters, %g steps/s, %d live and %d stalled, ask %s\n",
              options.parameters, options.rate, options.subscribers.live,
              options.subscribers.stalled, options.subscribers.ask.c_str());
  std::fflush(stdout);
  Child child(options.subscribers);

  std::map<std::int64_t, std::int64_t> committed_ns;
  Distribution commits;
  const double cpu = CpuSeconds();
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t step = 1; step <= options.steps; ++step) {
    feeder.Encode(step);
    if (options.rate > 0) {
      std::this_thread::sleep_until(
          begin + std::chrono::nanoseconds(static_cast<std::int64_t>(
                      1e9 / options.rate * static_cast<double>(step))));
    }
    const std::int64_t before = MonotonicNanos();
    feeder.Commit();
    committed_ns[step] = MonotonicNanos();
    commits.ms.push_back(1e-6 *
                         static_cast<double>(committed_ns[step] - before));
  }
  const std::chrono::duration<double> wall =
      std::chrono::steady_clock::now() - begin;
  const double resident = ResidentMiB();
  const std::vector<Child::Arrival> arrivals = child.Wait();
  Report(options, committed_ns, arrivals);
  commits.Print("commits");
  std::printf(
      "  %.2f M values/s; CPU of the collector and the feeder %.2f s in "
      "%.2f s; resident %.0f MiB\n",
      27e-6 * static_cast<double>(options.parameters) *
          static_cast<double>(options.steps) / wall.count(),
      CpuSeconds() - cpu, wall.count(), resident);
  (*collector)->Shutdown();
  std::filesystem::remove_all(options.dir);
  return 0;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) {
  gradtap::bench::Options options;
  bool subscribe = false;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--parameters")
      options.parameters = std::strtoul(value, nullptr, 10);
    if (name == "--rate") options.rate = std::atof(value);
    if (name == "--steps") options.steps = std::atoll(value);
    if (name == "--dir") options.dir = value;
    if (name == "--live") options.subscribers.live = std::atoi(value);
    if (name == "--stalled") options.subscribers.stalled = std::atoi(value);
    if (name == "--ask") options.subscribers.ask = value;
    if (name == "--last-step")
      options.subscribers.last_step = std::atoll(value);
    if (name == "--subscribe") {
      subscribe = true;
      options.subscribers.address = value;
    }
  }
  if (subscribe) return gradtap::bench::RunSubscribers(options.subscribers);
  return gradtap::bench::Run(options);
}
