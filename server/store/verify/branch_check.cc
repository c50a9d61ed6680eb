#include "server/store/verify/branch_check.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "server/store/bytes.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_window.h"
#include "server/store/window/chapter.h"

namespace gradtap::server {
namespace {

constexpr std::int64_t kFirst = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kNoEnd = std::numeric_limits<std::int64_t>::max();

// All keys of a branch: kind 0 or a letter.
std::string Prefix(char kind, const BranchKey& key) {
  std::string prefix = keys::OfStream(kind, key.run_id, key.stream);
  PutU32(key.branch, &prefix);
  return prefix;
}

Sealed OrNothing(const Sealed* sealed) {
  if (sealed != nullptr) return *sealed;
  Sealed nothing;
  nothing.end = kFirst;
  return nothing;
}

}  // namespace

BranchCheck::BranchCheck(std::shared_ptr<Engine> engine, const BranchKey& key,
                         const Branch& branch, const Sealed* sealed,
                         const Layouts& layouts, const GapBounds& gaps,
                         std::string place, OrdinalCheck* ordinals,
                         Findings* findings)
    : engine_(std::move(engine)),
      key_(key),
      branch_(branch),
      sealed_(OrNothing(sealed)),
      layouts_(layouts),
      gaps_(gaps),
      place_(std::move(place)),
      ordinals_(ordinals),
      findings_(findings),
      window_check_(engine_, key, findings) {}

std::string BranchCheck::At(std::int64_t step) const {
  return absl::StrCat(place_, ", step ", step);
}

void BranchCheck::Run() {
  CheckWindows();
  CheckChapters();
  CheckTiles();
  CheckRollups();
  CheckScalarKeys();
  CheckRows();
  CheckHistograms();
  CheckCatalog();
}

void BranchCheck::Stray(std::string_view what, std::int64_t first_step) {
  if (first_step >= sealed_.end) {
    ++findings_->summary.unfinished;
    return;
  }
  findings_->Report(place_,
                    absl::StrCat(std::string(what), " of step ", first_step,
                                 ", where no window begins"));
}

const BranchCheck::Window* BranchCheck::FindWindow(
    std::int64_t first_step) const {
  const auto at = std::lower_bound(
      windows_.begin(), windows_.end(), first_step,
      [](const Window& w, std::int64_t step) { return w.first_step < step; });
  return at != windows_.end() && at->first_step == first_step ? &*at : nullptr;
}

// ---- Windows. ----

void BranchCheck::CheckWindows() {
  const std::string of_chapters = Prefix(keys::kChapter, key_);
  ForEachKey(*engine_, engine_->windows(), of_chapters,
             keys::After(of_chapters), place_, findings_,
             [&](std::string_view key, std::string_view value) {
               ByteReader reader(key.substr(of_chapters.size()));
               const std::int64_t first = reader.I64();
               const auto view = ChapterView::Parse(value);
               if (!reader.ok() || !reader.at_end() || !view.ok()) {
                 findings_->Report(At(first), "a chapter is damaged");
                 return;
               }
               ++findings_->summary.chapters;
               chapters_.push_back(
                   {first, view->end(), view->recorded(), std::string(value)});
             });
  if (sealed_.chapter_windows > 0) {
    chapters_.push_back({sealed_.chapter_first, kNoEnd, 0, ""});
  }
  const std::string begin = Prefix(keys::kTimeline, key_);
  ForEachKey(*engine_, engine_->windows(), begin, keys::After(begin), place_,
             findings_, [&](std::string_view key, std::string_view value) {
               ByteReader reader(key.substr(begin.size()));
               const std::int64_t first = reader.I64();
               if (!reader.ok() || !reader.at_end()) {
                 findings_->Report(place_, "a window's key is damaged");
                 return;
               }
               CheckWindow(first, value);
             });
  if (windows_.size() != sealed_.windows || steps_.size() != sealed_.rows) {
    findings_->Report(
        place_, absl::StrCat("there are ", windows_.size(), " windows of ",
                             steps_.size(), " rows, and its catalog says ",
                             sealed_.windows, " of ", sealed_.rows));
  }
  // A damaged catalog may say any number.
  if (!steps_.empty() &&
      (sealed_.end < 1 || steps_.back() != sealed_.end - 1)) {
    findings_->Report(place_,
                      absl::StrCat("windows end with step ", steps_.back(),
                                   ", and not before ", sealed_.end));
  }
}

const ChapterPlace* BranchCheck::PlaceInChapter(std::int64_t first_step) {
  for (const Chapter& chapter : chapters_) {
    if (first_step < chapter.first_step || first_step >= chapter.end) continue;
    if (in_chapter_.first_step == chapter.first_step &&
        first_step != chapter.first_step) {
      ++in_chapter_.window;
    } else {
      in_chapter_ = {chapter.first_step, 0, chapter.recorded};
    }
    return &in_chapter_;
  }
  return nullptr;
}

void BranchCheck::CheckWindow(std::int64_t first_step,
                              std::string_view timeline) {
  const std::string place = At(first_step) + ", window";
  const auto layout_of = [&](std::uint32_t id)
      -> absl::StatusOr<std::shared_ptr<const TileLayout>> {
    const auto found = layouts_.find(id);
    if (found != layouts_.end()) return found->second;
    return absl::NotFoundError(
        absl::StrCat("its schema ", id, " is not there"));
  };
  // Of a window that has been shrunk there are only scalars and roll-ups.
  const bool shrunk = first_step < branch_.rolled_up_end;
  const auto window =
      OpenWindow(engine_, key_, {first_step, shrunk, engine_->taken()},
                 std::string(timeline), layout_of);
  const ChapterPlace* const chapter = PlaceInChapter(first_step);
  ++findings_->summary.windows;
  Window& entry = windows_.emplace_back();
  entry.first_step = first_step;
  if (!window.ok()) {
    findings_->Report(place, std::string(window.status().message()));
    return;
  }
  const TimelineView& view = (*window)->timeline();
  if (view.step(0) != first_step) {
    findings_->Report(place, "its first row is of another step");
  }
  scalar_names_ += view.ScalarNames().size();
  CheckTimeline(view);
  if (view.recorded() > 0) {
    entry.layout = layouts_.at(view.schema_id()).get();
    for (int i = 1; i < kRoleCount && !shrunk; ++i) {
      entry.fields[static_cast<std::size_t>(i)] =
          view.fields(static_cast<Role>(i));
    }
  }
  if (shrunk) {
    window_check_.CheckRolledUp(window->get(), first_step, chapter, place);
  } else {
    window_check_.Check(window->get(), first_step, chapter, place);
  }
}

void BranchCheck::CheckTimeline(const TimelineView& timeline) {
  for (std::uint32_t row = 0; row < timeline.rows(); ++row) {
    const std::int64_t step = timeline.step(row);
    if (!steps_.empty() && step <= steps_.back()) {
      findings_->Report(At(step), "it does not rise above the one before it");
    }
    steps_.push_back(step);
    ordinals_->Expect(timeline.ordinal(row),
                      {false, key_.stream, key_.branch, step}, place_);
  }
  findings_->summary.sealed += timeline.rows();
  findings_->summary.steps += timeline.recorded();
}

// They say at a glance what the timelines say.
void BranchCheck::CheckChapters() {
  for (const Chapter& chapter : chapters_) {
    if (chapter.bytes.empty()) continue;
    const auto view = ChapterView::Parse(chapter.bytes);
    std::uint32_t place = 0;
    std::string key = keys::Timeline(key_.run_id, key_.stream, key_.branch,
                                     chapter.first_step);
    bool same = true;
    ForEachKey(
        *engine_, engine_->windows(), key,
        keys::Timeline(key_.run_id, key_.stream, key_.branch, chapter.end),
        place_, findings_, [&](std::string_view, std::string_view value) {
          const auto timeline = TimelineView::Parse(value);
          if (!timeline.ok()) return;  // Reported before.
          for (std::uint32_t i = 0; same && i < timeline->recorded(); ++i) {
            const std::uint32_t row = timeline->RowOfRecorded(i);
            same = place < view->recorded() &&
                   view->At(place).step == timeline->step(row) &&
                   view->At(place).time_unix_ns == timeline->time(row);
            ++place;
          }
        });
    if (!same || place != view->recorded()) {
      findings_->Report(At(chapter.first_step),
                        "a chapter has other steps than its windows");
    }
  }
}

// ---- What windows consist of. ----

void BranchCheck::CheckTiles() {
  const std::string begin = Prefix(0, key_);
  const Window* window = nullptr;
  RoleFields seen{};
  const auto finish = [&] {
    for (int i = 1; window != nullptr && i < kRoleCount; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (seen[at] == window->fields[at]) continue;
      findings_->Report(At(window->first_step) + ", window",
                        absl::StrCat("tiles are missing of role ", i));
    }
    seen = {};
  };
  std::int64_t last = kNoEnd;
  ForEachKey(
      *engine_, engine_->tiles(), begin, keys::After(begin), place_, findings_,
      [&](std::string_view key, std::string_view) {
        ByteReader reader(key.substr(begin.size()));
        const std::int64_t first = reader.I64();
        ByteReader rest(reader.rest().size() == 6 ? reader.rest().substr(2)
                                                  : "");
        const std::uint32_t block = rest.U32();
        if (!reader.ok() || !rest.ok()) {
          findings_->Report(place_, "a tile's key is damaged");
          return;
        }
        if (first != last) {
          finish();
          window = FindWindow(first);
          last = first;
        }
        if (window == nullptr) return Stray("a tile", first);
        const auto role = static_cast<unsigned char>(reader.rest()[0]);
        const auto field = static_cast<unsigned char>(reader.rest()[1]);
        ++findings_->summary.tiles;
        if (window->layout == nullptr || role >= kRoleCount ||
            field >= kWindowFields || block >= window->layout->blocks() ||
            (window->fields[role] & (1u << field)) == 0) {
          findings_->Report(
              At(first) + ", window",
              absl::StrCat("a tile of role ", role, ", field ", field,
                           ", block ", block, " does not belong there"));
          return;
        }
        seen[role] |= static_cast<FieldSet>(1u << field);
      });
  finish();
}

void BranchCheck::CheckRollups() {
  const std::string begin = Prefix(0, key_);
  std::uint64_t stored = 0;
  ForEachKey(
      *engine_, engine_->rollups(), begin, keys::After(begin), place_,
      findings_, [&](std::string_view key, std::string_view) {
        ByteReader reader(key.substr(std::min(key.size(), begin.size() + 11)));
        const std::int64_t first = reader.I64();
        if (!reader.ok() || !reader.at_end()) {
          findings_->Report(place_, "a roll-up's key is damaged");
          return;
        }
        if (FindWindow(first) == nullptr) return Stray("roll-ups", first);
        // Of a chapter that is being made they come first.
        const bool early = key[begin.size()] == 1 &&
                           sealed_.chapter_windows > 0 &&
                           first == sealed_.chapter_first;
        stored += early ? 0 : 1;
      });
  if (stored > window_check_.rollup_keys()) {
    findings_->Report(place_,
                      absl::StrCat(stored - window_check_.rollup_keys(),
                                   " roll-ups have no values in any window"));
  }
}

void BranchCheck::CheckScalarKeys() {
  const std::string begin = Prefix(keys::kScalar, key_);
  std::uint64_t stored = 0;
  ForEachKey(
      *engine_, engine_->windows(), begin, keys::After(begin), place_,
      findings_, [&](std::string_view key, std::string_view) {
        ByteReader reader(key.substr(std::max(key.size(), std::size_t{8}) - 8));
        const std::int64_t first = reader.I64();
        if (FindWindow(first) == nullptr) return Stray("scalars", first);
        ++stored;
      });
  if (stored > scalar_names_) {
    findings_->Report(place_, absl::StrCat(stored - scalar_names_,
                                           " scalars that no window names"));
  }
}

// ---- Rows. ----

void BranchCheck::CheckRows() {
  const std::string begin = Prefix(0, key_);
  ForEachKey(*engine_, engine_->rows(), begin, keys::After(begin), place_,
             findings_, [&](std::string_view key, std::string_view value) {
               ByteReader reader(key.substr(begin.size()));
               const std::int64_t step = reader.I64();
               if (!reader.ok() || !reader.at_end()) {
                 findings_->Report(place_, "a row's key is damaged");
                 return;
               }
               CheckRow(step, value);
             });
  if (steps_.size() != branch_.rows) {
    findings_->Report(
        place_, absl::StrCat("there are ", steps_.size(),
                             " steps, and its catalog says ", branch_.rows));
  }
}

void BranchCheck::CheckRow(std::int64_t step, std::string_view value) {
  ++findings_->summary.rows;
  if (step < sealed_.end) {
    findings_->Report(At(step), "a row stands where windows are");
    return;
  }
  steps_.push_back(step);
  ByteReader reader(value);
  const std::uint64_t ordinal = reader.U64();
  const auto view = StepView::Parse(reader.rest());
  if (!reader.ok() || !view.ok()) {
    findings_->Report(At(step), absl::StrCat("its row is damaged: ",
                                             view.status().ToString()));
    return;
  }
  if (view->step() != step) {
    findings_->Report(At(step), "its row is of another step");
  }
  ordinals_->Expect(ordinal, {false, key_.stream, key_.branch, step}, place_);
  findings_->summary.scalars += view->scalars().size();
  if (view->columns().empty()) return;
  ++findings_->summary.steps;
  const auto layout = layouts_.find(view->schema_id());
  if (layout == layouts_.end()) {
    findings_->Report(At(step), absl::StrCat("its schema ", view->schema_id(),
                                             " is not there"));
    return;
  }
  for (const StepView::Columns& columns : view->columns()) {
    if (columns.size != layout->second->places(columns.role)) {
      findings_->Report(At(step), "its columns do not fit its schema");
      return;
    }
    for (std::uint32_t i = 0; i < columns.size; ++i) {
      findings_->summary.values += columns.IsAbsent(i) ? 0 : 9;
    }
  }
}

void BranchCheck::CheckHistograms() {
  const std::string begin = Prefix(0, key_);
  ForEachKey(
      *engine_, engine_->histograms(), begin, keys::After(begin), place_,
      findings_, [&](std::string_view key, std::string_view value) {
        ByteReader reader(key.substr(begin.size()));
        const std::int64_t step = reader.I64();
        ByteReader rest(reader.rest().size() == 5 ? reader.rest().substr(1)
                                                  : "");
        const std::uint32_t block = rest.U32();
        if (!reader.ok() || !rest.ok()) {
          findings_->Report(place_, "a histogram's key is damaged");
          return;
        }
        const auto role = static_cast<Role>(reader.rest()[0]);
        ++findings_->summary.histograms;
        if (!std::binary_search(steps_.begin(), steps_.end(), step)) {
          findings_->Report(At(step), "it has histograms, and is not there");
        }
        const auto histograms = DecodeHistogramBlock(value);
        if (!histograms.ok()) {
          findings_->Report(At(step),
                            absl::StrCat("its histograms are damaged: ",
                                         histograms.status().ToString()));
          return;
        }
        for (const HistogramData& histogram : *histograms) {
          if (histogram.role != role ||
              histogram.place / kHistogramBlockPlaces != block) {
            findings_->Report(At(step), "histograms stand in a wrong place");
            return;
          }
        }
      });
}

void BranchCheck::CheckCatalog() {
  std::int64_t first = gaps_.gaps > 0 ? gaps_.first_step : -1;
  std::int64_t last = gaps_.gaps > 0 ? gaps_.last_step : -1;
  if (!steps_.empty()) {
    first = first < 0 ? steps_.front() : std::min(first, steps_.front());
    last = std::max(last, steps_.back());
  }
  if (first != branch_.first_step || last != branch_.last_step) {
    findings_->Report(
        place_, absl::StrCat("its steps are ", first, " to ", last,
                             ", and its catalog says ", branch_.first_step,
                             " to ", branch_.last_step));
  }
}

}  // namespace gradtap::server
