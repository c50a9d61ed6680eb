// One step as stored, wherever its values are: in a row as it came, or in the
// columns of a sealed window.
//
// Layer: server/store. This file: std, absl, core. One thread at a time; steps
// of one window share what they decode, and belong to one thread together.

#ifndef GRADTAP_SERVER_STORE_STORED_STEP_H_
#define GRADTAP_SERVER_STORE_STORED_STEP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/record.h"
#include "core/statistic.h"
#include "core/step_data.h"
#include "server/store/store.h"
#include "server/store/window/sealed_window.h"

namespace gradtap::server {

// The fields of a record that a statistic is derived from, those that tell its
// finite elements among them.
FieldSet FieldsOf(Field field);

class StoredStep {
 public:
  // kInvalidArgument if `body` is not a gradtap.v1.Step.
  static absl::StatusOr<std::shared_ptr<const StoredStep>> OfRow(
      std::string body, std::uint64_t ordinal);
  // The same of a body that `owner` owns, without a copy. Any threads may use
  // it at once.
  static absl::StatusOr<std::shared_ptr<const StoredStep>> OfSharedRow(
      std::shared_ptr<const void> owner, std::string_view body,
      std::uint64_t ordinal);
  // `row` is below the window's rows().
  static std::shared_ptr<const StoredStep> OfWindow(
      std::shared_ptr<SealedWindow> window, std::uint32_t row);
  virtual ~StoredStep() = default;

  std::int64_t step() const { return step_; }
  std::int64_t wall_time_unix_ns() const { return wall_time_unix_ns_; }
  std::uint64_t ordinal() const { return ordinal_; }
  std::uint32_t schema_id() const { return schema_id_; }
  std::uint32_t interval_steps() const { return interval_steps_; }
  GapCause skipped() const { return skipped_; }
  // For people; empty unless the step was skipped and a reason was given.
  std::string_view skipped_detail() const { return skipped_detail_; }

  // Whether it has columns at all, and of a role.
  bool has_columns() const { return roles_ != 0; }
  bool HasRole(Role role) const { return (roles_ & BitOf(role)) != 0; }

  enum class Presence : std::uint8_t { kValue, kAbsent, kMissing };
  // False: no element of any tensor of the role was NaN or infinite.
  virtual bool MayHaveNonfinite(Role role) const = 0;
  // The record at a place of a role's columns; `*record` has the fields asked
  // for, and maybe others. Missing: the step has no such column or place, or
  // status() says why.
  virtual Presence Read(Role role, std::int64_t place, FieldSet fields,
                        Record* record) const = 0;

  // In any order, each name once; those that `wanted` passes, which is asked
  // for names that other steps near by have as well. Null: all.
  virtual void ForEachScalar(
      const std::function<bool(std::string_view name)>& wanted,
      const std::function<void(std::string_view name, double value)>& visit)
      const = 0;

  // The first error of any call: look at it once the step has been used.
  virtual absl::Status status() const { return absl::OkStatus(); }
  // What all that was read for it, and for others of its window, took.
  virtual std::uint64_t bytes_read() const = 0;

  // The sealed window that it is of; null: it is a row.
  virtual const SealedWindow* window() const { return nullptr; }
  bool in_window() const { return window() != nullptr; }
  // The row as it was committed. Null: it is not one.
  virtual const StepView* row_view() const { return nullptr; }
  // The same step of `copy`, a clone of its window, which another thread may
  // use beside this one. Null: it is a row, which any threads may use at once.
  virtual std::shared_ptr<const StoredStep> In(
      std::shared_ptr<SealedWindow> copy) const {
    static_cast<void>(copy);
    return nullptr;
  }

  // Histograms that are in the row itself, as in data folders of format 1; most
  // often empty.
  virtual std::vector<HistogramData> HistogramsInside() const { return {}; }
  virtual bool has_histograms_inside() const { return false; }

 protected:
  StoredStep() = default;

  std::int64_t step_ = 0;
  std::int64_t wall_time_unix_ns_ = 0;
  std::uint64_t ordinal_ = 0;
  std::uint32_t schema_id_ = 0;
  std::uint32_t interval_steps_ = 0;
  GapCause skipped_ = GapCause::kUnspecified;
  std::string_view skipped_detail_;
  RoleSet roles_ = 0;
};

// What a scan of the store has visited.
absl::StatusOr<std::shared_ptr<const StoredStep>> OpenStep(const StepRow& row);

// All of a step but its histograms, as plain data. `layout` is of its schema.
absl::StatusOr<StepData> ToStepData(const StoredStep& step,
                                    const TileLayout& layout);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_STORED_STEP_H_
