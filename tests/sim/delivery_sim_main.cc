// With options: seeds one by one, with their trace, or very many. Without:
// GoogleTest.

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sim/simulation.h"

namespace gradtap::sim {
namespace {

constexpr char kUsage[] =
    "usage: delivery_sim_test [--seed=N | --seeds=N [--first=M]]\n"
    "                         [--trace] [--mutant=NAME] [GOOGLETEST "
    "OPTION...]\n"
    "\n"
    "Simulates delivery: agents, a collector, its disk and what goes wrong\n"
    "between them, all from one seed. Exit code 1 if an invariant is broken.\n"
    "\n"
    "  --seed=N       one seed\n"
    "  --seeds=N      N seeds, from --first=M (default 1) on; then the "
    "figures\n"
    "  --trace        every event on standard output\n"
    "  --mutant=NAME  with a fault of the code that the invariants must "
    "catch:\n";

struct Arguments {
  std::uint64_t first = 1;
  std::uint64_t count = 0;
  bool trace = false;
  Mutant mutant = Mutant::kNone;
};

int Usage(std::FILE* out, int code) {
  std::fputs(kUsage, out);
  for (const MutantInfo& info : kMutants) {
    std::fprintf(out, "    %-22s %s\n", std::string(info.name).c_str(),
                 std::string(info.what).c_str());
  }
  return code;
}

int Fail(const std::string& why) {
  std::fprintf(stderr, "delivery_sim_test: %s\n", why.c_str());
  return 2;
}

int RunSeeds(const Arguments& arguments) {
  Outcome all;
  for (std::uint64_t i = 0; i < arguments.count; ++i) {
    const std::uint64_t seed = arguments.first + i;
    World::TraceSink sink;
    if (arguments.trace) {
      sink = [](const std::string& line) { std::puts(line.c_str()); };
    }
    const Outcome one = Simulate(seed, arguments.mutant, sink);
    if (one.violation.has_value()) {
      std::printf("seed %llu: %s\nreplay: %s\n",
                  static_cast<unsigned long long>(seed), one.violation->c_str(),
                  ReplayCommand(seed, arguments.mutant).c_str());
      return 1;
    }
    all.events += one.events;
    all.steps += one.steps;
    all.stored += one.stored;
    all.lost += one.lost;
    all.calls += one.calls;
    all.deaths += one.deaths;
    all.handed_on += one.handed_on;
    all.settled_in = std::max(all.settled_in, one.settled_in);
    for (const auto& [name, times] : one.faults) all.faults[name] += times;
  }
  const auto print = [](const char* name, std::uint64_t value) {
    std::printf("%s: %llu\n", name, static_cast<unsigned long long>(value));
  };
  print("seeds without a broken invariant", arguments.count);
  print("events", all.events);
  print("steps", all.steps);
  print("steps stored", all.stored);
  print("steps declared lost", all.lost);
  print("calls", all.calls);
  print("processes that died", all.deaths);
  print("records that another process delivered", all.handed_on);
  std::printf(
      "longest from the last fault to the last Ack (simulated s): %.1f\n",
      std::chrono::duration<double>(all.settled_in).count());
  for (const auto& [name, times] : all.faults) {
    print(absl::StrCat("fault, ", name).c_str(), times);
  }
  return 0;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  bool one = false;
  bool first_given = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const std::string value(
        equals == std::string_view::npos ? "" : argument.substr(equals + 1));
    std::uint64_t number = 0;
    const bool counts =
        name == "--seed" || name == "--seeds" || name == "--first";
    if (counts && !absl::SimpleAtoi(value, &number)) {
      return Fail(absl::StrCat("'", std::string(name), "=", value,
                               "' is no number; try --seed=1"));
    }
    if (name == "--help") return Usage(stdout, 0);
    if (name == "--seed") {
      one = true;
      arguments.first = number;
      arguments.count = 1;
    } else if (name == "--seeds") {
      arguments.count = number;
    } else if (name == "--first") {
      first_given = true;
      arguments.first = number;
    } else if (name == "--trace") {
      arguments.trace = true;
    } else if (name == "--mutant") {
      for (const MutantInfo& info : kMutants) {
        if (info.name == value) arguments.mutant = info.mutant;
      }
      if (arguments.mutant == Mutant::kNone) {
        return Fail(absl::StrCat("there is no mutant '", value,
                                 "'; --help lists them"));
      }
    } else if (name.substr(0, 7) != "--gtest") {
      return Fail(absl::StrCat("'", std::string(argument),
                               "' is no option; see --help"));
    }
  }
  if (one && first_given) return Fail("--first goes with --seeds");
  if (arguments.count > 0) return RunSeeds(arguments);
  if (arguments.trace || first_given || arguments.mutant != Mutant::kNone) {
    return Fail("which seeds? Add --seed=N or --seeds=N");
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace gradtap::sim

int main(int argc, char** argv) {
  // zstd's contexts come and go with each batch: from the heap, not the kernel.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  return gradtap::sim::Main(argc, argv);
}
