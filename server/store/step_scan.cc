#include "server/store/step_scan.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_window.h"
#include "server/store/stored_step.h"

namespace gradtap::server {
namespace {

// The last 8 bytes of a key are a step.
std::int64_t StepAtEnd(std::string_view key) {
  if (key.size() < 8) return 0;
  return ByteReader(key.substr(key.size() - 8)).I64();
}

// Of a window; the least there is if it cannot be read.
std::int64_t LastStepOf(std::string_view timeline) {
  const auto view = TimelineView::Parse(timeline);
  return view.ok() ? view->step(view->rows() - 1)
                   : std::numeric_limits<std::int64_t>::min();
}

// Values of a window that is kept whole, about 4 bytes each.
constexpr std::size_t kMostKept = std::size_t{4} << 20;

StepRow RowOf(const BranchKey& branch,
              const std::shared_ptr<SealedWindow>& window, std::uint32_t i) {
  StepRow row;
  row.stream = branch.stream;
  row.branch = branch.branch;
  row.step = window->timeline().step(i);
  row.ordinal = window->timeline().ordinal(i);
  row.window = window;
  row.window_row = i;
  return row;
}

// The row at which the iterator stands.
absl::StatusOr<bool> VisitRow(
    const BranchKey& branch, const rocksdb::Iterator& it,
    const std::function<bool(const StepRow&)>& visit) {
  StepRow row;
  row.stream = branch.stream;
  row.branch = branch.branch;
  row.step = StepAtEnd(View(it.key()));
  ByteReader reader(View(it.value()));
  row.ordinal = reader.U64();
  row.body = reader.rest();
  if (!reader.ok()) return Damaged("row");
  return visit(row);
}

}  // namespace

absl::Status StepScan::Scan(const BranchKey& branch, std::int64_t begin,
                            std::int64_t end,
                            const std::function<bool(const StepRow&)>& visit) {
  if (begin >= end) return absl::OkStatus();
  std::int64_t next = begin;
  Rows rows;
  const absl::Status s = ScanWindows(branch, begin, end, &next, &rows, visit);
  if (!s.ok() || next >= end) return s;
  return ScanRows(branch, next, rows, visit);
}

// An iterator keeps its files: those of rows that are sealed while windows are
// visited may go, whatever the snapshot shows (Engine::Reclaim()).
void StepScan::OpenRows(const BranchKey& branch, std::int64_t end,
                        Rows* rows) const {
  rows->end = keys::Row(branch.run_id, branch.stream, branch.branch, end);
  rows->upper = rows->end;
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &rows->upper;
  options.snapshot = snapshot_;
  rows->it.reset(engine_->db()->NewIterator(options, engine_->rows()));
}

absl::Status StepScan::ScanWindows(
    const BranchKey& branch, std::int64_t begin, std::int64_t end,
    std::int64_t* next, Rows* rows,
    const std::function<bool(const StepRow&)>& visit) {
  const auto key_of = [&](std::int64_t step) {
    return keys::Timeline(branch.run_id, branch.stream, branch.branch, step);
  };
  const std::string from = key_of(std::numeric_limits<std::int64_t>::min());
  const std::string to = key_of(end);
  const rocksdb::Slice lower(from);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower;
  options.iterate_upper_bound = &upper;
  options.snapshot = snapshot_;
  // In this order: what is taken in between is noticed.
  const std::uint64_t taken = engine_->taken();
  const auto rolled_up_end = rolled_up_end_(branch);
  if (!rolled_up_end.ok()) return rolled_up_end.status();
  std::unique_ptr<rocksdb::Iterator> it(
      engine_->db()->NewIterator(options, engine_->windows()));
  it->SeekToLast();
  if (!it->Valid() || LastStepOf(View(it->value())) + 1 < end) {
    OpenRows(branch, end, rows);
  }
  // The last window that begins at or before `begin` may reach beyond it.
  it->SeekForPrev(key_of(begin));
  if (!it->Valid() && it->status().ok()) it->SeekToFirst();
  for (; it->Valid(); it->Next()) {
    const auto view = TimelineView::Parse(View(it->value()));
    if (!view.ok()) return view.status();
    const std::int64_t past = view->step(view->rows() - 1) + 1;
    if (past > begin) {
      const std::int64_t first_step = StepAtEnd(View(it->key()));
      const auto goes_on =
          VisitWindow(branch, {first_step, first_step < *rolled_up_end, taken},
                      View(it->value()), begin, end, visit);
      if (!goes_on.ok()) return goes_on.status();
      if (!*goes_on) {
        *next = end;
        return absl::OkStatus();
      }
    }
    *next = std::max(*next, past);
  }
  return ToStatus(it->status(), kReading);
}

absl::StatusOr<StepScan::Place*> StepScan::PlaceOf(const BranchKey& branch) {
  const auto [it, is_new] = places_.try_emplace({branch.stream, branch.branch});
  if (!is_new) return &it->second;
  const auto key_of = [&](std::int64_t step) {
    return keys::Timeline(branch.run_id, branch.stream, branch.branch, step);
  };
  constexpr std::int64_t kFirst = std::numeric_limits<std::int64_t>::min();
  it->second.sealed_end = kFirst;
  const std::string from = key_of(kFirst);
  const rocksdb::Slice lower(from);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower;
  options.snapshot = snapshot_;
  std::unique_ptr<rocksdb::Iterator> last(
      engine_->db()->NewIterator(options, engine_->windows()));
  last->SeekForPrev(key_of(std::numeric_limits<std::int64_t>::max()));
  if (!last->Valid()) {
    const absl::Status s = ToStatus(last->status(), kReading);
    if (!s.ok()) return s;
    return &it->second;
  }
  const auto view = TimelineView::Parse(View(last->value()));
  if (!view.ok()) return view.status();
  it->second.sealed_end = view->step(view->rows() - 1) + 1;
  return &it->second;
}

absl::Status StepScan::ScanOne(
    const BranchKey& branch, std::int64_t step,
    const std::function<bool(const StepRow&)>& visit) {
  const absl::StatusOr<Place*> found = PlaceOf(branch);
  if (!found.ok()) return found.status();
  Place& place = **found;
  if (step >= place.sealed_end) return ScanRow(branch, step, &place, visit);
  const auto holds = [step](const SealedWindow& window) {
    const TimelineView& view = window.timeline();
    return view.step(0) <= step && step <= view.step(view.rows() - 1);
  };
  if (place.window == nullptr || !holds(*place.window)) {
    auto window = SmallWindowAt(branch, step);
    if (!window.ok()) return window.status();
    place.window = *std::move(window);
  }
  if (place.window == nullptr) return Scan(branch, step, step + 1, visit);
  const std::uint32_t i = place.window->timeline().LowerBound(step);
  if (i < place.window->timeline().rows() &&
      place.window->timeline().step(i) == step) {
    visit(RowOf(branch, place.window, i));
  }
  return place.window->status();
}

absl::Status StepScan::ScanRow(
    const BranchKey& branch, std::int64_t step, Place* place,
    const std::function<bool(const StepRow&)>& visit) {
  const std::string wanted =
      keys::Row(branch.run_id, branch.stream, branch.branch, step);
  if (place->rows == nullptr) {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot_;
    place->rows.reset(engine_->db()->NewIterator(options, engine_->rows()));
  } else if (place->rows->Valid()) {
    place->rows->Next();
  }
  rocksdb::Iterator& it = *place->rows;
  if (!it.Valid() || View(it.key()) != wanted) it.Seek(wanted);
  if (!it.Valid()) return ToStatus(it.status(), kReading);
  if (View(it.key()) != wanted) return absl::OkStatus();
  return VisitRow(branch, it, visit).status();
}

absl::StatusOr<std::shared_ptr<SealedWindow>> StepScan::SmallWindowAt(
    const BranchKey& branch, std::int64_t step) {
  const auto key_of = [&](std::int64_t at) {
    return keys::Timeline(branch.run_id, branch.stream, branch.branch, at);
  };
  const std::string from = key_of(std::numeric_limits<std::int64_t>::min());
  const rocksdb::Slice lower(from);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower;
  options.snapshot = snapshot_;
  // In this order: what is taken in between is noticed.
  const std::uint64_t taken = engine_->taken();
  const auto rolled_up_end = rolled_up_end_(branch);
  if (!rolled_up_end.ok()) return rolled_up_end.status();
  std::unique_ptr<rocksdb::Iterator> it(
      engine_->db()->NewIterator(options, engine_->windows()));
  it->SeekForPrev(key_of(step));
  if (!it->Valid()) {
    const absl::Status s = ToStatus(it->status(), kReading);
    if (!s.ok()) return s;
    return nullptr;
  }
  const std::int64_t first_step = StepAtEnd(View(it->key()));
  auto opened = OpenWindow(engine_, branch,
                           {first_step, first_step < *rolled_up_end, taken},
                           std::string(View(it->value())), layout_of_);
  if (!opened.ok() || (*opened)->timeline().recorded() == 0) return opened;
  std::size_t values = 0;
  for (std::size_t role = 0; role < kRoleCount; ++role) {
    values += (*opened)->layout().places(static_cast<Role>(role));
  }
  values *= kWindowFields * (*opened)->timeline().recorded();
  if (values > kMostKept) return nullptr;
  return opened;
}

absl::StatusOr<bool> StepScan::VisitWindow(
    const BranchKey& branch, const WindowPlace& at, std::string_view timeline,
    std::int64_t begin, std::int64_t end,
    const std::function<bool(const StepRow&)>& visit) {
  auto opened =
      OpenWindow(engine_, branch, at, std::string(timeline), layout_of_);
  if (!opened.ok()) return opened.status();
  const TimelineView& view = (*opened)->timeline();
  const std::uint32_t from = view.LowerBound(begin);
  const std::uint32_t to = view.LowerBound(end);
  // One step alone costs less memory, and less time if it is an early one.
  if (to - from == 1 && view.roles(from) != 0) {
    (*opened)->KeepOnly(view.RecordedBefore(from));
  }
  for (std::uint32_t i = from; i < to; ++i) {
    if (!visit(RowOf(branch, *opened, i))) return false;
  }
  return true;
}

absl::Status StepScan::ScanRows(
    const BranchKey& branch, std::int64_t begin, const Rows& rows,
    const std::function<bool(const StepRow&)>& visit) {
  if (rows.it == nullptr) return absl::OkStatus();
  rocksdb::Iterator& it = *rows.it;
  const std::string from =
      keys::Row(branch.run_id, branch.stream, branch.branch, begin);
  for (it.Seek(from); it.Valid(); it.Next()) {
    if (it.key().size() != from.size()) return Damaged("row");
    const absl::StatusOr<bool> goes_on = VisitRow(branch, it, visit);
    if (!goes_on.ok() || !*goes_on) return goes_on.status();
  }
  return ToStatus(it.status(), kReading);
}

}  // namespace gradtap::server
