#include "server/store/window/timeline.h"

#include <algorithm>

#include "absl/status/status.h"
#include "server/store/bytes.h"

namespace gradtap::server {
namespace {

constexpr char kVersion = 1;

absl::Status Damaged() {
  return absl::DataLossError(
      "the data folder holds a damaged timeline; restore it from a copy");
}

template <typename ValueOf>
void AppendColumn(const std::vector<TimelineRow>& rows, const ValueOf& value_of,
                  std::string* out) {
  std::vector<std::int64_t> values;
  values.reserve(rows.size());
  for (const TimelineRow& row : rows) {
    values.push_back(static_cast<std::int64_t>(value_of(row)));
  }
  AppendLinearColumn(values, out);
}

}  // namespace

std::string EncodeTimeline(std::uint32_t schema_id, const RoleFields& fields,
                           const std::vector<TimelineRow>& rows,
                           const std::vector<std::string_view>& scalars) {
  std::string out(1, kVersion);
  PutU32(schema_id, &out);
  PutU32(static_cast<std::uint32_t>(rows.size()), &out);
  PutU32(static_cast<std::uint32_t>(
             std::count_if(rows.begin(), rows.end(),
                           [](const auto& row) { return row.roles != 0; })),
         &out);
  for (const FieldSet set : fields) {
    out.push_back(static_cast<char>(set >> 8));
    out.push_back(static_cast<char>(set));
  }
  AppendColumn(
      rows, [](const auto& row) { return row.step; }, &out);
  AppendColumn(
      rows, [](const auto& row) { return row.wall_time_unix_ns; }, &out);
  AppendColumn(
      rows, [](const auto& row) { return row.ordinal; }, &out);
  AppendColumn(
      rows, [](const auto& row) { return row.interval_steps; }, &out);
  AppendColumn(
      rows, [](const auto& row) { return row.skipped; }, &out);
  AppendColumn(
      rows, [](const auto& row) { return row.roles; }, &out);
  std::string details;
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].detail.empty()) continue;
    ++count;
    PutVarint(i, &details);
    PutString(rows[i].detail, &details);
  }
  PutVarint(count, &out);
  out.append(details);
  PutVarint(scalars.size(), &out);
  for (const std::string_view name : scalars) PutString(name, &out);
  return out;
}

absl::StatusOr<TimelineView> TimelineView::Parse(std::string_view bytes) {
  if (bytes.empty() || bytes[0] != kVersion) return Damaged();
  ByteReader head(bytes.substr(1));
  TimelineView view;
  view.schema_id_ = head.U32();
  const std::uint32_t rows = head.U32();
  view.recorded_ = head.U32();
  if (!head.ok() || rows == 0 || rows > kMaxWindowRows ||
      view.recorded_ > rows) {
    return Damaged();
  }
  std::string_view rest = head.rest();
  if (rest.size() < 2 * view.fields_.size()) return Damaged();
  for (FieldSet& set : view.fields_) {
    set = static_cast<FieldSet>(static_cast<unsigned char>(rest[0]) << 8 |
                                static_cast<unsigned char>(rest[1]));
    rest.remove_prefix(2);
  }
  for (LinearColumn* column : {&view.steps_, &view.times_, &view.ordinals_,
                               &view.intervals_, &view.causes_, &view.roles_}) {
    if (!LinearColumn::Take(&rest, rows, column)) return Damaged();
  }
  ByteReader details(rest);
  const std::uint64_t count = details.Varint();
  for (std::uint64_t i = 0; i < count && details.ok(); ++i) {
    if (details.Varint32() >= rows) return Damaged();
    details.String();
  }
  if (!details.ok()) return Damaged();
  view.details_ = rest.substr(0, rest.size() - details.rest().size());
  view.names_ = details.rest();
  if (view.all_recorded()) return view;
  for (std::uint32_t row = 0; row < rows; ++row) {
    if (view.roles(row) != 0) view.row_of_.push_back(row);
  }
  if (view.row_of_.size() != view.recorded_) return Damaged();
  return view;
}

std::string_view TimelineView::detail(std::uint32_t row) const {
  ByteReader reader(details_);
  for (std::uint64_t left = reader.Varint(); left > 0; --left) {
    const std::uint32_t at = reader.Varint32();
    const std::string_view text = reader.String();
    if (at == row) return text;
  }
  return {};
}

std::vector<std::string_view> TimelineView::ScalarNames() const {
  std::vector<std::string_view> names;
  ByteReader reader(names_);
  const std::uint64_t count = reader.Varint();
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    names.push_back(reader.String());
  }
  if (!reader.ok()) names.clear();
  return names;
}

std::uint32_t TimelineView::LowerBound(std::int64_t step) const {
  std::uint32_t begin = 0;
  std::uint32_t end = rows();
  while (begin < end) {
    const std::uint32_t middle = begin + (end - begin) / 2;
    if (this->step(middle) < step) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

std::uint32_t TimelineView::RecordedBefore(std::uint32_t row) const {
  if (all_recorded()) return row;
  return static_cast<std::uint32_t>(
      std::lower_bound(row_of_.begin(), row_of_.end(), row) - row_of_.begin());
}

std::uint32_t TimelineView::RowOfRecorded(std::uint32_t place) const {
  return all_recorded() ? place : row_of_[place];
}

}  // namespace gradtap::server
