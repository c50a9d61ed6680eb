// Makes a chapter of full windows: their roll-ups come to stand together, so
// that a series over a long run is few values to read, and get a coarser level.
//
// Layer: server/store. One thread.

#ifndef GRADTAP_SERVER_STORE_CHAPTER_BINDER_H_
#define GRADTAP_SERVER_STORE_CHAPTER_BINDER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/store/branch_key.h"
#include "server/store/catalog_codec.h"
#include "server/store/engine.h"
#include "server/store/rollup/block.h"
#include "server/store/sealed_batch.h"
#include "server/store/step_scan.h"
#include "server/store/window/chapter.h"

namespace gradtap::server {

class ChapterBinder {
 public:
  ChapterBinder(std::shared_ptr<Engine> engine, const BranchKey& key,
                std::size_t write_bytes, LayoutOfSchema layout_of)
      : engine_(std::move(engine)),
        key_(key),
        write_bytes_(write_bytes),
        layout_of_(std::move(layout_of)) {}

  // Binds so many windows from `first_step` on, two at least, and writes
  // `bound` for the branch. May be begun again after it has failed half-way.
  absl::Status Bind(std::int64_t first_step, std::uint32_t windows,
                    const Sealed& bound, const SealedBatch::Write& write);

 private:
  absl::Status ReadWindows(std::int64_t first_step, std::uint32_t windows);
  // Of one role and statistic of some parameters, if all windows have it.
  absl::Status JoinGroup(const RollupKey& key, SealedBatch* batch);

  const std::shared_ptr<Engine> engine_;
  const BranchKey key_;
  const std::size_t write_bytes_;  // Of SealedBatch.
  const LayoutOfSchema layout_of_;
  std::vector<std::string> bytes_;  // Of the timelines.
  std::vector<TimelineView> windows_;
  std::vector<std::int64_t> first_steps_;
  std::int64_t last_step_ = 0;
  RollupReader reader_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_CHAPTER_BINDER_H_
