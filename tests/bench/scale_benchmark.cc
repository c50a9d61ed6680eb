// Whether a store stays as it is while a run grows, and opens at once after it
// was killed.
//
//   scale_benchmark [--recorded DIR] [--parameters N] [--steps N] [--pieces N]
//                   [--kill-mib N] [--dir DIR]
//
// First a process of its own commits until the folder has so many MiB, and
// kills itself; the folder is then opened (0: this is left out). Then one run
// is committed at full speed, sealing beside it, in pieces of equal length. Of
// each piece: values a second, the longest commit, how many rows wait to be
// sealed, resident memory, and how long a series over as many steps as a piece
// has, and an old step, take. Of each figure the trend over the run: the
// least-squares slope times the run's length, as a share of the mean, with its
// 95 % interval. The last figure is the machine's own: the processor's time for
// writing 64 MiB to a new file. A virtual machine whose host takes back what is
// free pays ten times as much for memory that it has to be given anew, which a
// growing folder's cached files need: tests/bench/bounded keeps those within
// memory that is there.

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/clock.h"
#include "server/query/environment.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/store/rocksdb_store.h"
#include "tests/bench/drawn_steps.h"
#include "tests/bench/peers/data_set.h"

namespace gradtap::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string recorded = "../shared/data/recorded";
  std::string dir = "/tmp/gradtap-scale-benchmark";
  std::size_t parameters = 300;
  std::int64_t steps = 1'000'000;
  int pieces = 25;
  std::uint64_t kill_mib = 10 << 10;
};

double MsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin)
      .count();
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

std::unique_ptr<server::RocksdbStore> Open(const std::string& dir) {
  server::StoreOptions options;
  options.data_dir = dir;
  auto store = server::RocksdbStore::Open(options, nullptr);
  Check(store.status());
  return *std::move(store);
}

// The processor's time for 64 MiB to a new file beside `dir`, in the system.
double MsOfNewFile(const std::string& dir) {
  const std::string path = dir + ".machine";
  const std::string data(std::size_t{1} << 20, 'x');
  rusage before{}, after{};
  const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (fd < 0) std::exit(3);
  ::getrusage(RUSAGE_THREAD, &before);
  for (int i = 0; i < 64; ++i) {
    if (::write(fd, data.data(), data.size()) < 0) std::exit(3);
  }
  ::getrusage(RUSAGE_THREAD, &after);
  ::close(fd);
  ::unlink(path.c_str());
  return 1e3 * static_cast<double>(after.ru_stime.tv_sec -
                                   before.ru_stime.tv_sec) +
         1e-3 * static_cast<double>(after.ru_stime.tv_usec -
                                    before.ru_stime.tv_usec);
}

// ---- Killed. ----

[[noreturn]] void LoadUntilKilled(const Recorded& recorded,
                                  const Options& options) {
  const auto store = Open(options.dir);
  for (int run = 0;; ++run) {
    DrawnSteps source(recorded, DrawnSchema(options.parameters), {});
    RunWriter writer(store.get(), "run" + std::to_string(run), &source);
    for (std::int64_t end = 1000; end <= options.steps; end += 1000) {
      writer.WriteTo(end, false);
      if (store->disk_bytes() >> 20 >= options.kill_mib) ::raise(SIGKILL);
    }
  }
}

void OpenAfterKill(const Recorded& recorded, const Options& options) {
  const pid_t child = ::fork();
  if (child == 0) LoadUntilKilled(recorded, options);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    std::fprintf(stderr, "the loader was not killed\n");
    std::exit(1);
  }
  const auto begin = Clock::now();
  const auto store = Open(options.dir);
  const double ms = MsSince(begin);
  std::printf("killed with %.2f GiB on disk: opened in %.0f ms\n",
              static_cast<double>(store->disk_bytes()) / (1 << 30), ms);
}

// ---- Growing. ----

struct Figure {
  const char* name;
  std::vector<double> of_piece = {};
};

// Two-sided 95 % of Student's t.
double StudentT(std::size_t freedom) {
  // Within 0.5 % from 8 degrees of freedom on (Abramowitz and Stegun 26.7.5).
  constexpr double z = 1.959964;
  const auto n = static_cast<double>(freedom);
  return z + (z * z * z + z) / (4 * n) +
         (5 * std::pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

void PrintTrend(const Figure& figure) {
  const std::vector<double> y(
      figure.of_piece.begin() +
          static_cast<std::ptrdiff_t>(figure.of_piece.size() / 5),
      figure.of_piece.end());
  const auto n = static_cast<double>(y.size());
  double mean = 0, at = 0, xx = 0, xy = 0, rest = 0;
  for (const double v : y) mean += v / n;
  const double middle = (n - 1) / 2;
  for (const double v : y) {
    xx += (at - middle) * (at - middle);
    xy += (at - middle) * (v - mean);
    ++at;
  }
  const double slope = xy / xx;
  at = 0;
  for (const double v : y) {
    const double off = v - mean - slope * (at++ - middle);
    rest += off * off;
  }
  const double half = StudentT(y.size() - 2) * std::sqrt(rest / (n - 2) / xx);
  const double scale = mean == 0 ? 0 : 100 * (n - 1) / mean;
  std::printf("  %-28s mean %10.2f   trend %+7.1f %% (%+.1f to %+.1f)%s\n",
              figure.name, mean, slope * scale, (slope - half) * scale,
              (slope + half) * scale,
              std::fabs(slope) > half ? "  beyond the interval" : "");
  std::printf("   ");
  for (const double v : figure.of_piece) std::printf(" %.4g", v);
  std::printf("\n");
}

class Growth {
 public:
  Growth(const Recorded& recorded, const Options& options)
      : options_(options),
        store_(Open(options.dir)),
        source_(recorded, DrawnSchema(options.parameters), {}),
        writer_(store_.get(), "run", &source_),
        piece_(options.steps / options.pieces) {
    environment_.store = store_.get();
    environment_.clock = &RealClock();
  }

  void Run() {
    for (int i = 0; i < options_.pieces; ++i) Piece(i);
    std::printf("%zu parameters x %lld steps in %d pieces, %.2f GiB\n",
                options_.parameters, static_cast<long long>(options_.steps),
                options_.pieces,
                static_cast<double>(store_->disk_bytes()) / (1 << 30));
    for (const Figure* figure :
         {&rate_, &longest_, &lag_, &memory_, &series_, &step_, &machine_}) {
      PrintTrend(*figure);
    }
  }

 private:
  void Piece(int i) {
    const auto begin = Clock::now();
    double longest = 0;
    writer_.WriteTo((i + 1) * piece_, false,
                    [&](double s) { longest = std::max(longest, s); });
    rate_.of_piece.push_back(15e-3 * static_cast<double>(options_.parameters) *
                             static_cast<double>(piece_) / MsSince(begin));
    longest_.of_piece.push_back(1e3 * longest);
    lag_.of_piece.push_back(
        static_cast<double>((i + 1) * piece_) -
        static_cast<double>(store_->counters().sealed_rows));
    memory_.of_piece.push_back(ResidentMiB());
    series_.of_piece.push_back(Median([&] { AskSeries(i); }));
    step_.of_piece.push_back(Median([&] { AskStep(i); }));
    machine_.of_piece.push_back(MsOfNewFile(options_.dir));
  }

  template <typename Ask>
  static double Median(const Ask& ask) {
    std::vector<double> ms;
    for (int i = 0; i < 11; ++i) {
      const auto begin = Clock::now();
      ask();
      ms.push_back(MsSince(begin));
    }
    std::nth_element(ms.begin(), ms.begin() + 5, ms.end());
    return ms[5];
  }

  // Of as many steps, whatever the run's length; any of its pieces.
  std::int64_t AnyPiece(int i) {
    return piece_ * static_cast<std::int64_t>(random_() % (i + 1U));
  }

  void AskSeries(int i) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics("grad.l2");
    request.set_match("^" + DrawnSchema(1).parameters[0].name + "$");
    request.set_max_points(500);
    const std::int64_t begin = AnyPiece(i);
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(begin + piece_);
    v1::GetSeriesResponse response;
    Check(server::GetSeries(environment_, request, {}, &response));
    if (response.series_size() != 1) std::exit(2);
  }

  void AskStep(int i) {
    v1::GetSnapshotRequest request;
    request.set_run("run");
    request.add_statistics("grad.l2");
    request.set_step(AnyPiece(i) +
                     static_cast<std::int64_t>(
                         random_() % static_cast<std::uint64_t>(piece_)));
    v1::GetSnapshotResponse response;
    Check(server::GetSnapshot(environment_, request, {}, &response));
  }

  const Options& options_;
  const std::unique_ptr<server::RocksdbStore> store_;
  DrawnSteps source_;
  RunWriter writer_;
  const std::int64_t piece_;
  server::QueryEnvironment environment_;
  std::mt19937_64 random_{5};
  Figure rate_{"million floats a second"};
  Figure longest_{"longest commit, ms"};
  Figure lag_{"rows not sealed"};
  Figure memory_{"resident, MiB"};
  Figure series_{"series of a piece, ms"};
  Figure step_{"an old step, ms"};
  Figure machine_{"64 MiB of a new file, CPU ms"};
};

int Run(const Options& options) {
  const Recorded recorded =
      std::filesystem::exists(options.recorded + "/cnn.f32")
          ? Recorded::Load(options.recorded)
          : Recorded::StandIn();
  std::filesystem::remove_all(options.dir);
  if (options.kill_mib > 0) OpenAfterKill(recorded, options);
  std::filesystem::remove_all(options.dir);
  Growth(recorded, options).Run();
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
    if (name == "--recorded") options.recorded = value;
    if (name == "--dir") options.dir = value;
    if (name == "--parameters")
      options.parameters = std::strtoul(value, nullptr, 10);
    if (name == "--steps") options.steps = std::strtoll(value, nullptr, 10);
    if (name == "--pieces") options.pieces = std::atoi(value);
    if (name == "--kill-mib")
      options.kill_mib = std::strtoull(value, nullptr, 10);
  }
  return gradtap::bench::Run(options);
}
