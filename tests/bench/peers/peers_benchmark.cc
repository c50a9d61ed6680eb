// gradtap beside other stores, on the same values and questions.
//
// `tests/bench/peers/run` starts this with a folder of its own; --help lists
// the options. Exit code 77: a peer that was named is not installed.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/contest.h"
#include "bench/peers/figures.h"
#include "bench/peers/peer.h"

namespace {

using namespace gradtap::bench;  // NOLINT

constexpr int kSkipped = 77;  // As ctest's SKIP_RETURN_CODE says.

// Every column that a table can have.
std::vector<std::unique_ptr<Peer>> AllPeers(const std::string& bin) {
  std::vector<std::unique_ptr<Peer>> peers;
  peers.push_back(MakeGradtapPeer(bin));
  peers.push_back(MakeVictoriaPeer(VictoriaPath::kLines));
  peers.push_back(MakeVictoriaPeer(VictoriaPath::kJson));
  peers.push_back(MakeClickHousePeer(ClickHouseCodec::kLz4));
  peers.push_back(MakeClickHousePeer(ClickHouseCodec::kZstd));
  peers.push_back(MakePostgresPeer());
  peers.push_back(MakeSqlitePeer(bin));
  return peers;
}

bool Wanted(const std::vector<std::string>& only, const std::string& name) {
  if (only.empty() || name == "gradtap") return true;
  for (const std::string& o : only) {
    if (name == o || name.rfind(o + "-", 0) == 0) return true;
  }
  return false;
}

void ReadShape(const std::string& text, Shape* shape) {
  if (text.empty()) return;
  unsigned long long parameters = 0;
  long long steps = 0;
  if (std::sscanf(text.c_str(), "%llux%lld", &parameters, &steps) != 2 ||
      parameters == 0 || steps <= 0) {
    throw std::runtime_error("'" + text +
                             "' is no PARAMETERSxSTEPS, such as 10000x60");
  }
  shape->parameters = parameters;
  shape->steps = steps;
}

struct Arguments {
  ContestOptions contest;
  std::string bin, json, scale = "small", wide, deep;
  std::vector<std::string> only;
  std::optional<int> repetitions, cold;
};

void SetScale(Arguments* arguments) {
  ContestOptions& o = arguments->contest;
  if (arguments->scale == "full") {
    o.wide = {"wide", 10'000, 60};
    o.deep = {"deep", 4, 1'000'000};
    o.repetitions = 50;
    o.cold_restarts = 5;
  }
  o.repetitions = arguments->repetitions.value_or(o.repetitions);
  o.cold_restarts = arguments->cold.value_or(o.cold_restarts);
  ReadShape(arguments->wide, &o.wide);
  ReadShape(arguments->deep, &o.deep);
  // By this ClickHouse's tables are sorted, for its good.
  if (o.wide.parameters <= kDeepParameters ||
      o.deep.parameters > kDeepParameters) {
    throw std::runtime_error("--wide takes more than " +
                             std::to_string(kDeepParameters) +
                             " parameters, --deep no more than that");
  }
}

int Run(Arguments arguments) {
  SetScale(&arguments);
  std::vector<std::unique_ptr<Peer>> peers;
  std::vector<std::string> skipped;
  for (std::unique_ptr<Peer>& peer : AllPeers(arguments.bin)) {
    if (!Wanted(arguments.only, peer->name())) continue;
    const std::string missing = peer->Missing();
    if (missing.empty()) {
      peers.push_back(std::move(peer));
      continue;
    }
    skipped.push_back(peer->name() + ": " + missing);
    std::cout << "skipped: " << skipped.back() << std::endl;
    if (!arguments.only.empty()) return kSkipped;
  }
  if (peers.empty() || peers[0]->name() != "gradtap") return 1;
  Contest contest(arguments.contest, std::move(peers), std::move(skipped));
  const Figures figures = contest.Run();
  std::cout << TableOf(figures) << std::flush;
  if (arguments.json.empty()) return 0;
  std::ofstream out(arguments.json);
  out << JsonOf(figures);
  out.close();
  if (!out) throw std::runtime_error("cannot write " + arguments.json);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "gradtap beside other stores; tests/bench/README.md says what "
      "the rows are.");
  app.add_option("--bin", a.bin, "Where gradtapd and peers_feeder are")
      ->required();
  app.add_option("--scratch", a.contest.scratch,
                 "An empty folder; `run` makes one and deletes it")
      ->required();
  app.add_option("--data", a.contest.data,
                 "Folder of recorded runs; without it random walks stand in");
  app.add_option("--scale", a.scale,
                 "small: seconds, proves that it runs; full: 10,000 parameters "
                 "x 60 steps and 4 x 1,000,000")
      ->check(CLI::IsMember({"small", "full"}));
  app.add_option("--wide", a.wide,
                 "PARAMETERSxSTEPS of the data set for ingest, old steps and "
                 "heat maps, such as 10000x240");
  app.add_option("--deep", a.deep,
                 "PARAMETERSxSTEPS of the data set for series; at most 100 "
                 "parameters, such as 4x1000000");
  app.add_option(
         "--only", a.only,
         "Peers beside gradtap: victoria, clickhouse, postgresql, "
         "sqlite, with their variants. One that is missing: exit code 77")
      ->delimiter(',');
  app.add_option("--rounds", a.contest.rounds, "Loadings of --wide")
      ->check(CLI::Range(1, 20))
      ->capture_default_str();
  app.add_option("--repetitions", a.repetitions,
                 "Of each question (small: 5, full: 50)")
      ->check(CLI::Range(1, 100000));
  app.add_option("--budget", a.contest.budget_seconds,
                 "Seconds of a peer's answers to one question, after which it "
                 "is not asked again once it has answered three times")
      ->capture_default_str();
  app.add_option("--cold", a.cold,
                 "Restarts with files dropped from the page cache (small: 1, "
                 "full: 5)")
      ->check(CLI::Range(0, 1000));
  app.add_option("--seed", a.contest.seed, "Of the values")
      ->capture_default_str();
  app.add_option("--json", a.json, "Writes all figures there");
  CLI11_PARSE(app, argc, argv);
  try {
    return Run(std::move(a));
  } catch (const std::exception& problem) {
    std::cerr << "peers: " << problem.what() << "\n";
    return 1;
  }
}
