// The steps of a branch in order, wherever they are: first sealed windows, then
// rows.
//
// Layer: server/store. Any thread.

#ifndef GRADTAP_SERVER_STORE_STEP_SCAN_H_
#define GRADTAP_SERVER_STORE_STEP_SCAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/iterator.h"
#include "rocksdb/slice.h"
#include "rocksdb/snapshot.h"
#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/store.h"
#include "server/store/window/layout.h"

namespace gradtap::server {

using LayoutOfSchema =
    std::function<absl::StatusOr<std::shared_ptr<const TileLayout>>(
        std::uint32_t schema_id)>;
// Below which step the windows of a branch have lost their values. 0: none has.
// kNotFound: its run was deleted, which takes tiles without regard to
// snapshots.
using RolledUpEndOfBranch =
    std::function<absl::StatusOr<std::int64_t>(const BranchKey&)>;

// A window, as one scan sees it.
struct WindowPlace {
  std::int64_t first_step = 0;
  bool rolled_up = false;   // It has no values.
  std::uint64_t taken = 0;  // Engine::taken() of before that was learned.
};

class StepScan {
 public:
  // `snapshot` must outlive the scan; what it shows is what is visited. Null:
  // what is there when it is looked at.
  StepScan(std::shared_ptr<Engine> engine, const rocksdb::Snapshot* snapshot,
           LayoutOfSchema layout_of, RolledUpEndOfBranch rolled_up_end)
      : engine_(std::move(engine)),
        snapshot_(snapshot),
        layout_of_(std::move(layout_of)),
        rolled_up_end_(std::move(rolled_up_end)) {}

  // As Store::ScanSteps().
  absl::Status Scan(const BranchKey& branch, std::int64_t begin,
                    std::int64_t end,
                    const std::function<bool(const StepRow&)>& visit);

  // The same of one step. Costs little where steps that are asked for follow
  // each other, in each branch: what was read for the one before it is kept.
  absl::Status ScanOne(const BranchKey& branch, std::int64_t step,
                       const std::function<bool(const StepRow&)>& visit);

 private:
  // Of ScanOne().
  struct Place {
    std::int64_t sealed_end = 0;              // From there on there are rows.
    std::unique_ptr<rocksdb::Iterator> rows;  // At the newest one read.
    std::shared_ptr<SealedWindow> window;     // The newest, if it is small.
  };
  absl::StatusOr<Place*> PlaceOf(const BranchKey& branch);
  absl::Status ScanRow(const BranchKey& branch, std::int64_t step, Place* place,
                       const std::function<bool(const StepRow&)>& visit);
  // Null: it is too large to be kept whole.
  absl::StatusOr<std::shared_ptr<SealedWindow>> SmallWindowAt(
      const BranchKey& branch, std::int64_t step);

  // Of Scan(): the rows below a step.
  struct Rows {
    std::string end;  // Their keys are below; `it` refers to it.
    rocksdb::Slice upper;
    std::unique_ptr<rocksdb::Iterator> it;  // Null: there are none.
  };
  void OpenRows(const BranchKey& branch, std::int64_t end, Rows* rows) const;
  // Sets `*next` to where the rows begin, or to `end` when `visit` has had
  // enough. Opens `*rows` before it visits any window.
  absl::Status ScanWindows(const BranchKey& branch, std::int64_t begin,
                           std::int64_t end, std::int64_t* next, Rows* rows,
                           const std::function<bool(const StepRow&)>& visit);
  absl::Status ScanRows(const BranchKey& branch, std::int64_t begin,
                        const Rows& rows,
                        const std::function<bool(const StepRow&)>& visit);
  absl::StatusOr<bool> VisitWindow(
      const BranchKey& branch, const WindowPlace& at, std::string_view timeline,
      std::int64_t begin, std::int64_t end,
      const std::function<bool(const StepRow&)>& visit);

  const std::shared_ptr<Engine> engine_;
  const rocksdb::Snapshot* const snapshot_;
  const LayoutOfSchema layout_of_;
  const RolledUpEndOfBranch rolled_up_end_;
  std::map<std::pair<StreamId, std::uint32_t>, Place> places_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_STEP_SCAN_H_
