// Steps, from bytes that nobody has checked.

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "core/codec.h"
#include "core/codec_check.h"
#include "core/codec_sparse.h"
#include "core/limits.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using codec::FitsUint32;
using codec::Malformed;
using wire::Reader;
using wire::Type;

std::string_view ColumnName(std::uint32_t number) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "",    "role", "size", "absent", "mean",    "std",    "abs_mean",
      "min", "max",  "zero", "nan",    "pos_inf", "neg_inf"};
  return kNames[number];
}

absl::Status BadColumn(std::uint32_t number, std::string_view what) {
  return Malformed(
      absl::StrCat("RoleColumns: ", std::string(ColumnName(number))), what);
}

// One RoleColumns message while it is read: fields may come in any order, so
// what depends on `size` waits for the end.
struct ColumnsReader {
  StepView::Columns* out;
  std::array<std::string_view, 13> bytes;  // By field number.
  std::array<bool, 13> seen{};

  std::string_view* FloatColumn(std::uint32_t number) const {
    switch (number) {
      case wire::columns::kMean:
        return &out->mean;
      case wire::columns::kStd:
        return &out->std;
      case wire::columns::kAbsMean:
        return &out->abs_mean;
      case wire::columns::kMin:
        return &out->min;
      default:
        return &out->max;
    }
  }
  StepView::Counts* CountColumn(std::uint32_t number) const {
    switch (number) {
      case wire::columns::kZero:
        return &out->zero;
      case wire::columns::kNan:
        return &out->nan;
      case wire::columns::kPosInf:
        return &out->pos_inf;
      default:
        return &out->neg_inf;
    }
  }

  absl::Status Read(std::string_view body);
  absl::Status Collect(const Reader& reader);
  absl::Status CheckAbsent() const;
};

absl::Status ColumnsReader::Collect(const Reader& reader) {
  namespace field = wire::columns;
  const std::uint32_t number = reader.number();
  if (reader.Is(field::kRole, Type::kVarint)) {
    out->role = codec::RoleOf(reader.value());
  } else if (reader.Is(field::kSize, Type::kVarint)) {
    if (!FitsUint32(reader.value())) {
      return BadColumn(number, "exceeds 32 bits");
    }
    out->size = static_cast<std::uint32_t>(reader.value());
  } else if (number >= field::kMean && number <= field::kMax &&
             reader.type() == Type::kFixed32) {
    return BadColumn(number, "is not packed");
  } else if (number >= field::kAbsent && number <= field::kNegInf &&
             reader.type() == Type::kBytes) {
    if (seen[number]) return BadColumn(number, "comes in several pieces");
    seen[number] = true;
    bytes[number] = reader.bytes();
  }
  return absl::OkStatus();
}

absl::Status ColumnsReader::CheckAbsent() const {
  const std::string_view absent = out->absent;
  if (absent.empty()) return absl::OkStatus();
  const std::size_t wanted = (std::size_t{out->size} + 7) / 8;
  if (absent.size() != wanted) {
    return BadColumn(wire::columns::kAbsent,
                     absl::StrCat("has ", absent.size(), " bytes for ",
                                  out->size, " places"));
  }
  const unsigned used = out->size % 8;
  if (used != 0 && (static_cast<unsigned char>(absent.back()) >> used) != 0) {
    return BadColumn(wire::columns::kAbsent, "has bits beyond the last place");
  }
  return absl::OkStatus();
}

absl::Status ColumnsReader::Read(std::string_view body) {
  namespace field = wire::columns;
  Reader reader(body);
  while (reader.Next()) {
    const absl::Status status = Collect(reader);
    if (!status.ok()) return status;
  }
  if (!reader.ok()) return Malformed("RoleColumns", reader.error());
  if (out->role == Role::kUnspecified) {
    return Malformed("RoleColumns", "its role is missing or unknown");
  }
  for (std::uint32_t number = field::kMean; number <= field::kMax; ++number) {
    if (bytes[number].size() != std::uint64_t{out->size} * sizeof(float)) {
      return BadColumn(number,
                       absl::StrCat("has ", bytes[number].size(), " bytes for ",
                                    out->size, " places"));
    }
    *FloatColumn(number) = bytes[number];
  }
  out->absent = bytes[field::kAbsent];
  absl::Status status = CheckAbsent();
  for (std::uint32_t number = field::kZero;
       number <= field::kNegInf && status.ok(); ++number) {
    if (bytes[number].empty()) continue;
    status = codec::ReadSparse(ColumnName(number), bytes[number], out->size,
                               CountColumn(number));
  }
  return status;
}

absl::Status ReadScalar(std::string_view body, StepView::ScalarView* out) {
  namespace field = wire::scalar;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kName, Type::kBytes)) {
      out->name = reader.bytes();
    } else if (reader.Is(field::kValue, Type::kFixed64)) {
      out->value = std::bit_cast<double>(reader.value());
    }
  }
  if (!reader.ok()) return Malformed("Scalar", reader.error());
  if (out->name.empty()) return Malformed("Scalar", "has no name");
  const std::string_view error = codec::TextError(out->name);
  if (!error.empty()) return Malformed("Scalar: its name", error);
  return absl::OkStatus();
}

absl::Status CheckUnique(const std::vector<StepView::ScalarView>& scalars) {
  std::vector<std::string_view> names;
  names.reserve(scalars.size());
  for (const StepView::ScalarView& scalar : scalars) {
    names.push_back(scalar.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return Malformed("Step", absl::StrCat("has the scalar '",
                                        EscapeForTerminal(*twice), "' twice"));
}

// No step has the histogram of a place twice: it would count twice.
absl::Status CheckHistograms(const StepView& view) {
  std::vector<std::pair<Role, std::uint32_t>> places;
  places.reserve(view.histograms().size());
  for (const StepView::HistogramView& histogram : view.histograms()) {
    const StepView::Columns* columns = view.Find(histogram.role);
    if (columns == nullptr || histogram.place >= columns->size) {
      return Malformed("Histogram",
                       absl::StrCat("is of place ", histogram.place,
                                    ", which the step's columns lack"));
    }
    places.emplace_back(histogram.role, histogram.place);
  }
  if (!std::is_sorted(places.begin(), places.end())) {
    std::sort(places.begin(), places.end());
  }
  const auto twice = std::adjacent_find(places.begin(), places.end());
  if (twice == places.end()) return absl::OkStatus();
  return Malformed("Step", absl::StrCat("has the histogram of place ",
                                        twice->second, " twice"));
}

float FloatAt(std::string_view column, std::uint32_t place) {
  float value;
  std::memcpy(&value, column.data() + std::size_t{place} * sizeof(float),
              sizeof(float));
  return value;
}

}  // namespace

std::uint64_t StepView::Counts::At(std::uint32_t p) const {
  const auto it = std::lower_bound(place.begin(), place.end(), p);
  if (it == place.end() || *it != p) return 0;
  return count[static_cast<std::size_t>(it - place.begin())];
}

Record StepView::Columns::Get(std::uint32_t place) const {
  Record r;
  r.mean = FloatAt(mean, place);
  r.std = FloatAt(std, place);
  r.abs_mean = FloatAt(abs_mean, place);
  r.min = FloatAt(min, place);
  r.max = FloatAt(max, place);
  r.zero = zero.At(place);
  r.nan = nan.At(place);
  r.pos_inf = pos_inf.At(place);
  r.neg_inf = neg_inf.At(place);
  return r;
}

const StepView::Columns* StepView::Find(Role role) const {
  for (const Columns& columns : columns_) {
    if (columns.role == role) return &columns;
  }
  return nullptr;
}

absl::Status StepView::ReadField(const wire::Reader& reader) {
  namespace field = wire::step;
  if (reader.Is(field::kStep, Type::kVarint)) {
    step_ = static_cast<std::int64_t>(reader.value());
  } else if (reader.Is(field::kWallTime, Type::kFixed64)) {
    wall_time_unix_ns_ = static_cast<std::int64_t>(reader.value());
  } else if (reader.Is(field::kSchemaId, Type::kVarint) ||
             reader.Is(field::kIntervalSteps, Type::kVarint)) {
    if (!FitsUint32(reader.value())) {
      return Malformed("Step", "its schema or interval exceeds 32 bits");
    }
    (reader.number() == field::kSchemaId ? schema_id_ : interval_steps_) =
        static_cast<std::uint32_t>(reader.value());
  } else if (reader.Is(field::kSkipped, Type::kVarint)) {
    skipped_ = codec::GapCauseOf(reader.value());
  } else if (reader.Is(field::kSkippedDetail, Type::kBytes)) {
    skipped_detail_ = reader.bytes();
    const std::string_view error = codec::TextError(skipped_detail_);
    if (!error.empty()) return Malformed("Step: skipped_detail", error);
  } else if (reader.Is(field::kHistograms, Type::kBytes)) {
    // Counted before it is kept: two bytes of a peer's would take sixteen.
    if (histograms_.size() == kMaxStepHistograms) {
      return Malformed("Step", "has more than 1,000,000 histograms");
    }
    const absl::StatusOr<HistogramData> one =
        codec::ReadHistogram(reader.bytes());
    if (!one.ok()) return one.status();
    histograms_.push_back({one->role, one->place, reader.bytes()});
  } else if (reader.Is(field::kScalars, Type::kBytes)) {
    if (scalars_.size() == kMaxStepScalars) {
      return Malformed("Step", "has more than 1,024 scalars");
    }
    return ReadScalar(reader.bytes(), &scalars_.emplace_back());
  } else if (reader.Is(field::kRoles, Type::kBytes)) {
    // Read in place: a small step is mostly this. More roles than there are end
    // with one that comes twice.
    columns_.reserve(kRoleCount);
    Columns& columns = columns_.emplace_back();
    ColumnsReader columns_reader{&columns, {}, {}};
    const absl::Status status = columns_reader.Read(reader.bytes());
    if (!status.ok()) return status;
    if (Find(columns.role) != &columns) {
      return Malformed("Step", "has a role twice");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StepView> StepView::Parse(std::string_view body) {
  StepView view;
  if (absl::Status s = view.Reparse(body); !s.ok()) return s;
  return view;
}

absl::Status StepView::Reparse(std::string_view body) {
  step_ = 0;
  wall_time_unix_ns_ = 0;
  schema_id_ = 0;
  interval_steps_ = 0;
  skipped_ = GapCause::kUnspecified;
  skipped_detail_ = {};
  columns_.clear();
  scalars_.clear();
  histograms_.clear();
  wire::Reader reader(body);
  while (reader.Next()) {
    absl::Status status = ReadField(reader);
    if (!status.ok()) return status;
  }
  if (!reader.ok()) return Malformed("Step", reader.error());
  if (skipped_ != GapCause::kUnspecified && !columns_.empty()) {
    return Malformed("Step", "is skipped but has columns");
  }
  absl::Status status = CheckUnique(scalars_);
  if (status.ok()) status = CheckHistograms(*this);
  return status;
}

std::vector<HistogramData> StepView::DecodeHistograms() const {
  std::vector<HistogramData> all;
  all.reserve(histograms_.size());
  for (const HistogramView& view : histograms_) {
    absl::StatusOr<HistogramData> one = codec::ReadHistogram(view.body);
    if (one.ok()) all.push_back(*std::move(one));  // Parse() has checked it.
  }
  return all;
}

StepData ToStepData(const StepView& view) {
  StepData data;
  data.step = view.step();
  data.wall_time_unix_ns = view.wall_time_unix_ns();
  data.schema_id = view.schema_id();
  data.interval_steps = view.interval_steps();
  data.skipped = view.skipped();
  data.skipped_detail = std::string(view.skipped_detail());
  for (const StepView::Columns& columns : view.columns()) {
    RoleColumns& out = data.roles.emplace_back();
    out.role = columns.role;
    out.Resize(columns.size);
    for (std::uint32_t i = 0; i < columns.size; ++i) {
      out.Set(i, columns.Get(i));
      out.absent[i] = columns.IsAbsent(i) ? 1 : 0;
    }
  }
  for (const StepView::ScalarView& scalar : view.scalars()) {
    data.scalars.push_back({std::string(scalar.name), scalar.value});
  }
  data.histograms = view.DecodeHistograms();
  return data;
}

}  // namespace gradtap
