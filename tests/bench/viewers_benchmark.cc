// What viewers cost: a collector in this process that takes steps at a rate,
// and, in another process, viewers that hold a live stream (Server-Sent Events)
// each, one of which never reads, beside a scrape of /metrics every 0.2 s.
//
//   viewers_benchmark [--parameters N] [--rate STEPS_A_SECOND] [--seconds N]
//                     [--viewers N] [--stalled N] [--ask QUERY] [--dir DIR]
//
// A parameter has three roles of nine numbers. --ask is what follows "run=run"
// in the stream's URL; the default is what the page asks. Printed is how many
// values were stored of those that were offered, how long commits took,
// /metrics (median, 99th percentile, longest), what the viewers got, and after
// the viewers were killed how long until the collector had let go of their
// threads.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "server/service/collector.h"
#include "tests/bench/usual_feeder.h"

namespace gradtap::bench {
namespace {

using Steady = std::chrono::steady_clock;

struct Options {
  std::size_t parameters = 7'408;
  double rate = 10;
  double seconds = 20;
  int viewers = 31;
  int stalled = 1;
  std::string ask = "&statistics=scalar.*";
  std::string dir = "/tmp/gradtap-viewers-benchmark";
};

double MsSince(Steady::time_point begin) {
  return std::chrono::duration<double, std::milli>(Steady::now() - begin)
      .count();
}

void Print(const char* what, std::vector<double> ms) {
  if (ms.empty()) Fail(std::string(what) + ": nothing was measured");
  std::sort(ms.begin(), ms.end());
  std::printf("  %-28s median %8.2f  p99 %8.2f  max %8.2f ms  (%zu)\n", what,
              ms[ms.size() / 2], ms[ms.size() * 99 / 100], ms.back(),
              ms.size());
}

// Connected, the request sent.
int Ask(int port, const std::string& target) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request =
      "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
  if (socket < 0 ||
      ::connect(socket, reinterpret_cast<sockaddr*>(&address),
                sizeof address) != 0 ||
      ::send(socket, request.data(), request.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(request.size())) {
    Fail("cannot connect to the collector");
  }
  return socket;
}

// Time until the answer's end.
double ScrapeMs(int port) {
  const auto begin = Steady::now();
  const int socket = Ask(port, "/metrics");
  char buffer[65'536];
  std::string head;
  ssize_t n = 0;
  while ((n = ::recv(socket, buffer, sizeof buffer, 0)) > 0) {
    if (head.size() < 12) head.append(buffer, std::min<std::size_t>(n, 12));
  }
  ::close(socket);
  if (head.rfind("HTTP/1.1 200", 0) != 0) Fail("/metrics: " + head);
  return MsSince(begin);
}

// The other process. Writes a line for each scrape and, once `seconds` are
// over, one for what came; then stays, with its streams open.
[[noreturn]] void View(const Options& options, int in, int out) {
  int port = 0;
  if (::read(in, &port, sizeof port) != sizeof port) ::_exit(1);
  std::vector<pollfd> live;
  for (int i = 0; i < options.viewers + options.stalled; ++i) {
    const int socket = Ask(port, "/api/v1/Watch?run=run" + options.ask);
    if (i < options.viewers) live.push_back({socket, POLLIN, 0});
  }
  const auto say = [out](const std::string& line) {
    if (::write(out, line.data(), line.size()) < 0) ::_exit(1);
  };
  say("ready\n");
  std::thread([&] {
    for (;;) {
      say("scrape " + std::to_string(ScrapeMs(port)) + "\n");
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }).detach();
  std::vector<std::uint64_t> events(live.size());
  std::uint64_t bytes = 0;
  std::string buffer(std::size_t{1} << 20, '\0');
  const auto end =
      Steady::now() + std::chrono::duration<double>(options.seconds);
  while (Steady::now() < end) {
    if (::poll(live.data(), live.size(), 100) < 0) ::_exit(1);
    for (std::size_t i = 0; i < live.size(); ++i) {
      if (live[i].revents == 0) continue;
      const ssize_t n =
          ::recv(live[i].fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n <= 0) Fail("a stream has ended");
      bytes += static_cast<std::uint64_t>(n);
      const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
      for (std::size_t at = text.find("id: "); at != text.npos;
           at = text.find("id: ", at + 4)) {
        ++events[i];
      }
    }
  }
  std::sort(events.begin(), events.end());
  say("got " + std::to_string(events.front()) + " " +
      std::to_string(events[events.size() / 2]) + " " + std::to_string(bytes) +
      "\n");
  for (;;) ::pause();
}

int ThreadsOfThis() {
  int threads = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/task")) {
    static_cast<void>(entry);
    ++threads;
  }
  return threads;
}

// The viewers' process, made before this one has threads.
struct Viewers {
  pid_t pid = 0;
  int port = -1;  // To be told.
  std::FILE* said = nullptr;

  explicit Viewers(const Options& options) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) {
      Fail("pipe");
    }
    pid = ::fork();
    if (pid == 0) View(options, in[0], out[1]);
    ::close(in[0]);
    ::close(out[1]);
    port = in[1];
    said = ::fdopen(out[0], "r");
  }
  void Open(int of_collector) {
    char line[64];
    if (::write(port, &of_collector, sizeof of_collector) < 0 ||
        std::fgets(line, sizeof line, said) == nullptr) {
      Fail("no viewers");
    }
  }
};

int Run(const Options& options) {
  Viewers viewers(options);
  std::filesystem::remove_all(options.dir);
  server::CollectorOptions collector_options;
  collector_options.data_dir = options.dir;
  collector_options.grpc_listen = "127.0.0.1:0";
  collector_options.http_listen = "127.0.0.1:0";
  // One client has three quarters of them.
  collector_options.max_live_streams = 44;
  auto started = server::Collector::Start(collector_options);
  Check(started.status());
  server::Collector& collector = **started;
  const std::string address = collector.http_address();
  UsualFeeder feeder(&collector.store(), options.parameters);
  feeder.Encode(0);
  feeder.Commit();
  const int threads_before = ThreadsOfThis();
  viewers.Open(std::atoi(address.substr(address.rfind(':') + 1).c_str()));

  std::vector<double> commits;
  const auto begin = Steady::now();
  const auto steps = static_cast<std::int64_t>(options.rate * options.seconds);
  for (std::int64_t step = 1; step <= steps; ++step) {
    feeder.Encode(step);
    std::this_thread::sleep_until(
        begin + std::chrono::duration_cast<Steady::duration>(
                    std::chrono::duration<double>(static_cast<double>(step) /
                                                  options.rate)));
    const auto before = Steady::now();
    feeder.Commit();
    commits.push_back(MsSince(before));
  }
  const double took = MsSince(begin) / 1000;

  std::vector<double> scrapes;
  unsigned long long least = 0, median = 0, bytes = 0;
  char line[256];
  while (std::fgets(line, sizeof line, viewers.said) != nullptr) {
    double ms = 0;
    if (std::sscanf(line, "scrape %lf", &ms) == 1) scrapes.push_back(ms);
    if (std::sscanf(line, "got %llu %llu %llu", &least, &median, &bytes) == 3) {
      break;
    }
  }
  const int threads_with = ThreadsOfThis();
  ::kill(viewers.pid, SIGKILL);
  const auto killed = Steady::now();
  ::waitpid(viewers.pid, nullptr, 0);
  while (ThreadsOfThis() > threads_before + 1 && MsSince(killed) < 60'000) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const double values = 27.0 * static_cast<double>(options.parameters);
  std::printf("%zu parameters, %g steps/s, %d viewers, %d of them stalled\n",
              options.parameters, options.rate,
              options.viewers + options.stalled, options.stalled);
  std::printf("  offered %.2f M values/s, stored %.2f M values/s\n",
              1e-6 * values * options.rate,
              1e-6 * values * static_cast<double>(steps) / took);
  Print("commits", commits);
  Print("/metrics", scrapes);
  std::printf(
      "  of %lld steps a viewer got %llu (the slowest %llu); %.1f MB/s in "
      "all\n",
      static_cast<long long>(steps), median, least,
      1e-6 * static_cast<double>(bytes) / options.seconds);
  std::printf(
      "  threads: %d before, %d with viewers, %d %.1f s after they were "
      "killed\n",
      threads_before, threads_with, ThreadsOfThis(), MsSince(killed) / 1000);
  collector.Shutdown();
  std::filesystem::remove_all(options.dir);
  return 0;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) {
  gradtap::bench::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--parameters") {
      options.parameters = std::strtoul(value, nullptr, 10);
    }
    if (name == "--rate") options.rate = std::atof(value);
    if (name == "--seconds") options.seconds = std::atof(value);
    if (name == "--viewers") options.viewers = std::atoi(value);
    if (name == "--stalled") options.stalled = std::atoi(value);
    if (name == "--ask") options.ask = value;
    if (name == "--dir") options.dir = value;
  }
  return gradtap::bench::Run(options);
}
