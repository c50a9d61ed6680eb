// What the store takes and gives, without a network: steps drawn from recorded
// runs are committed, sealed, and asked for.
//
//   store_benchmark [--recorded DIR] [--of cnn|gpt] [--parameters N] [--steps
//   N]
//                   [--runs N] [--dir DIR] [--queries N] [--keep 1] [--series
//                   0]
//
// Prints, for all runs together: commits and sealing (values a second of wall
// and of CPU time), bytes on disk for each float, and how long queries of the
// first run take: median and 99th percentile of some hundred, warm, and after
// the folder was opened anew. Values are floats; the counts are stored besides.
// With --of they are one recording as it is; else parameters are recorded ones
// from a step of their own on, times a factor, back and forth. With --keep the
// folder stays, and is asked as it is when it is there already.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/codec.h"
#include "core/schema.h"
#include "server/query/environment.h"
#include "server/query/heat_map_query.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/store/rocksdb_store.h"
#include "tests/bench/peers/data_set.h"

namespace gradtap::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string recorded = "../shared/data/recorded";
  std::string dir = "/tmp/gradtap-store-benchmark";
  std::size_t parameters = 50;
  std::int64_t steps = 3000;
  int queries = 100;  // Of each kind.
  int runs = 1;       // The same again.
  std::string of;     // "cnn" or "gpt": the recording itself, as it is.
  bool series = true;
  bool keep = false;  // The folder; and ask one that was kept, if it is there.
};

double Seconds(Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

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
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long pages = 0, resident = 0;
  if (file == nullptr || std::fscanf(file, "%ld %ld", &pages, &resident) != 2) {
    resident = 0;
  }
  if (file != nullptr) std::fclose(file);
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

Schema MakeSchema(std::size_t parameters) {
  Schema schema;
  schema.schema_id = 1;
  for (std::size_t i = 0; i < parameters; ++i) {
    Parameter p;
    p.name = "block" + std::to_string(i / 8) + ".layer" + std::to_string(i % 8);
    p.dtype = "float32";
    p.shape = {kNumel};
    p.numel = kNumel;
    p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
    schema.parameters.push_back(std::move(p));
  }
  return schema;
}

// The parameters of one recording; none: of none by itself.
std::vector<Recorded::Series> AsIs(const Recorded& recorded,
                                   const std::string& of) {
  std::vector<Recorded::Series> series;
  for (const Recorded::Series& one : recorded.series()) {
    if (!of.empty() && one.run == (of == "gpt" ? 1U : 0U)) {
      series.push_back(one);
    }
  }
  return series;
}

// Writes steps one after the other.
class Source {
 public:
  // Without `as_is` each parameter is a recorded one, begins at a step of its
  // own and has a factor.
  Source(const Recorded& recorded, std::size_t parameters,
         const std::vector<Recorded::Series>& as_is)
      : recorded_(recorded), random_(1) {
    for (const Recorded::Series& series : as_is) {
      from_.push_back({series, 0, 1});
    }
    for (std::size_t i = from_.size(); i < parameters; ++i) {
      from_.push_back({recorded.series()[i % recorded.series().size()],
                       static_cast<std::int64_t>(random_() % 1000),
                       0.5F + static_cast<float>(random_() % 1000) / 1000});
    }
    for (int i = 0; i < 3; ++i) {
      step_.roles.emplace_back().role =
          std::array{Role::kWeight, Role::kGrad, Role::kUpdate}[i];
      step_.roles.back().Resize(parameters);
    }
    step_.schema_id = 1;
    step_.scalars = {{"loss", 0}, {"agent.step_seconds", 0}};
  }

  const StepData& At(std::int64_t step) {
    step_.step = step;
    step_.wall_time_unix_ns = 1'700'000'000'000'000'000 + step * 50'000'000 +
                              static_cast<std::int64_t>(random_() % 4'000'000);
    step_.scalars[0].value = 1.0 / static_cast<double>(step + 1);
    step_.scalars[1].value = 0.05 + 1e-9 * static_cast<double>(random_() % 999);
    const std::int64_t n = recorded_.steps();
    for (std::size_t i = 0; i < from_.size(); ++i) {
      // There and back again.
      std::int64_t at = (step + from_[i].begin) % (2 * n - 2);
      if (at >= n) at = 2 * n - 2 - at;
      const float* values = recorded_.At(from_[i].series, at);
      for (int role = 0; role < 3; ++role) {
        const float* v = values + 5 * role;
        const float f = from_[i].factor;
        step_.roles[role].Set(
            i, {v[0] * f, v[1] * f, v[2] * f, v[3] * f, v[4] * f, 0, 0, 0, 0});
      }
    }
    return step_;
  }

 private:
  struct From {
    Recorded::Series series;
    std::int64_t begin;
    float factor;
  };
  const Recorded& recorded_;
  std::mt19937_64 random_;
  std::vector<From> from_;
  StepData step_;
};

struct Loaded {
  double wall = 0, cpu = 0;
};

Loaded Load(server::Store* store, const Options& options, int run,
            Source* source) {
  server::StreamHello hello;
  hello.run = run == 0 ? "run" : "run" + std::to_string(run);
  hello.launch = "launch";
  hello.process_nonce = std::string(16, 'n');
  const auto stream = store->OpenStream(hello, 1);
  const std::string record = EncodeSchema(MakeSchema(options.parameters));
  const std::string schema(ParseRecord(record)->body);
  std::uint64_t seq = 0;
  std::int64_t step = 0;
  Loaded loaded;
  while (step < options.steps) {
    std::vector<std::string> bodies;
    server::StreamCommit commit;
    commit.stream = stream->id;
    commit.first_seq = seq + 1;
    if (step == 0) commit.schemas.push_back({1, schema});
    std::size_t bytes = 0;
    while (step < options.steps && bytes < (8u << 20)) {
      const StepData& data = source->At(step);
      std::string encoded(EncodedStepSize(data), '\0');
      EncodeStep(data, encoded);
      bodies.emplace_back(ParseRecord(encoded)->body);
      bytes += bodies.back().size();
      ++step;
      ++seq;
    }
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      commit.steps.push_back(
          {0,
           step - static_cast<std::int64_t>(bodies.size() - i),
           true,
           3 * options.parameters,
           bodies[i],
           {}});
    }
    if (step == options.steps) {
      commit.end = EndData{EndReason::kFinished, 1, seq, seq, 0, 0};
    }
    commit.last_seq = seq;
    const auto begin = Clock::now();
    const double cpu = CpuSeconds();
    const absl::Status s = store->Commit({&commit, 1});
    loaded.wall += Seconds(Clock::now() - begin);
    loaded.cpu += CpuSeconds() - cpu;
    if (!s.ok()) {
      std::fprintf(stderr, "%s\n", s.ToString().c_str());
      std::exit(1);
    }
  }
  return loaded;
}

void Time(const char* what, int times, const std::function<void(int)>& query) {
  std::vector<double> ms;
  for (int i = 0; i < times; ++i) {
    const auto begin = Clock::now();
    query(i);
    ms.push_back(1e3 * Seconds(Clock::now() - begin));
  }
  std::sort(ms.begin(), ms.end());
  std::printf("  %-44s first %8.2f  median %8.2f  p99 %8.2f ms\n", what, ms[0],
              ms[ms.size() / 2], ms[(ms.size() * 99) / 100]);
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

void AskHeatMaps(const server::QueryEnvironment& environment, int times) {
  for (const char* statistic : {"grad.l2", "weight.mean"}) {
    const std::string what =
        std::string("heat map, 1,000 columns: ") + statistic;
    Time(what.c_str(), std::max(3, times / 10), [&](int) {
      v1::GetHeatMapRequest request;
      request.set_run("run");
      request.set_statistic(statistic);
      v1::GetHeatMapResponse response;
      Check(server::GetHeatMap(environment, request, {}, &response));
      if (response.rows_size() == 0) std::exit(2);
    });
  }
}

void Ask(server::Store* store, const Options& options, int times) {
  server::QueryEnvironment environment;
  environment.store = store;
  environment.clock = &RealClock();
  std::mt19937_64 random(3);
  const Schema schema = MakeSchema(options.parameters);
  for (const char* statistic :
       {"grad.l2", "weight.mean", "update.ratio", "grad.abs_max"}) {
    const std::string what =
        std::string("one series, all steps, 2,000 points: ") + statistic;
    if (!options.series) break;
    Time(what.c_str(), times, [&](int) {
      v1::GetSeriesRequest request;
      request.add_runs("run");
      request.add_statistics(statistic);
      request.set_match(
          "^" + schema.parameters[random() % options.parameters].name + "$");
      request.set_max_points(2000);
      v1::GetSeriesResponse response;
      Check(server::GetSeries(environment, request, {}, &response));
      if (response.series_size() != 1) std::exit(2);
    });
  }
  for (const bool all : {false, true}) {
    Time(all ? "one old step, all fields" : "one old step, grad.l2",
         all ? std::max(3, times / 10) : times, [&](int) {
           v1::GetSnapshotRequest request;
           request.set_run("run");
           request.set_step(static_cast<std::int64_t>(
               random() % static_cast<std::uint64_t>(options.steps)));
           if (!all) request.add_statistics("grad.l2");
           for (const char* role : {"weight.", "grad.", "update."}) {
             for (const char* field :
                  {"mean", "std", "abs_mean", "min", "max"}) {
               if (all) request.add_statistics(std::string(role) + field);
             }
           }
           v1::GetSnapshotResponse response;
           Check(server::GetSnapshot(environment, request, {}, &response));
         });
  }
  AskHeatMaps(environment, times);
}

std::unique_ptr<server::RocksdbStore> OpenStore(const Options& options) {
  server::StoreOptions store_options;
  store_options.data_dir = options.dir;
  auto opened = server::RocksdbStore::Open(store_options, nullptr);
  Check(opened.status());
  return *std::move(opened);
}

double Values(const Options& options) {
  return 15.0 * static_cast<double>(options.parameters) *
         static_cast<double>(options.steps) * options.runs;
}

void LoadAll(const Recorded& recorded, const Options& options) {
  const std::vector<Recorded::Series> as_is = AsIs(recorded, options.of);
  const double values = Values(options);
  const auto store = OpenStore(options);
  const double cpu = CpuSeconds();
  const auto begin = Clock::now();
  double in_commits = 0;
  for (int run = 0; run < options.runs; ++run) {
    Source source(recorded, options.parameters, as_is);
    in_commits += Load(store.get(), options, run, &source).wall;
  }
  const double load_wall = Seconds(Clock::now() - begin);
  for (;;) {  // What is left to seal.
    const auto sealed = store->SealOne();
    Check(sealed.status());
    if (!*sealed) break;
  }
  const double wall = Seconds(Clock::now() - begin);
  std::printf("%zu parameters x %lld steps, %d times, %.1f M floats\n",
              options.parameters, static_cast<long long>(options.steps),
              options.runs, values / 1e6);
  std::printf("  commits %.1f s, loading %.1f s, sealed %.1f s after it\n",
              in_commits, load_wall, wall - load_wall);
  std::printf(
      "  %.1f M floats/s in commits, %.1f with all sealed; CPU of all, "
      "making the steps included: %.0f ns a float\n",
      values / 1e6 / in_commits, values / 1e6 / wall,
      1e9 * (CpuSeconds() - cpu) / values);
  std::printf("  resident %.0f MiB\n", ResidentMiB());
}

int Run(Options options) {
  const Recorded recorded =
      std::filesystem::exists(options.recorded + "/cnn.f32")
          ? Recorded::Load(options.recorded)
          : Recorded::StandIn();
  if (!options.of.empty()) {
    options.parameters = AsIs(recorded, options.of).size();
    options.steps = recorded.steps();
  }
  if (!options.keep) std::filesystem::remove_all(options.dir);
  if (!std::filesystem::exists(options.dir)) LoadAll(recorded, options);
  auto store = OpenStore(options);
  std::printf("  on disk %.3f bytes a float\n",
              static_cast<double>(store->disk_bytes()) / Values(options));
  if (options.queries > 0) {
    std::printf("opened anew:\n");
    Ask(store.get(), options, 1);
    std::printf("warm:\n");
    Ask(store.get(), options, options.queries);
  }
  store.reset();
  if (!options.keep) std::filesystem::remove_all(options.dir);
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
    if (name == "--runs") options.runs = std::atoi(value);
    if (name == "--of") options.of = value;
    if (name == "--series") options.series = std::atoi(value) != 0;
    if (name == "--keep") options.keep = std::atoi(value) != 0;
    if (name == "--queries") options.queries = std::atoi(value);
    if (name == "--steps") options.steps = std::strtoll(value, nullptr, 10);
  }
  return gradtap::bench::Run(options);
}
