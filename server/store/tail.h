// The newest rows and gaps of each run, in memory: what was committed a moment
// ago is read without the database.
//
// A run's records follow each other without a hole up to its newest one, so
// that whatever is asked for beyond the first of them is here, all of it.
// Records are added once they are durable, never change, and are shared by all
// that read them. The oldest go first when there is too much; a live run's
// newest step goes last.
//
// Layer: server/store. This file: std, store.h. Not thread-safe: the store's
// lock guards it. Records may be read by any thread.

#ifndef GRADTAP_SERVER_STORE_TAIL_H_
#define GRADTAP_SERVER_STORE_TAIL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/store/store.h"

namespace gradtap::server {

// One row as it was stored, or one gap.
struct TailRecord {
  std::uint64_t ordinal = 0;
  StreamId stream = 0;
  std::uint32_t branch = 0;
  std::int64_t step = 0;      // Of a row.
  std::string body;           // Of a row.
  std::optional<GapRow> gap;  // Set: a gap.
};
using SharedTailRecord = std::shared_ptr<const TailRecord>;
using TailRecords = std::vector<SharedTailRecord>;

// As a scan visits it; shares the record, which must be of a row.
StepRow RowOf(const SharedTailRecord& record);

// To be called for each of `records` in turn: the next ones begin to come from
// wherever they are, while that one is worked on.
void PrefetchAfter(TailRecords::const_iterator at,
                   TailRecords::const_iterator end);

struct TailLimits {
  // Of all runs together; 0: nothing is kept. What a reader holds on to after
  // it has gone from here is not counted.
  std::size_t bytes = std::size_t{12} << 20;
  // Of one run: a reader copies so many pointers while it holds the lock.
  std::size_t records_of_run = 4096;
};

class Tail {
 public:
  explicit Tail(const TailLimits& limits) : limits_(limits) {}

  // What a commit added to a run, in order of ordinals: they follow those that
  // are here, and the steps of a branch rise. `live`: more is to be expected.
  void Append(std::uint64_t run_id, TailRecords records, bool live);
  // The run is being deleted.
  void Forget(std::uint64_t run_id);
  void Clear();

  // Those above `after`; if the next one is not here any more, those that are.
  TailRecords After(std::uint64_t run_id, std::uint64_t after) const;
  // Rows of a branch with steps in [begin, end). `*first` is the lowest step of
  // the branch that is here: from there on there are no others.
  TailRecords Steps(std::uint64_t run_id, StreamId stream, std::uint32_t branch,
                    std::int64_t begin, std::int64_t end,
                    std::optional<std::int64_t>* first) const;

  // Of all records, with what it takes to keep them.
  std::size_t bytes() const { return bytes_; }

 private:
  using Branches = std::map<std::pair<StreamId, std::uint32_t>,
                            std::deque<SharedTailRecord>>;
  struct Run {
    std::deque<SharedTailRecord> records;
    Branches branches;                  // The rows among them.
    std::deque<std::uint64_t> serials;  // Of the records, among all runs'.
    std::uint64_t newest_step_ordinal = 0;
    bool live = true;
  };
  // Runs in the order in which their oldest records go.
  using Turn = std::tuple<bool, std::uint64_t, std::uint64_t>;

  static Turn TurnOf(std::uint64_t run_id, const Run& run);
  void DropOldest(Run* run);
  void DropOldestOfAll();

  const TailLimits limits_;
  std::unordered_map<std::uint64_t, Run> runs_;  // None is empty.
  std::set<Turn> turns_;
  std::uint64_t next_serial_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_TAIL_H_
