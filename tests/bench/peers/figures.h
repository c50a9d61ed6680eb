// What was measured, and how it is printed: a table for people with the ratio
// to gradtap in each cell, and the same as JSON.
//
// Layer: tests; std only.

#ifndef GRADTAP_TESTS_BENCH_PEERS_FIGURES_H_
#define GRADTAP_TESTS_BENCH_PEERS_FIGURES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bench/peers/check.h"
#include "bench/peers/data_set.h"

namespace gradtap::bench {

// One loading of one data set into an empty or another server.
struct LoadFigures {
  double wall_seconds = 0;
  double cpu_seconds = 0;          // Of the server, until all is acknowledged.
  double settled_cpu_seconds = 0;  // And until it has settled.
  double client_cpu_seconds = 0;
  double disk_bytes = 0;  // Settled, over those before.
  double idle_pss = 0;    // Before.
  double loaded_pss = 0;  // When all is acknowledged.
  double settled_pss = 0;
};

struct PeerFigures {
  std::string name;
  std::string settings;
  bool asked = false;
  bool has_our_tiles = false;
  CheckCounts checks;
  // By the name of the data set; one a round.
  std::map<std::string, std::vector<LoadFigures>> loads;
  // Milliseconds, by what was asked.
  std::map<std::string, std::vector<double>> warm, cold;
};

struct Figures {
  std::string data;     // Where the values are drawn from.
  std::string machine;  // Processors, kernel, load.
  std::uint64_t seed = 0;
  std::vector<Shape> shapes;
  std::vector<std::string> questions;  // In the order of the table.
  std::vector<PeerFigures> peers;      // The first is gradtap.
  std::vector<std::string> skipped;    // Why, in words.
};

// What gradtap may take of the disk that the smallest peer takes which gives
// back every float as it was sent.
inline constexpr double kMostDiskShare = 0.7;

double Median(std::vector<double> values);
// The smallest that at least `share` of the values do not exceed.
double Quantile(std::vector<double> values, double share);

std::string TableOf(const Figures& figures);
std::string JsonOf(const Figures& figures);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_FIGURES_H_
