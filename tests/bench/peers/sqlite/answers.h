// Answers questions from a database of tiles with the collector's decoders.
//
// Series and heat maps whose buckets are of 64 steps and more come from
// roll-ups, all else from tiles.
//
// One thread. Layer: tests; std, server/store/window. Errors are
// std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SQLITE_ANSWERS_H_
#define GRADTAP_TESTS_BENCH_PEERS_SQLITE_ANSWERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/peers/peer.h"
#include "bench/peers/sqlite/database.h"
#include "bench/peers/sqlite/wire.h"
#include "server/store/rollup/block.h"
#include "server/store/tile/tile.h"

namespace gradtap::bench {

// One block of one window: decodes what is asked for, and what that leans on,
// once.
class BlockReader {
 public:
  explicit BlockReader(Database* database) : database_(database) {}

  // From here on; `part` of its tiles.
  void Start(const Database::Run& run, std::uint32_t window,
             std::uint32_t block, const server::TilePart& part);
  // Valid until the next Start(). Roles and fields are numbered as a data
  // set's.
  const server::FloatBlock& Get(std::size_t role, std::size_t field);

 private:
  struct Column {
    bool decoded = false;
    std::string tile;
    server::FloatBlock values;
  };

  Database* const database_;
  Database::Run run_;
  std::uint32_t window_ = 0;
  std::uint32_t block_ = 0;
  server::TilePart part_;
  std::array<Column, kFloats> columns_;
  server::TileDecoder decoder_;
};

class Answers {
 public:
  explicit Answers(Database* database)
      : database_(database), block_(database) {}

  Reply Ask(const std::string& run, const Question& question);

 private:
  std::uint32_t Windows() const;  // Of the run.

  void AskSteps(const Question& question, Reply* reply);
  void AskSeries(const Question& question, Reply* reply);
  void AskRolledSeries(const Question& question, Reply* reply);
  void AskHeatMap(const Question& question, Reply* reply);
  void AskRolledHeatMap(const Question& question, Reply* reply);

  Database* const database_;
  BlockReader block_;
  server::RollupReader rollups_;
  // Of the question's run.
  Database::Run run_;
  std::int64_t window_steps_ = 0;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SQLITE_ANSWERS_H_
