#include "server/store/verify/window_check.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/statistic.h"
#include "server/store/keys.h"
#include "server/store/rollup/entry.h"
#include "server/store/window/chapter.h"
#include "server/store/window/scalar_column.h"

namespace gradtap::server {
namespace {

bool Same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}
bool Same(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool Same(const RollupEntry& a, const RollupEntry& b) {
  return Same(a.min, b.min) && Same(a.max, b.max) && Same(a.mean, b.mean) &&
         Same(a.first_nonfinite, b.first_nonfinite) && a.finite == b.finite &&
         a.nonfinite == b.nonfinite && a.absent == b.absent &&
         a.min_at == b.min_at && a.max_at == b.max_at &&
         a.nonfinite_at == b.nonfinite_at && a.absent_at == b.absent_at;
}

bool Same(const ScalarRollup& a, const ScalarRollup& b) {
  if (a.finite != b.finite || a.nonfinite != b.nonfinite) return false;
  if (a.finite != 0 &&
      !(Same(a.min, b.min) && Same(a.max, b.max) && Same(a.mean, b.mean) &&
        a.min_at == b.min_at && a.max_at == b.max_at)) {
    return false;
  }
  return a.nonfinite == 0 ||
         (Same(a.other, b.other) && a.other_at == b.other_at);
}

absl::Status Differs() {
  return absl::DataLossError("it is not that of the window's values");
}

std::string NameOf(const RollupKey& key) {
  return absl::StrCat("roll-ups of ", std::string(RoleName(key.role)),
                      ", statistic ", static_cast<int>(key.statistic),
                      ", group ", key.group);
}

}  // namespace

// Takes what BlockWriter makes, and has each of its roll-ups looked at:
// compared with what is stored, or for its key and shape alone.
class WindowCheck::Look final : public WindowSink {
 public:
  using How = absl::Status (WindowCheck::*)(const RollupKey&, std::string_view,
                                            std::int64_t, const ChapterPlace*);
  Look(WindowCheck* check, How how, std::int64_t first_step,
       const ChapterPlace* chapter, const std::string& place)
      : check_(check),
        how_(how),
        first_step_(first_step),
        chapter_(chapter),
        place_(place) {}

  absl::Status PutTile(const TileKey&, std::string_view) override {
    return absl::OkStatus();
  }
  absl::Status PutScalar(std::string_view, std::string_view) override {
    return absl::OkStatus();
  }
  absl::Status PutRollups(const RollupKey& key,
                          std::string_view value) override {
    const absl::Status s = (check_->*how_)(key, value, first_step_, chapter_);
    if (!s.ok()) {
      check_->findings_->Report(
          place_, absl::StrCat(NameOf(key), ": ", std::string(s.message())));
    }
    return absl::OkStatus();
  }

 private:
  WindowCheck* const check_;
  const How how_;
  const std::int64_t first_step_;
  const ChapterPlace* const chapter_;
  const std::string& place_;
};

void WindowCheck::Check(SealedWindow* window, std::int64_t first_step,
                        const ChapterPlace* chapter, const std::string& place) {
  CheckScalars(window, place);
  const TimelineView& timeline = window->timeline();
  if (timeline.recorded() == 0) return;
  Look comparison(this, &WindowCheck::Compare, first_step, chapter, place);
  values_.schema_id = timeline.schema_id();
  values_.steps = timeline.recorded();
  for (std::uint32_t block = 0; block < window->layout().blocks(); ++block) {
    const bool gathered = Gather(window, block);
    window->Release();
    if (!gathered) {
      findings_->Report(place, std::string(window->status().message()));
      return;
    }
    findings_->ReportUnlessOk(
        place,
        writer_.WriteRollupsOnly(window->layout(), values_, &comparison));
  }
}

// Which roll-ups there are hangs on roles and steps, not on values: zeros will
// do.
void WindowCheck::CheckRolledUp(SealedWindow* window, std::int64_t first_step,
                                const ChapterPlace* chapter,
                                const std::string& place) {
  CheckScalars(window, place);
  const TimelineView& timeline = window->timeline();
  if (timeline.recorded() == 0) return;
  Look attendance(this, &WindowCheck::CheckAlone, first_step, chapter, place);
  values_.schema_id = timeline.schema_id();
  values_.steps = timeline.recorded();
  for (std::uint32_t block = 0; block < window->layout().blocks(); ++block) {
    values_.block = block;
    for (int i = 1; i < kRoleCount; ++i) {
      const auto role = static_cast<Role>(i);
      const std::uint32_t rows = window->layout().Rows(role, block);
      RoleValues& values = values_.of(role);
      values.any =
          (timeline.fields(role) & BitOf(WindowField::kMean)) != 0 && rows > 0;
      values.counted.fill(false);
      for (FloatBlock& column : values.floats) {
        column.parameters = rows;
        column.steps = values_.steps;
        column.present.clear();
        column.values.assign(column.size(), 0.0F);
      }
    }
    findings_->ReportUnlessOk(
        place,
        writer_.WriteRollupsOnly(window->layout(), values_, &attendance));
  }
}

bool WindowCheck::Gather(SealedWindow* window, std::uint32_t block) {
  values_.block = block;
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    RoleValues& values = values_.of(role);
    values.any =
        (window->timeline().fields(role) & BitOf(WindowField::kMean)) != 0 &&
        window->layout().Rows(role, block) > 0;
    if (values.any) GatherRole(window, role, block);
    if (!window->status().ok()) return false;
  }
  return true;
}

void WindowCheck::GatherRole(SealedWindow* window, Role role,
                             std::uint32_t block) {
  const std::uint32_t rows = window->layout().Rows(role, block);
  const std::uint32_t first = window->layout().FirstPlace(role, block);
  const std::uint32_t steps = values_.steps;
  RoleValues& values = values_.of(role);
  std::vector<std::uint8_t> present;
  std::uint64_t records = std::uint64_t{rows} * steps;
  for (std::uint32_t p = 0; p < rows; ++p) {
    const std::uint64_t* series = window->Presence(role, first + p);
    if (series == nullptr) break;  // Of all of the block, or of none.
    for (std::uint32_t t = 0; t < steps; ++t) {
      present.push_back(series[t] != 0 ? 1 : 0);
      records -= series[t] != 0 ? 0 : 1;
    }
  }
  for (int field = 0; field < kFloatFields; ++field) {
    FloatBlock& to = values.floats[static_cast<std::size_t>(field)];
    to.parameters = rows;
    to.steps = steps;
    to.present = present;
    to.values.resize(to.size());
    for (std::uint32_t p = 0; p < rows; ++p) {
      const float* series = window->Floats(role, FloatField(field), first + p);
      if (series == nullptr) return;
      std::copy_n(series, steps, to.values.begin() + std::ptrdiff_t{p} * steps);
    }
  }
  for (int field = 0; field < kCountFields; ++field) {
    const auto at = static_cast<std::size_t>(field);
    CountBlock& to = values.counts[at];
    to.parameters = rows;
    to.steps = steps;
    to.values.assign(to.size(), 0);
    values.counted[at] = false;
    for (std::uint32_t p = 0; p < rows; ++p) {
      const std::uint64_t* series =
          window->Counts(role, CountField(field), first + p);
      if (series == nullptr) break;
      values.counted[at] = true;
      std::copy_n(series, steps, to.values.begin() + std::ptrdiff_t{p} * steps);
    }
  }
  findings_->summary.values += 9 * records;
}

void WindowCheck::CheckScalars(SealedWindow* window, const std::string& place) {
  const std::uint32_t rows = window->timeline().rows();
  for (std::size_t i = 0; i < window->scalar_names().size(); ++i) {
    const std::string_view name = window->scalar_names()[i];
    const auto report = [&](const std::string& what) {
      findings_->Report(place,
                        absl::StrCat("scalar ", std::string(name), ": ", what));
    };
    std::string bytes;
    const rocksdb::Status got =
        engine_->db()->Get(rocksdb::ReadOptions(), engine_->windows(),
                           keys::Scalar(key_.run_id, key_.stream, key_.branch,
                                        name, window->timeline().step(0)),
                           &bytes);
    if (got.IsNotFound()) {
      report("it is missing");
      continue;
    }
    const auto view = ScalarView::Parse(bytes);
    const ScalarColumn* column =
        got.ok() && view.ok() ? window->Scalar(i) : nullptr;
    if (column == nullptr) {
      report(std::string(!got.ok()    ? ToStatus(got, kReading).message()
                         : !view.ok() ? view.status().message()
                                      : window->status().message()));
      continue;
    }
    for (const std::uint8_t there : column->present) {
      findings_->summary.scalars += there;
    }
    const std::uint32_t runs =
        (rows + kScalarRollupRows - 1) / kScalarRollupRows;
    bool same = view->rollups().size() == runs;
    for (std::uint32_t run = 0; same && run < runs; ++run) {
      const std::uint32_t begin = run * kScalarRollupRows;
      same = Same(
          view->rollups()[run],
          RollUp(*column, begin, std::min(begin + kScalarRollupRows, rows)));
    }
    if (!same) report("its roll-ups are not those of its values");
  }
}

absl::StatusOr<bool> WindowCheck::Read(const RollupKey& key,
                                       std::int64_t first_step,
                                       std::string* bytes) {
  const rocksdb::Status got = engine_->db()->Get(
      rocksdb::ReadOptions(), engine_->rollups(),
      keys::Rollup(key_.run_id, key_.stream, key_.branch, key.level,
                   static_cast<std::uint8_t>(key.role),
                   static_cast<std::uint8_t>(key.statistic), key.schema_id,
                   key.group, first_step),
      bytes);
  if (got.IsNotFound()) return false;
  if (!got.ok()) return ToStatus(got, kReading);
  ++findings_->summary.rollups;
  return true;
}

absl::Status WindowCheck::Compare(const RollupKey& key, std::string_view bytes,
                                  std::int64_t first_step,
                                  const ChapterPlace* chapter) {
  std::string stored;
  const auto found = Read(key, first_step, &stored);
  if (!found.ok()) return found.status();
  if (*found) {
    if (const absl::Status s = reader_.Open(stored); !s.ok()) return s;
    if (reader_.shape().steps == values_.steps) {
      ++rollup_keys_;
      return stored == bytes ? absl::OkStatus() : Differs();
    }
  }
  if (chapter == nullptr) {
    return absl::DataLossError(*found ? "it is of another number of steps"
                                      : "it is missing");
  }
  std::vector<RollupEntry> made;
  absl::Status s = other_.Open(bytes);
  if (s.ok()) s = other_.ReadAll(&made);
  return s.ok() ? CompareJoined(key, made, *chapter) : s;
}

absl::Status WindowCheck::CompareJoined(const RollupKey& key,
                                        const std::vector<RollupEntry>& made,
                                        const ChapterPlace& chapter) {
  std::string stored;
  const auto found = Read(key, chapter.first_step, &stored);
  if (!found.ok()) return found.status();
  if (!*found) return absl::DataLossError("it is missing");
  if (const absl::Status s = reader_.Open(stored); !s.ok()) return s;
  const RollupShape& shape = reader_.shape();
  const std::uint32_t runs =
      (values_.steps + kRollupRun - 1) / kRollupRun;  // Of a window.
  if (shape.steps % values_.steps != 0 || shape.run != kRollupRun ||
      shape.runs() < (chapter.window + 1) * runs ||
      made.size() != std::size_t{shape.parameters} * runs) {
    return absl::DataLossError("it is of another number of steps");
  }
  std::vector<RollupEntry> joined(shape.runs());
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    if (const absl::Status s = reader_.Read(p, joined.data()); !s.ok()) {
      return s;
    }
    for (std::uint32_t run = 0; run < runs; ++run) {
      if (!Same(joined[chapter.window * runs + run],
                made[std::size_t{p} * runs + run])) {
        return Differs();
      }
    }
  }
  if (chapter.window != 0) return absl::OkStatus();
  ++rollup_keys_;
  return CompareCoarse(key, chapter);
}

absl::Status WindowCheck::CompareCoarse(const RollupKey& key,
                                        const ChapterPlace& chapter) {
  RollupKey up = key;
  up.level = 1;
  std::string stored;
  const auto found = Read(up, chapter.first_step, &stored);
  if (!found.ok()) return found.status();
  if (!*found) return absl::DataLossError("the coarser level is missing");
  ++rollup_keys_;
  std::vector<RollupEntry> coarse;
  absl::Status s = other_.Open(stored);
  if (s.ok()) s = other_.ReadAll(&coarse);
  if (!s.ok()) return s;
  const RollupShape& shape = reader_.shape();
  std::vector<RollupEntry> fine(shape.runs());
  if (coarse.size() != shape.parameters ||
      other_.shape().steps != shape.steps) {
    return absl::DataLossError("the coarser level is of another shape");
  }
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    s = reader_.Read(p, fine.data());
    if (!s.ok()) return s;
    if (!Same(coarse[p], MergeRollups(fine))) {
      return absl::DataLossError("the coarser level is not that of this one");
    }
  }
  return absl::OkStatus();
}

// ---- Of windows without values. ----

absl::Status WindowCheck::CheckAlone(const RollupKey& key,
                                     std::string_view bytes,
                                     std::int64_t first_step,
                                     const ChapterPlace* chapter) {
  if (const absl::Status s = other_.Open(bytes); !s.ok()) return s;
  const std::uint32_t parameters = other_.shape().parameters;
  std::string stored;
  auto found = Read(key, first_step, &stored);
  if (!found.ok()) return found.status();
  if (*found) {
    if (const absl::Status s = reader_.Open(stored); !s.ok()) return s;
    if (reader_.shape() == other_.shape()) {
      ++rollup_keys_;
      return CheckEntries(key, first_step);
    }
  }
  if (chapter == nullptr) {
    return absl::DataLossError(*found ? "it is of another shape"
                                      : "it is missing");
  }
  found = Read(key, chapter->first_step, &stored);
  if (!found.ok()) return found.status();
  if (!*found) return absl::DataLossError("it is missing");
  if (const absl::Status s = reader_.Open(stored); !s.ok()) return s;
  const RollupShape& shape = reader_.shape();
  if (shape.parameters != parameters || shape.run != kRollupRun ||
      shape.steps % values_.steps != 0 ||
      shape.steps / values_.steps <= chapter->window ||
      (chapter->recorded != 0 && shape.steps != chapter->recorded)) {
    return absl::DataLossError("it is of another shape");
  }
  if (chapter->window != 0) return absl::OkStatus();  // Once is enough.
  ++rollup_keys_;
  const absl::Status s = CheckEntries(key, first_step);
  return s.ok() ? CompareCoarse(key, *chapter) : s;
}

absl::Status WindowCheck::CheckEntries(const RollupKey& key,
                                       std::int64_t first_step) {
  if (const absl::Status s = reader_.ReadAll(&entries_); !s.ok()) return s;
  const RollupShape& shape = reader_.shape();
  std::vector<Absence> absences;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const RollupEntry& entry = entries_[i];
    const auto run = static_cast<std::uint32_t>(i % shape.runs());
    if (entry.steps() != shape.StepsOf(run)) {
      return absl::DataLossError("an entry is of another number of steps");
    }
    if (entry.finite != 0 &&
        !(entry.min <= entry.mean && entry.mean <= entry.max)) {
      return absl::DataLossError("a mean is not between its extremes");
    }
    absences.push_back({entry.absent, entry.absent_at});
  }
  // A ratio is absent where the weight is, too.
  if (key.statistic == RollupStatistic::kRatio) return absl::OkStatus();
  if (first_step != absences_of_) absences_.clear();
  absences_of_ = first_step;
  const auto [first, is_first] =
      absences_.try_emplace({key.role, key.group}, std::move(absences));
  if (is_first || first->second.size() != absences.size() ||
      first->second == absences) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      "its absent steps are not those of the other statistics");
}

}  // namespace gradtap::server
