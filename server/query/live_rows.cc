#include "server/query/live_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::server {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;

// A tag below 16 takes one byte, a length at most five.
constexpr std::size_t kTagAndLength = 6;

constexpr std::uint32_t BytesTag(int field) {
  return WireFormatLite::MakeTag(field,
                                 WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}

void AppendVarint(std::uint32_t value, std::string* out) {
  std::uint8_t bytes[5];
  const std::uint8_t* end =
      CodedOutputStream::WriteVarint32ToArray(value, bytes);
  out->append(reinterpret_cast<const char*>(bytes),
              static_cast<std::size_t>(end - bytes));
}

// A sparse column, read at rising places.
class CountReader {
 public:
  explicit CountReader(const StepView::Counts* counts) : counts_(counts) {}

  std::uint64_t At(std::uint32_t place) {
    while (next_ < counts_->place.size() && counts_->place[next_] < place) {
      ++next_;
    }
    return next_ < counts_->place.size() && counts_->place[next_] == place
               ? counts_->count[next_]
               : 0;
  }

 private:
  const StepView::Counts* counts_;
  std::size_t next_ = 0;
};

// The records of one role, read at rising places; one at a time.
class RoleReader {
 public:
  explicit RoleReader(const StepView::Columns* columns)
      : columns_(columns),
        zero_(&columns->zero),
        nan_(&columns->nan),
        pos_inf_(&columns->pos_inf),
        neg_inf_(&columns->neg_inf) {}

  // False: it is absent, or missing.
  bool Read(std::int32_t place, std::uint64_t numel) {
    numel_ = numel;
    has_l2_ = false;
    if (place < 0 || static_cast<std::uint32_t>(place) >= columns_->size) {
      return present_ = false;
    }
    const auto at = static_cast<std::uint32_t>(place);
    present_ = !columns_->IsAbsent(at);
    if (!present_) return false;
    const auto get = [at](std::string_view column, float* value) {
      std::memcpy(value, column.data() + std::size_t{4} * at, 4);
    };
    get(columns_->mean, &record_.mean);
    get(columns_->std, &record_.std);
    get(columns_->abs_mean, &record_.abs_mean);
    get(columns_->min, &record_.min);
    get(columns_->max, &record_.max);
    record_.zero = zero_.At(at);
    record_.nan = nan_.At(at);
    record_.pos_inf = pos_inf_.At(at);
    record_.neg_inf = neg_inf_.At(at);
    return true;
  }

  bool present() const { return present_; }
  double Get(Field field) {
    if (field != Field::kL2) return Derive(field, record_, numel_);
    if (!has_l2_) l2_ = Derive(field, record_, numel_);
    has_l2_ = true;
    return l2_;
  }

 private:
  const StepView::Columns* columns_;
  CountReader zero_, nan_, pos_inf_, neg_inf_;
  Record record_;
  std::uint64_t numel_ = 0;
  bool present_ = false;
  bool has_l2_ = false;
  double l2_ = 0;
};

// Of the roles that are asked for; one that the step lacks is missing
// throughout.
class RecordReader {
 public:
  RecordReader(const StepView& step, const std::vector<Role>& roles) {
    of_role_.fill(nullptr);
    readers_.reserve(roles.size());
    for (const Role role : roles) {
      const StepView::Columns* columns = step.Find(role);
      if (columns == nullptr) continue;
      roles_.push_back(role);
      readers_.emplace_back(columns);
      of_role_[static_cast<std::size_t>(role)] = &readers_.back();
    }
  }

  void Read(const Places& places) {
    for (std::size_t i = 0; i < roles_.size(); ++i) {
      readers_[i].Read(places.at(roles_[i]), places.numel);
    }
  }

  // False: absent or missing.
  bool Get(const Statistic& statistic, double* value) {
    RoleReader* own = Of(statistic.role);
    if (own == nullptr) return false;
    if (statistic.field != Field::kRatio) {
      *value = own->Get(statistic.field);
      return true;
    }
    RoleReader* weight = Of(Role::kWeight);
    if (weight == nullptr) return false;
    *value = own->Get(Field::kL2) / weight->Get(Field::kL2);
    return true;
  }

 private:
  RoleReader* Of(Role role) {
    RoleReader* reader = of_role_[static_cast<std::size_t>(role)];
    return reader != nullptr && reader->present() ? reader : nullptr;
  }

  std::vector<Role> roles_;
  std::vector<RoleReader> readers_;  // Of roles_; they stay where they are.
  std::array<RoleReader*, kRoleCount> of_role_;
};

std::vector<Role> RolesOf(const std::vector<Statistic>& statistics) {
  std::vector<Role> roles;
  const auto add = [&roles](Role role) {
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) {
      roles.push_back(role);
    }
  };
  for (const Statistic& statistic : statistics) {
    add(statistic.role);
    if (statistic.field == Field::kRatio) add(Role::kWeight);
  }
  return roles;
}

}  // namespace

bool LiveRows::Suits(const SnapshotSelection& selection) {
  return std::none_of(selection.statistics.records.begin(),
                      selection.statistics.records.end(),
                      [](const Statistic& statistic) {
                        return statistic.field == Field::kQuantile;
                      });
}

LiveRows::LiveRows(std::shared_ptr<const SchemaIndex> index,
                   const SnapshotSelection& selection)
    : index_(std::move(index)),
      statistics_(selection.statistics.records),
      roles_(RolesOf(statistics_)) {
  const std::vector<Parameter>& parameters = index_->schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!selection.match.Matches(parameters[i].name)) continue;
    RowHead row{i, heads_.size(), 0};
    v1::SnapshotRow head;
    head.set_parameter(parameters[i].name);
    head.set_kind(static_cast<v1::Kind>(parameters[i].kind));
    head.AppendToString(&heads_);
    AppendVarint(BytesTag(v1::SnapshotRow::kValueFieldNumber), &heads_);
    AppendVarint(static_cast<std::uint32_t>(8 * statistics_.size()), &heads_);
    row.bytes = heads_.size() - row.begin;
    rows_.push_back(row);
  }
}

std::string LiveRows::Encode(const StepView& step, std::string* scratch) const {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::size_t values = statistics_.size();
  RecordReader records(step, roles_);
  // Indexes of what is absent take a byte each: there are at most 64.
  static_assert(kMaxStatistics <= 128);
  std::array<std::uint8_t, kMaxStatistics> absent;
  const std::size_t most =
      heads_.size() + rows_.size() * (2 * kTagAndLength + (8 + 1) * values);
  if (scratch->size() < most) scratch->resize(most);
  auto* const begin = reinterpret_cast<std::uint8_t*>(scratch->data());
  std::uint8_t* out = begin;
  std::array<double, kMaxStatistics> value;
  for (const RowHead& row : rows_) {
    records.Read(index_->places()[row.parameter]);
    std::uint32_t absents = 0;
    for (std::size_t s = 0; s < values; ++s) {
      if (records.Get(statistics_[s], &value[s])) continue;
      value[s] = kNan;
      absent[absents++] = static_cast<std::uint8_t>(s);
    }
    const std::size_t absent_bytes = absents == 0 ? 0 : 2 + absents;
    out = CodedOutputStream::WriteTagToArray(
        BytesTag(v1::GetSnapshotResponse::kRowsFieldNumber), out);
    out = CodedOutputStream::WriteVarint32ToArray(
        static_cast<std::uint32_t>(row.bytes + 8 * values + absent_bytes), out);
    const auto append = [&out](const void* from, std::size_t n) {
      std::memcpy(out, from, n);
      out += n;
    };
    append(heads_.data() + row.begin, row.bytes);
    append(value.data(), 8 * values);
    if (absents == 0) continue;
    out = CodedOutputStream::WriteTagToArray(
        BytesTag(v1::SnapshotRow::kAbsentFieldNumber), out);
    out = CodedOutputStream::WriteVarint32ToArray(absents, out);
    append(absent.data(), absents);
  }
  return scratch->substr(0, static_cast<std::size_t>(out - begin));
}

}  // namespace gradtap::server
