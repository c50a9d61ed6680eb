// Does a collector that is not well slow a job down? Prints a table.
//
//   stall_benchmark [--seconds N] [--dir FOLDER]
//
// A feeder with steps of 5 ms and a ring of 8 MiB runs beside a healthy
// collector, and beside one that accepts and never reads, one that nobody can
// reach, and one that is stopped (SIGSTOP): healthy, X, X, healthy, a quarter
// of N seconds each time: half of N beside X. N is 60 by default. FOLDER has
// the spools: put it on a slow disk to see what that does.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "faults/black_hole.h"
#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

constexpr std::uint64_t kRingBytes = 8u << 20;

enum class Peer { kHealthy, kNeverReads, kUnreachable, kStopped, kSlowDisk };
const char* NameOf(Peer peer) {
  switch (peer) {
    case Peer::kHealthy:
      return "healthy";
    case Peer::kNeverReads:
      return "accepts, never reads";
    case Peer::kUnreachable:
      return "unreachable";
    case Peer::kStopped:
      return "stopped";
    case Peer::kSlowDisk:
      return "unreachable, slow disk";
  }
  return "";
}

struct Measured {
  double median_us = 0, p99_us = 0, put_us = 0, put_max_us = 0;
  double resident_mib = 0;
  double lost = 0;
  double spooled_mb = 0;
};

double MegabytesIn(const std::string& folder) {
  double bytes = 0;
  std::error_code gone;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder, gone)) {
    if (entry.is_regular_file(gone)) {
      bytes += static_cast<double>(entry.file_size(gone));
    }
  }
  return bytes * 1e-6;
}

double PeakResidentMib(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  while (in >> word) {
    double kib = 0;
    if (word == "VmHWM:" && in >> kib) return kib / 1024;
  }
  return 0;
}

Measured Measure(Peer peer, std::chrono::milliseconds time,
                 const std::string& folder) {
  TempDir data;
  const BlackHole hole;
  std::unique_ptr<Collector> collector;
  std::string address = "127.0.0.1:" + std::to_string(FreePort());
  if (peer == Peer::kNeverReads) address = hole.address();
  if (peer == Peer::kHealthy || peer == Peer::kStopped) {
    collector = std::make_unique<Collector>(data.path() + "/data");
    address = collector->address();
  }
  Feed feed({{"collector", address},
             {"run", "stall"},
             {"places", "229"},
             {"pace_us", "0"},
             {"work_us", "5000"},
             {"spool", folder},
             {"ring_bytes", std::to_string(kRingBytes)}},
            peer == Peer::kSlowDisk
                ? Environment{{"LD_PRELOAD", SLOW_DISK_PATH},
                              {"SLOW_DISK_BYTES_PER_SECOND", "1000000"}}
                : Environment());
  // Connected, if it ever is, and warm.
  std::this_thread::sleep_for(std::chrono::seconds(1));
  if (peer == Peer::kStopped) collector->process().Signal(SIGSTOP);
  Measured out;
  feed.process().Write("times\n");
  (void)feed.process().ReadLine();
  std::this_thread::sleep_for(time);
  feed.process().Write("times\n");
  std::istringstream in(feed.process().ReadLine().value_or(""));
  in >> out.median_us >> out.p99_us >> out.put_us >> out.put_max_us;
  out.resident_mib = PeakResidentMib(feed.process().pid());
  out.lost = static_cast<double>(feed.Status().lost);
  if (peer == Peer::kStopped) collector->process().Signal(SIGCONT);
  feed.process().Signal(SIGKILL);
  feed.process().Wait();
  out.spooled_mb = MegabytesIn(folder);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return out;
}

Measured Median(const std::vector<Measured>& all) {
  const auto median = [&all](double Measured::*field) {
    std::vector<double> values;
    for (const Measured& one : all) values.push_back(one.*field);
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
  };
  const auto largest = [&all](double Measured::*field) {
    double value = 0;
    for (const Measured& one : all) value = std::max(value, one.*field);
    return value;
  };
  return {median(&Measured::median_us),     median(&Measured::p99_us),
          median(&Measured::put_us),        largest(&Measured::put_max_us),
          largest(&Measured::resident_mib), largest(&Measured::lost),
          largest(&Measured::spooled_mb)};
}

void Print(const char* name, const Measured& m, double healthy_us) {
  std::printf("%-22s %9.1f %8.3f %9.1f %8.1f %8.1f %9.1f %6.0f %9.1f\n", name,
              m.median_us, m.median_us / healthy_us, m.p99_us, m.put_us,
              m.put_max_us, m.resident_mib, m.lost, m.spooled_mb);
}

int Run(int seconds, const std::string& folder) {
  const std::chrono::milliseconds part(seconds * 250);
  std::printf("%-22s %9s %8s %9s %8s %8s %9s %6s %9s\n", "collector", "step us",
              "ratio", "p99 us", "put us", "max us", "MiB peak", "lost",
              "spooled MB");
  for (const Peer peer : {Peer::kNeverReads, Peer::kUnreachable, Peer::kStopped,
                          Peer::kSlowDisk}) {
    std::vector<Measured> healthy, sick;
    for (int turn = 0; turn < 4; ++turn) {
      const bool well = turn == 0 || turn == 3;
      for (int half = 0; half < 2; ++half) {
        (well ? healthy : sick)
            .push_back(Measure(well ? Peer::kHealthy : peer, part / 2, folder));
      }
    }
    const Measured reference = Median(healthy);
    Print("healthy", reference, reference.median_us);
    Print(NameOf(peer), Median(sick), reference.median_us);
  }
  std::printf(
      "ratio: of the median step to the healthy one's; put: CPU time of "
      "handing "
      "one step over;\nMiB: of the whole process, whose ring has %.0f\n",
      static_cast<double>(kRingBytes) / (1 << 20));
  return 0;
}

}  // namespace
}  // namespace gradtap::testing

int main(int argc, char** argv) {
  int seconds = 60;
  const gradtap::testing::TempDir temp;
  std::string folder = temp.path() + "/spool";
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (option == "--seconds" && value != nullptr && std::atoi(value) >= 4) {
      seconds = std::atoi(value);
    } else if (option == "--dir" && value != nullptr) {
      folder = value;
    } else {
      const bool help = option == "--help";
      std::fprintf(help ? stdout : stderr,
                   "usage: stall_benchmark [--seconds N] [--dir FOLDER]\n"
                   "N, from 4 on: half of it beside each collector that is not "
                   "well; default 60\n");
      return help ? 0 : 2;
    }
  }
  return gradtap::testing::Run(seconds, folder);
}
