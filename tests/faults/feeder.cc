// A training job without the training: hands steps to a Delivery at a pace.
//
//   feeder KEY=VALUE...
//     collector=HOST:PORT run=NAME rank=R world=W launch=L  what Hello says
//     places=N      parameters of a step (default 8)
//     pace_us=N     between two steps; 0: as fast as they are taken
//     start=N       the first step (default 0)
//     steps=N       ends the loop after so many; 0: never
//     salt=X        added to the loss of each step
//     back_at=N back_to=M back_salt=X  once, before step N: goes back to step M
//     work_us=N     CPU time of each step before it is handed over
//     spool=FOLDER spool_bytes=N ring_bytes=N ring=FOLDER
//     streams=N     so many sessions, of the ranks from R on, which take the
//                   same steps in turn (default 1)
//     tls_ca=FILE   with TLS, and this authority
//     token_file=FILE
//     acks=1        sends each step at once, and looks twice a millisecond
//                   which are acknowledged
//
// Of a step everything follows from its number. Each line on standard input is
// answered by one on standard output:
//
//   status -> "SEEN RECORDED LOST ACKNOWLEDGED", of all sessions together
//   least  -> the same of the session of which the fewest are acknowledged
//   times  -> microseconds: median and 99th percentile of a step, CPU time of
//             handing one over, mean and largest; forgets them
//   acks   -> with acks=1, microseconds from handing a step over until it is
//             acknowledged: how many, median, 99th percentile, largest; forgets
//             them
//   cores  -> how many there are, as sysconf() says
//   end    -> as status, after Flush() and Shutdown(), at most 60 s each; then
//             it exits
//
// The end of standard input: exit at once, as a program does that ends.

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"
#include "core/sync.h"

namespace gradtap {
namespace {

std::chrono::nanoseconds ThreadCpu() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) +
         std::chrono::nanoseconds(time.tv_nsec);
}

std::map<std::string, std::string> Arguments(int argc, char** argv) {
  std::map<std::string, std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const std::size_t at = text.find('=');
    if (at == std::string::npos) {
      std::cerr << "feeder: '" << text << "' is not KEY=VALUE\n";
      std::exit(2);
    }
    arguments[text.substr(0, at)] = text.substr(at + 1);
  }
  return arguments;
}

class Feeder {
 public:
  explicit Feeder(std::map<std::string, std::string> arguments)
      : arguments_(std::move(arguments)) {
    const auto first = static_cast<std::uint32_t>(Number("rank", 0));
    for (std::uint32_t i = 0; i < Number("streams", 1); ++i) Open(first + i);
  }

  // The training thread.
  void Feed() {
    const auto places = static_cast<std::size_t>(Number("places", 8));
    const auto pace = std::chrono::microseconds(Number("pace_us", 1'000));
    const auto steps = static_cast<std::int64_t>(Number("steps", 0));
    const bool watches_acks = this->watches_acks();
    for (const auto& delivery : deliveries_) {
      delivery->PutSchema(testing::MakeSchema(1, places));
    }
    auto next = std::chrono::steady_clock::now();
    auto step = static_cast<std::int64_t>(Number("start", 0));
    auto back_at = static_cast<std::int64_t>(Number("back_at", UINT64_MAX));
    std::string salt = Text("salt");
    for (std::int64_t n = 0; !ending_ && (steps == 0 || n < steps);
         ++n, ++step) {
      if (step == back_at) {
        step = static_cast<std::int64_t>(Number("back_to", 0));
        back_at = -1;
        salt = Text("back_salt");
        for (const auto& delivery : deliveries_) delivery->Rollback(step);
      }
      const auto begun = std::chrono::steady_clock::now();
      StepData data = testing::MakeStep(step, 1, places);
      if (!salt.empty()) data.scalars[0].value += std::stod(salt);
      Work(std::chrono::microseconds(Number("work_us", 0)));
      const std::chrono::nanoseconds cpu = ThreadCpu();
      for (const auto& delivery : deliveries_) delivery->PutStep(data);
      const std::chrono::nanoseconds put = ThreadCpu() - cpu;
      {
        MutexLock lock(mu_);
        if (watches_acks) waiting_.push_back(begun);
        steps_.push_back(std::chrono::steady_clock::now() - begun);
        puts_.push_back(put);
      }
      if (pace.count() == 0) continue;
      next += pace;
      std::this_thread::sleep_until(next);
    }
  }

  bool watches_acks() const { return Number("acks", 0) != 0; }

  // Until EndWatchingAcks().
  void WatchAcks() {
    std::uint64_t known = 0;
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::microseconds(500));
      const std::uint64_t acknowledged = Least().steps_acknowledged;
      const auto now = std::chrono::steady_clock::now();
      MutexLock lock(mu_);
      for (; known < acknowledged && !waiting_.empty(); ++known) {
        acks_.push_back(now - waiting_.front());
        waiting_.pop_front();
      }
    }
  }
  // Somebody always waits, so that no batch lingers for the next step.
  void Hurry() {
    while (!done_) {
      for (const auto& delivery : deliveries_) {
        delivery->Flush(std::chrono::milliseconds(100));
      }
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  }
  void EndWatchingAcks() { done_ = true; }

  // Until the input ends. True: after "end".
  bool Answer() {
    std::string line;
    while (std::getline(std::cin, line)) {
      if (line == "end") {
        ending_ = true;
        return true;
      }
      if (line == "times") {
        PrintTimes();
      } else if (line == "acks") {
        PrintAcks();
      } else if (line == "cores") {
        std::cout << ::sysconf(_SC_NPROCESSORS_CONF) << std::endl;
      } else {
        Print(line == "least" ? Least() : Sum());
      }
    }
    return false;
  }

  void End() {
    // Shutdown() alone leaves the rest to a file where the collector takes
    // nothing for 2 s.
    for (const auto& delivery : deliveries_) {
      delivery->Flush(std::chrono::seconds(60));
      delivery->Shutdown(EndReason::kFinished, std::chrono::seconds(60));
    }
    Print(Sum());
  }

 private:
  void Open(std::uint32_t rank) {
    agent::DeliveryOptions options;
    options.collector = Text("collector");
    options.run = Text("run");
    options.launch = Text("launch");
    options.rank = rank;
    options.world_size = static_cast<std::uint32_t>(Number("world", 1));
    options.spool_folder = Text("spool");
    options.ring_folder = Text("ring");
    options.spool_bytes = Number("spool_bytes", options.spool_bytes);
    options.ring_bytes = Number("ring_bytes", 1 << 20);
    options.tls_ca_file = Text("tls_ca");
    options.tls = !options.tls_ca_file.empty();
    options.token_file = Text("token_file");
    options.log = [](const std::string& line) {
      std::cerr << line + "\n" << std::flush;
    };
    auto delivery = agent::Delivery::Create(std::move(options));
    if (!delivery.ok()) {
      std::cerr << "feeder: " << delivery.status().ToString() << "\n";
      std::exit(2);
    }
    deliveries_.push_back(*std::move(delivery));
  }

  std::string Text(const std::string& key) const {
    const auto found = arguments_.find(key);
    return found == arguments_.end() ? "" : found->second;
  }
  std::uint64_t Number(const std::string& key, std::uint64_t otherwise) const {
    const std::string text = Text(key);
    return text.empty() ? otherwise : std::stoull(text);
  }
  agent::DeliveryCounters Sum() const {
    agent::DeliveryCounters sum;
    for (const auto& delivery : deliveries_) {
      const agent::DeliveryCounters c = delivery->counters();
      sum.steps_seen += c.steps_seen;
      sum.steps_recorded += c.steps_recorded;
      sum.steps_lost += c.steps_lost;
      sum.steps_acknowledged += c.steps_acknowledged;
    }
    return sum;
  }
  agent::DeliveryCounters Least() const {
    agent::DeliveryCounters least = deliveries_[0]->counters();
    for (const auto& delivery : deliveries_) {
      const agent::DeliveryCounters c = delivery->counters();
      if (c.steps_acknowledged < least.steps_acknowledged) least = c;
    }
    return least;
  }
  static void Print(const agent::DeliveryCounters& c) {
    std::cout << c.steps_seen << " " << c.steps_recorded << " " << c.steps_lost
              << " " << c.steps_acknowledged << std::endl;
  }

  // Sums that nobody needs, for as long in CPU time.
  static void Work(std::chrono::nanoseconds time) {
    const std::chrono::nanoseconds until = ThreadCpu() + time;
    static volatile double sink = 0;
    while (ThreadCpu() < until) {
      double sum = sink;
      for (int i = 1; i < 1'000; ++i) sum += 1.0 / i;
      sink = sum;
    }
  }

  void PrintAcks() {
    std::vector<std::chrono::nanoseconds> acks;
    {
      MutexLock lock(mu_);
      acks.swap(acks_);
    }
    std::sort(acks.begin(), acks.end());
    const std::size_t n = acks.size();
    const auto us = [&acks](std::size_t i) {
      return static_cast<double>(acks[i].count()) * 1e-3;
    };
    std::cout << n;
    if (n == 0) {
      std::cout << " 0 0 0" << std::endl;
      return;
    }
    std::cout << " " << us(n / 2) << " " << us(n * 99 / 100) << " " << us(n - 1)
              << std::endl;
  }

  void PrintTimes() {
    std::vector<std::chrono::nanoseconds> steps, puts;
    {
      MutexLock lock(mu_);
      steps.swap(steps_);
      puts.swap(puts_);
    }
    std::sort(steps.begin(), steps.end());
    const auto us = [](std::chrono::nanoseconds t) {
      return static_cast<double>(t.count()) * 1e-3;
    };
    double sum = 0, largest = 0;
    for (const auto put : puts) {
      sum += us(put);
      largest = std::max(largest, us(put));
    }
    const std::size_t n = steps.size();
    if (n == 0) {
      std::cout << "0 0 0 0" << std::endl;
      return;
    }
    std::cout << us(steps[n / 2]) << " " << us(steps[n * 99 / 100]) << " "
              << sum / static_cast<double>(n) << " " << largest << std::endl;
  }

  Mutex mu_;
  std::vector<std::chrono::nanoseconds> steps_ ABSL_GUARDED_BY(mu_);
  std::vector<std::chrono::nanoseconds> puts_ ABSL_GUARDED_BY(mu_);
  // Steps that are not acknowledged yet, by when they were handed over.
  std::deque<std::chrono::steady_clock::time_point> waiting_
      ABSL_GUARDED_BY(mu_);
  std::vector<std::chrono::nanoseconds> acks_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> done_{false};
  const std::map<std::string, std::string> arguments_;
  std::vector<std::unique_ptr<agent::Delivery>> deliveries_;  // By rank.
  std::atomic<bool> ending_{false};
};

}  // namespace
}  // namespace gradtap

int main(int argc, char** argv) {
  gradtap::Feeder feeder(gradtap::Arguments(argc, argv));
  std::thread loop([&feeder] { feeder.Feed(); });
  std::thread acks([&feeder] {
    if (feeder.watches_acks()) feeder.WatchAcks();
  });
  std::thread hurry([&feeder] {
    if (feeder.watches_acks()) feeder.Hurry();
  });
  const bool end = feeder.Answer();
  if (!end) std::exit(0);  // The loop goes on meanwhile.
  loop.join();
  feeder.End();
  feeder.EndWatchingAcks();
  acks.join();
  hurry.join();
  return 0;
}
