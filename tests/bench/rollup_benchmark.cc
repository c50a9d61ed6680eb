// Roll-ups of recorded runs: bytes an entry by role and statistic, bytes a
// stored float for all of them together, and how fast they are made, merged,
// written and read.
//
//   rollup_benchmark [FOLDER NAME...]
//
// Recordings are those of bench/recording.h; without any it takes a short one
// that is made up, to prove that it runs. Tensors have 1,000 elements, all of
// them finite. Times are the thread's own, the fastest of some passes.

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "bench/recording.h"
#include "core/statistic.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/summarizer.h"
#include "server/store/tile/tile.h"

namespace gradtap::bench {
namespace {

using server::FloatBlock;
using server::RecordColumns;
using server::RollupEntry;
using server::RollupReader;
using server::RollupShape;
using server::RollupStatistic;
using server::RollupSummarizer;

// The thread's own time: others use the machine too.
double Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

template <typename Pass>
double Fastest(int passes, const Pass& pass) {
  double best = 1e9;
  for (int i = 0; i < passes; ++i) {
    const double start = Now();
    pass();
    best = std::min(best, Now() - start);
  }
  return best;
}

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "rollup_benchmark: %s\n", what);
  std::exit(1);
}

// The roles of a recording, in its order.
constexpr std::array<Role, 4> kRoles = {Role::kWeight, Role::kGrad,
                                        Role::kUpdate, Role::kBuffer};

// A role's columns of the block that one window's tiles are made of.
struct Window {
  std::array<FloatBlock, 5> fields;
  std::vector<std::uint64_t> numel;

  std::size_t floats() const { return 5 * fields[0].size(); }
  RecordColumns columns() const {
    return {.mean = &fields[0],
            .std = &fields[1],
            .abs_mean = &fields[2],
            .min = &fields[3],
            .max = &fields[4],
            .nan = nullptr,
            .pos_inf = nullptr,
            .neg_inf = nullptr,
            .numel = numel};
  }
};

// What is made of a window: entries of one statistic, 64:1.
struct Made {
  std::size_t role = 0, block = 0;  // Windows of one block follow each other.
  RollupStatistic statistic = RollupStatistic::kMean;
  std::uint32_t parameters = 0, steps = 0;
  std::vector<RollupEntry> entries;
};

struct Bytes {
  RollupShape shape;
  std::string bytes;
};

// Windows of a recording, [role][block of parameters][window].
using Windows = std::vector<std::vector<std::vector<Window>>>;

Windows Cut(const Recording& recording) {
  Windows windows;
  for (const RecordedRole& role : recording.roles) {
    auto& blocks = windows.emplace_back();
    for (std::size_t p = 0; p < role.parameters; p += server::kTileParameters) {
      auto& of_block = blocks.emplace_back();
      for (std::size_t t = 0; t < recording.steps; t += server::kTileSteps) {
        Window& window = of_block.emplace_back();
        for (int f = 0; f < 5; ++f) {
          window.fields[static_cast<std::size_t>(f)] =
              BlockOf(recording, role, f, p, server::kTileParameters, t,
                      server::kTileSteps);
        }
        window.numel.assign(window.fields[0].parameters, 1000);
      }
    }
  }
  return windows;
}

// Calls f(role, block, window, summarizer that has started on it).
template <typename Function>
void ForEachWindow(const Windows& windows, RollupSummarizer& summarizer,
                   const Function& function) {
  for (std::size_t r = 0; r < windows.size(); ++r) {
    const bool ratio = server::HasRollup(kRoles[r], RollupStatistic::kRatio);
    for (std::size_t b = 0; b < windows[r].size(); ++b) {
      for (std::size_t w = 0; w < windows[r][b].size(); ++w) {
        const RecordColumns weights = windows[0][b][w].columns();
        const auto status = summarizer.Start(windows[r][b][w].columns(),
                                             ratio ? &weights : nullptr);
        Check(status.ok(), "a window is refused");
        function(r, b, windows[r][b][w]);
      }
    }
  }
}

std::vector<Made> Summarize(const Windows& windows) {
  RollupSummarizer summarizer;
  std::vector<Made> all;
  for (const RollupStatistic statistic : server::kRollupStatistics) {
    ForEachWindow(
        windows, summarizer,
        [&](std::size_t r, std::size_t b, const Window& window) {
          if (!server::HasRollup(kRoles[r], statistic)) return;
          Made& made = all.emplace_back();
          made.role = r;
          made.block = b;
          made.statistic = statistic;
          made.parameters = window.fields[0].parameters;
          made.steps = window.fields[0].steps;
          Check(
              summarizer.Summarize(statistic, server::kRollupRun, &made.entries)
                  .ok(),
              "a statistic is refused");
        });
  }
  return all;
}

// All windows of each block as one; `merge`: with one entry a parameter.
std::vector<Made> JoinWindows(const std::vector<Made>& made, bool merge) {
  std::vector<Made> joined;
  std::vector<RollupEntry> runs;
  for (std::size_t i = 0; i < made.size();) {
    std::size_t end = i;
    Made& all = joined.emplace_back(made[i]);
    all.steps = 0;
    for (; end < made.size() && made[end].role == all.role &&
           made[end].block == all.block && made[end].statistic == all.statistic;
         ++end) {
      all.steps += made[end].steps;
    }
    all.entries.clear();
    for (std::uint32_t p = 0; p < all.parameters; ++p) {
      runs.clear();
      for (std::size_t w = i; w < end; ++w) {
        const std::size_t count = made[w].entries.size() / all.parameters;
        const auto* from = made[w].entries.data() + p * count;
        runs.insert(runs.end(), from, from + count);
      }
      if (merge) runs = {server::MergeRollups(runs)};
      all.entries.insert(all.entries.end(), runs.begin(), runs.end());
    }
    i = end;
  }
  return joined;
}

// The blocks of a window's entries; `parameters` of them each.
void Encode(const Made& made, std::uint32_t parameters, std::uint32_t run,
            std::vector<Bytes>* out) {
  const std::size_t runs = made.entries.size() / made.parameters;
  for (std::uint32_t p = 0; p < made.parameters; p += parameters) {
    const RollupShape shape = {std::min(parameters, made.parameters - p),
                               made.steps, run};
    auto bytes = EncodeRollups(
        shape,
        std::span(made.entries).subspan(p * runs, shape.parameters * runs));
    Check(bytes.ok(), "entries are refused");
    out->push_back({shape, *std::move(bytes)});
  }
}

std::vector<Bytes> EncodeAll(const std::vector<Made>& made) {
  std::vector<Bytes> blocks;
  for (const Made& one : made) {
    Encode(one, server::kRollupParameters, server::kRollupRun, &blocks);
  }
  return blocks;
}

std::size_t SizeOf(const std::vector<Bytes>& blocks) {
  std::size_t size = 0;
  for (const Bytes& block : blocks) size += block.bytes.size();
  return size;
}

void PrintSizes(const Recording& recording, const std::vector<Made>& made,
                std::size_t floats) {
  std::size_t all = 0;
  for (std::size_t r = 0; r < recording.roles.size(); ++r) {
    std::printf("  %-8s", recording.roles[r].name.c_str());
    for (const RollupStatistic statistic : server::kRollupStatistics) {
      std::vector<Bytes> blocks;
      std::size_t entries = 0;
      for (const Made& one : made) {
        if (one.role != r || one.statistic != statistic) continue;
        Encode(one, server::kRollupParameters, server::kRollupRun, &blocks);
        entries += one.entries.size();
      }
      all += SizeOf(blocks);
      if (entries == 0) continue;
      std::printf(
          " %s %.2f", std::string(FieldName(FieldOf(statistic))).c_str(),
          static_cast<double>(SizeOf(blocks)) / static_cast<double>(entries));
    }
    std::printf(" B an entry\n");
  }
  std::vector<Bytes> merged;
  for (const Made& one : JoinWindows(made, true)) {
    Encode(one, server::kTileParameters, one.steps, &merged);
  }
  const auto a_float = [&](std::size_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(floats);
  };
  std::printf(
      "  64:1 %.3f B (%.3f B with all windows in a block), %zu:1 %.4f B a "
      "stored float\n",
      a_float(all), a_float(SizeOf(EncodeAll(JoinWindows(made, false)))),
      recording.steps, a_float(SizeOf(merged)));
}

void MeasureMaking(const Windows& windows, std::size_t floats) {
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  const auto time = [&](const auto& wanted) {
    return Fastest(20, [&] {
      ForEachWindow(
          windows, summarizer, [&](std::size_t r, std::size_t, const Window&) {
            for (const RollupStatistic statistic : server::kRollupStatistics) {
              if (!server::HasRollup(kRoles[r], statistic) ||
                  !wanted(statistic)) {
                continue;
              }
              summarizer.Summarize(statistic, server::kRollupRun, &entries)
                  .IgnoreError();
            }
          });
    });
  };
  const double stored =
      time([](RollupStatistic s) { return s <= RollupStatistic::kMax; });
  std::printf("  stored fields %.0f M values/s\n",
              1e-6 * static_cast<double>(floats) / stored);
  const double all = time([](RollupStatistic) { return true; });
  std::printf("  all statistics %.0f M stored floats/s\n",
              1e-6 * static_cast<double>(floats) / all);
  for (const RollupStatistic only : server::kRollupStatistics) {
    const double one = time([&](RollupStatistic s) { return s == only; });
    std::printf("    %s %.2f ns a record\n",
                std::string(FieldName(FieldOf(only))).c_str(),
                1e9 * one * 5 / static_cast<double>(floats));
  }
}

void MeasureReading(const std::vector<Made>& made,
                    const std::vector<Bytes>& blocks) {
  std::size_t entries = 0;
  for (const Made& one : made) entries += one.entries.size();
  const auto print = [&](const char* what, double seconds, std::size_t count) {
    std::printf("  %-28s %.2f ns an entry\n", what,
                1e9 * seconds / static_cast<double>(count));
  };
  print("encode", Fastest(10, [&] { EncodeAll(made); }), entries);
  print("merge", Fastest(10, [&] { JoinWindows(made, true); }), entries);
  RollupReader reader;
  std::vector<RollupEntry> read(4096);
  bool ok = true;
  print("all of a block",
        Fastest(20,
                [&] {
                  for (const Bytes& block : blocks) {
                    ok = ok && reader.Open(block.bytes).ok() &&
                         reader.ReadAll(&read).ok();
                  }
                }),
        entries);
  const std::vector<Bytes> long_blocks = EncodeAll(JoinWindows(made, false));
  const auto one_parameter = [&](const char* what,
                                 const std::vector<Bytes>& from) {
    std::size_t count = 0;
    for (const Bytes& block : from) count += block.shape.runs();
    const double seconds = Fastest(20, [&] {
      for (const Bytes& block : from) {
        ok = ok && reader.Open(block.bytes).ok() &&
             reader.Read(block.shape.parameters - 1, read.data()).ok();
      }
    });
    print(what, seconds, count);
  };
  one_parameter("one parameter of a block", blocks);
  one_parameter("the same with all windows", long_blocks);
  std::vector<float> values(4096);
  std::vector<std::uint8_t> flags(4096);
  for (const auto& [which, what] :
       {std::pair(server::RollupWorst::kMax, "largest values"),
        std::pair(server::RollupWorst::kMagnitude, "largest magnitudes")}) {
    print(what,
          Fastest(
              20,
              [&, which = which] {
                for (const Bytes& block : blocks) {
                  ok =
                      ok && reader.Open(block.bytes).ok() &&
                      reader.ReadWorst(which, values.data(), flags.data()).ok();
                }
              }),
          entries);
  }
  Check(ok, "a block cannot be read");
}

void Measure(const Recording& recording) {
  const Windows windows = Cut(recording);
  std::size_t floats = 0;
  for (const RecordedRole& role : recording.roles) floats += role.values.size();
  const std::vector<Made> made = Summarize(windows);
  const std::vector<Bytes> blocks = EncodeAll(made);
  std::printf("%s, %zu stored floats\n", recording.name.c_str(), floats);
  PrintSizes(recording, made, floats);
  MeasureMaking(windows, floats);
  MeasureReading(made, blocks);
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    Measure(MadeUpRecording(20, 300));
    return 0;
  }
  for (int i = 2; i < argc; ++i) {
    const Recording recording = ReadRecording(argv[1], argv[i]);
    Check(recording.steps != 0, "no such recording");
    Measure(recording);
  }
  return 0;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) { return gradtap::bench::Main(argc, argv); }
