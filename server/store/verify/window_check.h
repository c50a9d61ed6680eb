// One sealed window: decodes all of it, and makes its roll-ups anew. Of one
// that has been shrunk there are no values to make them of: then those that
// must be there are, and agree with each other.
//
// Layer: server/store/verify. One thread.

#ifndef GRADTAP_SERVER_STORE_VERIFY_WINDOW_CHECK_H_
#define GRADTAP_SERVER_STORE_VERIFY_WINDOW_CHECK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/rollup/block.h"
#include "server/store/verify/findings.h"
#include "server/store/window/block_values.h"
#include "server/store/window/block_writer.h"
#include "server/store/window/sealed_window.h"

namespace gradtap::server {

// Where the roll-ups of a window may stand together with those of others.
struct ChapterPlace {
  std::int64_t first_step = 0;  // Of the chapter.
  std::uint32_t window = 0;     // Among its windows.
  std::uint32_t recorded = 0;   // Steps of all of them; 0: it is being made.
};

// Keeps its scratch memory: use one for many windows.
class WindowCheck {
 public:
  WindowCheck(std::shared_ptr<Engine> engine, const BranchKey& key,
              Findings* findings)
      : engine_(std::move(engine)), key_(key), findings_(findings) {}

  // `chapter`: null if the window belongs to none. Reports at `place`.
  void Check(SealedWindow* window, std::int64_t first_step,
             const ChapterPlace* chapter, const std::string& place);
  // The same of a window without values.
  void CheckRolledUp(SealedWindow* window, std::int64_t first_step,
                     const ChapterPlace* chapter, const std::string& place);

  // Keys of roll-ups that all windows so far account for.
  std::uint64_t rollup_keys() const { return rollup_keys_; }

 private:
  class Look;
  // Of a series over some steps.
  struct Absence {
    std::uint32_t steps = 0;
    std::uint32_t first_at = 0;
    friend bool operator==(const Absence&, const Absence&) = default;
  };

  // All values of a block; false after a report.
  bool Gather(SealedWindow* window, std::uint32_t block);
  void GatherRole(SealedWindow* window, Role role, std::uint32_t block);
  void CheckScalars(SealedWindow* window, const std::string& place);
  // Compares what stands in the folder with `bytes`, which were made anew.
  absl::Status Compare(const RollupKey& key, std::string_view bytes,
                       std::int64_t first_step, const ChapterPlace* chapter);
  absl::Status CompareJoined(const RollupKey& key,
                             const std::vector<RollupEntry>& made,
                             const ChapterPlace& chapter);
  // Of a chapter's roll-ups in reader_.
  absl::Status CompareCoarse(const RollupKey& key, const ChapterPlace& chapter);
  // That what stands in the folder in the place of `bytes`, which say of which
  // shape it must be, agrees with itself and with the other statistics.
  absl::Status CheckAlone(const RollupKey& key, std::string_view bytes,
                          std::int64_t first_step, const ChapterPlace* chapter);
  // Of reader_, of the window or chapter that begins there.
  absl::Status CheckEntries(const RollupKey& key, std::int64_t first_step);
  // Nothing: it is not there.
  absl::StatusOr<bool> Read(const RollupKey& key, std::int64_t first_step,
                            std::string* bytes);

  const std::shared_ptr<Engine> engine_;
  const BranchKey key_;
  Findings* const findings_;
  BlockWriter writer_;
  BlockValues values_;
  RollupReader reader_, other_;
  std::vector<RollupEntry> entries_;
  // Of the statistic that comes first, by role and group, in the window or
  // chapter that begins there.
  std::map<std::pair<Role, std::uint32_t>, std::vector<Absence>> absences_;
  std::int64_t absences_of_ = 0;
  std::uint64_t rollup_keys_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_WINDOW_CHECK_H_
