#include "server/store/step_scan.h"

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

}  // namespace

absl::Status StepScan::Scan(const BranchKey& branch, std::int64_t begin,
                            std::int64_t end,
                            const std::function<bool(const StepRow&)>& visit) {
  if (begin >= end) return absl::OkStatus();
  std::int64_t next = begin;
  const absl::Status s = ScanWindows(branch, begin, end, &next, visit);
  if (!s.ok() || next >= end) return s;
  return ScanRows(branch, next, end, visit);
}

absl::Status StepScan::ScanWindows(
    const BranchKey& branch, std::int64_t begin, std::int64_t end,
    std::int64_t* next, const std::function<bool(const StepRow&)>& visit) {
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
  const std::int64_t rolled_up_end = rolled_up_end_(branch);
  std::unique_ptr<rocksdb::Iterator> it(
      engine_->db()->NewIterator(options, engine_->windows()));
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
          VisitWindow(branch, {first_step, first_step < rolled_up_end, taken},
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
    StepRow row;
    row.stream = branch.stream;
    row.branch = branch.branch;
    row.step = view.step(i);
    row.ordinal = view.ordinal(i);
    row.window = *opened;
    row.window_row = i;
    if (!visit(row)) return false;
  }
  return true;
}

absl::Status StepScan::ScanRows(
    const BranchKey& branch, std::int64_t begin, std::int64_t end,
    const std::function<bool(const StepRow&)>& visit) {
  const std::string from =
      keys::Row(branch.run_id, branch.stream, branch.branch, begin);
  const std::string to =
      keys::Row(branch.run_id, branch.stream, branch.branch, end);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  options.snapshot = snapshot_;
  std::unique_ptr<rocksdb::Iterator> it(
      engine_->db()->NewIterator(options, engine_->rows()));
  for (it->Seek(from); it->Valid(); it->Next()) {
    StepRow row;
    row.stream = branch.stream;
    row.branch = branch.branch;
    row.step = StepAtEnd(View(it->key()));
    ByteReader reader(View(it->value()));
    row.ordinal = reader.U64();
    row.body = reader.rest();
    if (it->key().size() != from.size() || !reader.ok()) return Damaged("row");
    if (!visit(row)) return absl::OkStatus();
  }
  return ToStatus(it->status(), kReading);
}

}  // namespace gradtap::server
