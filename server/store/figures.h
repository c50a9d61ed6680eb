// The store's own figures: how long its writes take, how far the sealer is
// behind, what takes the disk, what is wrong.
//
// Layer: server/store. Plain data.

#ifndef GRADTAP_SERVER_STORE_FIGURES_H_
#define GRADTAP_SERVER_STORE_FIGURES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/recent.h"

namespace gradtap::server {

// What failed last and has not succeeded since. Empty: nothing.
struct Trouble {
  std::string what;
  std::int64_t since_unix_ns = 0;
};

struct SealingFigures {
  std::uint64_t rows_waiting = 0;  // Stored, and not sealed yet.
  std::uint64_t rows_due = 0;      // Of them what may be sealed at once.
  std::uint32_t branches_due = 0;  // That these belong to.
  // How long some branch has had rows due without a break. A sealer that keeps
  // up clears each within seconds; one that does not lets this grow.
  std::int64_t due_for_ns = 0;
  // Of the last minute.
  double windows_per_second = 0;
  double values_per_second = 0;
  LatencyFigures window;  // Sealing one.
  Trouble trouble;
};

// One kind of data of the folder.
struct FamilyFigures {
  std::string name;
  std::uint64_t disk_bytes = 0;    // Of its tables; logs apart.
  std::uint64_t memory_bytes = 0;  // Written, and not in a table yet.
};

struct StoreFigures {
  LatencyFigures commit;  // Waiting for other writers included.
  LatencyFigures sync;    // The synced write alone.
  SealingFigures sealing;
  std::vector<FamilyFigures> families;
  std::uint64_t compaction_pending_bytes = 0;  // An estimate.
  bool writes_stopped = false;  // Until compaction has caught up.
  Trouble trouble;              // Of writing.
};

struct StoreCounters {  // Since Open(); each only grows.
  std::uint64_t stored_steps = 0;
  std::uint64_t stored_values = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t rejected_records = 0;
  std::uint64_t commits = 0;
  std::uint64_t syncs = 0;
  std::uint64_t sealed_windows = 0;
  std::uint64_t sealed_rows = 0;
  std::uint64_t sealed_bytes = 0;   // Of windows, as written.
  std::uint64_t sealed_values = 0;  // As stored_values counts them.
  // About what runs took that have been deleted, and values of shrunk ones.
  std::uint64_t removed_bytes = 0;
  // Scans of steps, by step or ordinal, that needed the database, and those
  // that the newest steps in memory had all of.
  std::uint64_t database_scans = 0;
  std::uint64_t tail_scans = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_FIGURES_H_
