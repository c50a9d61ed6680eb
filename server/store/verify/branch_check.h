// All steps of one branch: windows, rows, histograms; what stands where none of
// them accounts for it; and what the catalog says of them.
//
// Layer: server/store/verify. One thread.

#ifndef GRADTAP_SERVER_STORE_VERIFY_BRANCH_CHECK_H_
#define GRADTAP_SERVER_STORE_VERIFY_BRANCH_CHECK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/store/branch_key.h"
#include "server/store/catalog_codec.h"
#include "server/store/engine.h"
#include "server/store/verify/findings.h"
#include "server/store/verify/index_check.h"
#include "server/store/verify/window_check.h"
#include "server/store/window/tile_key.h"

namespace gradtap::server {

class BranchCheck {
 public:
  // What is pointed to must outlive it. `sealed`: null if nothing is.
  BranchCheck(std::shared_ptr<Engine> engine, const BranchKey& key,
              const Branch& branch, const Sealed* sealed,
              const Layouts& layouts, const GapBounds& gaps, std::string place,
              OrdinalCheck* ordinals, Findings* findings);

  void Run();
  // Rows with statistics or without.
  std::uint64_t rows() const { return steps_.size(); }

 private:
  // A window that has been opened.
  struct Window {
    std::int64_t first_step = 0;
    RoleFields fields{};
    const TileLayout* layout = nullptr;  // Null: it has no tiles.
  };

  void CheckWindows();
  void CheckWindow(std::int64_t first_step, std::string_view timeline);
  void CheckTimeline(const TimelineView& timeline);
  void CheckChapters();
  void CheckTiles();
  void CheckRollups();
  void CheckScalarKeys();
  void CheckRows();
  void CheckRow(std::int64_t step, std::string_view value);
  void CheckHistograms();
  void CheckCatalog();
  // Null if it belongs to none.
  const ChapterPlace* PlaceInChapter(std::int64_t first_step);
  // Null if none begins there.
  const Window* FindWindow(std::int64_t first_step) const;
  // Reports what stands below what is sealed and belongs to no window; counts
  // what is beyond.
  void Stray(std::string_view what, std::int64_t first_step);

  std::string At(std::int64_t step) const;

  const std::shared_ptr<Engine> engine_;
  const BranchKey key_;
  const Branch& branch_;
  const Sealed sealed_;
  const Layouts& layouts_;
  const GapBounds& gaps_;
  const std::string place_;
  OrdinalCheck* const ordinals_;
  Findings* const findings_;

  WindowCheck window_check_;
  // Of the stored chapters, and of one that is being made: first step and end.
  struct Chapter {
    std::int64_t first_step = 0;
    std::int64_t end = 0;
    std::uint32_t recorded = 0;  // 0: being made.
    std::string bytes;           // Empty: being made.
  };
  std::vector<Chapter> chapters_;
  ChapterPlace in_chapter_;
  std::vector<Window> windows_;
  std::uint64_t scalar_names_ = 0;   // Of all windows.
  std::vector<std::int64_t> steps_;  // Of windows and rows, rising.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_BRANCH_CHECK_H_
