// Loads every peer with the same data, checks their answers, and times them by
// turns.
//
// One thread. Layer: tests; std only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_CONTEST_H_
#define GRADTAP_TESTS_BENCH_PEERS_CONTEST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/peers/data_set.h"
#include "bench/peers/figures.h"
#include "bench/peers/peer.h"

namespace gradtap::bench {

struct ContestOptions {
  std::string scratch;  // An empty folder, of this program alone.
  std::string data;     // The recorded runs; empty: a stand-in.
  std::uint64_t seed = 1;
  Shape wide{"wide", 200, 32};
  Shape deep{"deep", 4, 2000};
  int rounds = 2;              // Of loading `wide`.
  int repetitions = 5;         // Of each question.
  int cold_restarts = 1;       // 0: no cold questions.
  double budget_seconds = 20;  // Of one peer's answers to one question.
};

class Contest {
 public:
  // The first peer is gradtap. All are there.
  Contest(ContestOptions options, std::vector<std::unique_ptr<Peer>> peers,
          std::vector<std::string> skipped);

  Figures Run();

 private:
  struct Entry {
    std::string label;
    const DataSet* data = nullptr;
    // The question of a repetition: the same for each peer.
    std::function<Question(int)> of;
  };

  static std::vector<Entry> Entries(const DataSet& wide, const DataSet& deep);
  // Small data, loaded and asked for and thrown away.
  void Verify(const Recorded& recorded);
  void LoadAlone(const DataSet& data, int rounds);
  void LoadDeep(const DataSet& deep);
  void CheckPeer(std::size_t peer, const DataSet& data,
                 const Question& question);
  void CheckAll(std::size_t peer, const DataSet& data);
  void AskWarm(const Entry& entry);
  void AskCold(const std::vector<Entry>& entries);
  LoadFigures Load(std::size_t peer, const DataSet& data);
  std::string FolderOf(std::size_t peer) const;
  // Peers in the order of a round: forwards, then backwards.
  std::vector<std::size_t> OrderOf(int round) const;

  const ContestOptions options_;
  std::vector<std::unique_ptr<Peer>> peers_;
  Figures figures_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_CONTEST_H_
