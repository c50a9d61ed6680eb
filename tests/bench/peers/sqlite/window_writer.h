// Turns steps into windows of the collector's own tiles and roll-ups
// (server/store/window/block_writer.h), and puts them into a database.
//
// A window is of as many steps as the collector's is. Until it is full its
// values are held in memory. Steps' numbers and times are not stored: a run's
// steps are 0, 1, 2, ...
//
// One thread. Layer: tests; std, server/store/window. Errors are
// std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SQLITE_WINDOW_WRITER_H_
#define GRADTAP_TESTS_BENCH_PEERS_SQLITE_WINDOW_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/peers/data_set.h"
#include "bench/peers/sqlite/database.h"
#include "server/store/window/block_values.h"
#include "server/store/window/block_writer.h"
#include "server/store/window/layout.h"

namespace gradtap::bench {

// The roles of a data set, in its order.
inline constexpr Role kTileRoles[kRoles] = {Role::kWeight, Role::kGrad,
                                            Role::kUpdate};

// Of a run with so many parameters, all of all roles.
server::TileLayout LayoutOf(std::uint32_t parameters);

class WindowWriter {
 public:
  WindowWriter(Database* database, const std::string& run,
               std::uint32_t parameters);

  // Where the next step's floats go, in a data set's order. Valid until Took().
  float* Next();
  // They are there. Writes the window if that was its last step.
  void Took();
  // Writes what is left.
  void Finish();

 private:
  void Write();
  void Gather(std::uint32_t block, std::uint32_t steps);

  Database* const database_;
  const server::TileLayout layout_;
  const std::uint32_t window_steps_;
  const std::size_t row_;  // Floats of a step.
  Database::Run run_;
  std::uint32_t window_ = 0;
  std::uint32_t steps_ = 0;  // Of the window, so far.
  std::vector<float> values_;
  server::BlockWriter writer_;
  server::BlockValues block_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SQLITE_WINDOW_WRITER_H_
