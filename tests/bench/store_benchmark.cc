// What the store takes and gives, without a network: steps drawn from recorded
// runs are committed, sealed, and asked for.
//
//   store_benchmark [--recorded DIR] [--of cnn|gpt] [--parameters N]
//                   [--steps N] [--runs N] [--dir DIR] [--queries N]
//                   [--keep 1] [--series 0] [--heat_maps 0] [--compact 1]
//                   [--grad_only 1] [--others MIB]
//
// Prints, for all runs together: commits and sealing (values a second of wall
// and of CPU time), bytes on disk for each float, and how long queries of the
// first run take: median and 99th percentile of some hundred, warm, and after
// the folder was opened anew. Values are floats; the counts are stored besides.
// With --of they are one recording as it is; else parameters are recorded ones
// from a step of their own on, times a factor, back and forth. With --keep the
// folder stays, and is asked as it is when it is there already. With --others
// so much memory is touched before each query, as by others on the machine: the
// cores' caches hold nothing of the store then.

#include <algorithm>
#include <atomic>
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
#include "tests/bench/drawn_steps.h"
#include "tests/bench/peers/data_set.h"

namespace gradtap::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string recorded = "../shared/data/recorded";
  std::string dir = "/tmp/gradtap-store-benchmark";
  std::size_t parameters = 50;
  std::int64_t steps = 3000;
  int queries = 100;     // Of each kind.
  int runs = 1;          // The same again.
  std::string of;        // "cnn" or "gpt": the recording itself, as it is.
  bool compact = false;  // Before it is asked.
  bool series = true;
  bool heat_maps = true;
  bool grad_only = false;  // Gradients alone are stored, and asked for.
  bool keep = false;  // The folder; and ask one that was kept, if it is there.
};

std::vector<char> g_others;  // --others.

double Seconds(Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

// What others do between two questions: the cores' caches hold theirs then.
void TouchOthers() {
  for (std::size_t i = 0; i < g_others.size(); i += 64) ++g_others[i];
}

void Time(const char* what, int times, const std::function<void(int)>& query) {
  std::vector<double> ms;
  for (int i = 0; i < times; ++i) {
    TouchOthers();
    const auto begin = Clock::now();
    query(i);
    ms.push_back(1e3 * Seconds(Clock::now() - begin));
  }
  std::sort(ms.begin(), ms.end());
  std::printf("  %-44s least %8.2f  median %8.2f  p99 %8.2f ms\n", what, ms[0],
              ms[ms.size() / 2], ms[(ms.size() * 99) / 100]);
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

Schema SchemaOf(const Options& options) {
  if (options.grad_only) return DrawnSchema(options.parameters, {Role::kGrad});
  return DrawnSchema(options.parameters);
}

bool IsThere(const Options& options, std::string_view statistic) {
  return !options.grad_only || statistic.substr(0, 5) == "grad.";
}

void AskHeatMaps(const server::QueryEnvironment& environment,
                 const Options& options, int times) {
  for (const char* statistic : {"grad.l2", "grad.abs_max", "weight.mean"}) {
    if (!IsThere(options, statistic)) continue;
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
  const Schema schema = DrawnSchema(options.parameters);
  for (const char* statistic :
       {"grad.l2", "weight.mean", "update.ratio", "grad.abs_max"}) {
    const std::string what =
        std::string("one series, all steps, 2,000 points: ") + statistic;
    if (!options.series || !IsThere(options, statistic)) continue;
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
               if (all && IsThere(options, role)) {
                 request.add_statistics(std::string(role) + field);
               }
             }
           }
           v1::GetSnapshotResponse response;
           Check(server::GetSnapshot(environment, request, {}, &response));
         });
  }
  if (options.heat_maps) AskHeatMaps(environment, options, times);
}

std::unique_ptr<server::RocksdbStore> OpenStore(const Options& options) {
  server::StoreOptions store_options;
  store_options.data_dir = options.dir;
  auto opened = server::RocksdbStore::Open(store_options, nullptr);
  Check(opened.status());
  return *std::move(opened);
}

double Values(const Options& options) {
  return (options.grad_only ? 5.0 : 15.0) *
         static_cast<double>(options.parameters) *
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
    DrawnSteps source(recorded, SchemaOf(options), as_is,
                      static_cast<unsigned>(run + 1));
    RunWriter writer(store.get(),
                     run == 0 ? "run" : "run" + std::to_string(run), &source);
    in_commits += writer.WriteTo(options.steps, /*last=*/true);
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

void Compact(server::Store* store, const Options& options) {
  std::atomic<bool> cancelled{false};
  const auto compacted = store->Compact(&cancelled);
  Check(compacted.status());
  double all = 0;
  std::printf("  compacted, bytes a float:");
  for (const auto& family : compacted->families) {
    const double bytes =
        static_cast<double>(family.bytes_after) / Values(options);
    all += bytes;
    std::printf(" %s %.3f,", family.name.c_str(), bytes);
  }
  std::printf(" all %.3f\n", all);
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
  if (options.compact) Compact(store.get(), options);
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
    if (name == "--compact") options.compact = std::atoi(value) != 0;
    if (name == "--series") options.series = std::atoi(value) != 0;
    if (name == "--heat_maps") options.heat_maps = std::atoi(value) != 0;
    if (name == "--grad_only") options.grad_only = std::atoi(value) != 0;
    if (name == "--keep") options.keep = std::atoi(value) != 0;
    if (name == "--others") {
      gradtap::bench::g_others.resize(std::strtoul(value, nullptr, 10) << 20);
    }
    if (name == "--queries") options.queries = std::atoi(value);
    if (name == "--steps") options.steps = std::strtoll(value, nullptr, 10);
  }
  return gradtap::bench::Run(options);
}
