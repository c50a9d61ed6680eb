#include "server/store/window/block_writer.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "server/store/rollup/block.h"
#include "server/store/tile/siblings.h"

namespace gradtap::server {
namespace {

constexpr int kStd = 1;  // Of RoleValues::floats.

template <typename T>
void CopyRow(const TileBlock<T>& from, std::uint32_t row, std::uint32_t to_row,
             TileBlock<T>* to) {
  std::copy_n(from.values.begin() + std::ptrdiff_t{row} * from.steps,
              from.steps,
              to->values.begin() + std::ptrdiff_t{to_row} * to->steps);
  if (from.present.empty()) return;
  std::copy_n(from.present.begin() + std::ptrdiff_t{row} * from.steps,
              from.steps,
              to->present.begin() + std::ptrdiff_t{to_row} * to->steps);
}

RecordColumns ColumnsOf(const RoleValues& values,
                        std::span<const std::uint64_t> numel) {
  RecordColumns columns;
  columns.mean = &values.floats[0];
  columns.std = &values.floats[1];
  columns.abs_mean = &values.floats[2];
  columns.min = &values.floats[3];
  columns.max = &values.floats[4];
  const auto count = [&](int i) {
    return values.counted[i] ? &values.counts[i] : nullptr;
  };
  columns.nan = count(1);
  columns.pos_inf = count(2);
  columns.neg_inf = count(3);
  columns.numel = numel;
  return columns;
}

}  // namespace

absl::Status BlockWriter::Write(const TileLayout& layout,
                                const BlockValues& values, WindowSink* sink,
                                RoleFields* fields) {
  fields_ = fields;
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    if (!values.of(role).any) continue;
    absl::Status s = WriteFloats(layout, values, role, sink);
    if (s.ok()) s = WriteCounts(values, role, sink);
    if (s.ok()) s = WriteRollups(layout, values, role, sink);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status BlockWriter::WriteRollupsOnly(const TileLayout& layout,
                                           const BlockValues& values,
                                           WindowSink* sink) {
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    if (!values.of(role).any) continue;
    const absl::Status s = WriteRollups(layout, values, role, sink);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status BlockWriter::Put(const TileKey& key,
                              absl::StatusOr<std::string> tile,
                              WindowSink* sink) {
  if (!tile.ok()) return tile.status();
  (*fields_)[static_cast<std::size_t>(key.role)] |= BitOf(key.field);
  return sink->PutTile(key, *tile);
}

void BlockWriter::AlignUpdate(const TileLayout& layout,
                              const BlockValues& values) {
  const FloatBlock& mean = values.of(Role::kUpdate).of(WindowField::kMean);
  const FloatBlock& weight = values.of(Role::kWeight).of(WindowField::kMean);
  const std::uint32_t first = layout.FirstPlace(Role::kWeight, values.block);
  increment_.parameters = weight.parameters;
  increment_.steps = weight.steps;
  increment_.values.assign(weight.size(), 0.0F);
  for (std::uint32_t p = 0; p < weight.parameters; ++p) {
    const std::int64_t place =
        layout.PlaceIn(Role::kUpdate, Role::kWeight, first + p);
    if (place < 0) continue;
    const std::uint32_t row =
        layout.RowOf(Role::kUpdate, static_cast<std::uint32_t>(place));
    std::copy_n(mean.values.begin() + std::ptrdiff_t{row} * mean.steps,
                mean.steps,
                increment_.values.begin() + std::ptrdiff_t{p} * mean.steps);
  }
}

absl::Status BlockWriter::WriteFloats(const TileLayout& layout,
                                      const BlockValues& values, Role role,
                                      WindowSink* sink) {
  const RoleValues& of = values.of(role);
  const bool increment = role == Role::kWeight && values.of(Role::kUpdate).any;
  if (increment) AlignUpdate(layout, values);
  for (int field = 0; field < kFloatFields; ++field) {
    const TileSiblings siblings =
        SiblingsOf(role, static_cast<TileField>(FloatField(field)));
    TileReferences references;
    if (siblings.std_as_scale) references.scale = &of.floats[kStd];
    if (siblings.mean_as_twin) references.twin = &of.floats[0];
    if (siblings.update_as_increment && increment) {
      references.increment = &increment_;
    }
    const absl::Status s =
        Put({role, FloatField(field), values.block},
            encoder_.EncodeFloats(of.floats[field], references), sink);
    if (!s.ok()) return s;
  }
  const std::vector<std::uint8_t>& present = of.floats[0].present;
  if (present.empty()) return absl::OkStatus();
  presence_.parameters = of.floats[0].parameters;
  presence_.steps = of.floats[0].steps;
  presence_.values.assign(present.begin(), present.end());
  return Put({role, WindowField::kPresence, values.block},
             encoder_.EncodeCounts(presence_), sink);
}

absl::Status BlockWriter::WriteCounts(const BlockValues& values, Role role,
                                      WindowSink* sink) {
  const RoleValues& of = values.of(role);
  for (int field = 0; field < kCountFields; ++field) {
    if (!of.counted[field]) continue;
    const absl::Status s = Put({role, CountField(field), values.block},
                               encoder_.EncodeCounts(of.counts[field]), sink);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

// ---- Roll-ups. ----

const RoleValues* BlockWriter::AlignWeight(const TileLayout& layout,
                                           const BlockValues& values,
                                           Role role) {
  const RoleValues& weight = values.of(Role::kWeight);
  if (!weight.any) return nullptr;
  const std::uint32_t rows = values.of(role).floats[0].parameters;
  const std::uint32_t first = layout.FirstPlace(role, values.block);
  std::vector<std::uint32_t> from(rows);
  bool same = rows == weight.floats[0].parameters;
  for (std::uint32_t p = 0; p < rows; ++p) {
    const std::int64_t place = layout.PlaceIn(Role::kWeight, role, first + p);
    if (place < 0) return nullptr;
    from[p] = layout.RowOf(Role::kWeight, static_cast<std::uint32_t>(place));
    same &= from[p] == p;
  }
  if (same) return &weight;
  const auto shape = [&](const auto& of, auto* to) {
    to->parameters = rows;
    to->steps = of.steps;
    to->values.resize(to->size());
    to->present.resize(of.present.empty() ? 0 : to->size());
    for (std::uint32_t p = 0; p < rows; ++p) CopyRow(of, from[p], p, to);
  };
  for (int i = 0; i < kFloatFields; ++i) {
    shape(weight.floats[i], &weights_.floats[i]);
  }
  weights_.counted = weight.counted;
  for (int i = 0; i < kCountFields; ++i) {
    if (weight.counted[i]) shape(weight.counts[i], &weights_.counts[i]);
  }
  return &weights_;
}

absl::Status BlockWriter::WriteRollups(const TileLayout& layout,
                                       const BlockValues& values, Role role,
                                       WindowSink* sink) {
  const RoleValues& of = values.of(role);
  const std::uint32_t rows = of.floats[0].parameters;
  const std::uint32_t first = layout.FirstPlace(role, values.block);
  numel_.clear();
  for (std::uint32_t p = 0; p < rows; ++p) {
    numel_.push_back(layout.Numel(role, first + p));
  }
  const RecordColumns records = ColumnsOf(of, numel_);
  const RoleValues* weight = HasRollup(role, RollupStatistic::kRatio)
                                 ? AlignWeight(layout, values, role)
                                 : nullptr;
  RecordColumns weights;
  if (weight != nullptr) weights = ColumnsOf(*weight, numel_);
  absl::Status s =
      summarizer_.Start(records, weight == nullptr ? nullptr : &weights);
  if (!s.ok()) return s;
  const std::uint32_t runs = RunsOf(values.steps, kRollupRun);
  for (const RollupStatistic statistic : kRollupStatistics) {
    if (!HasRollup(role, statistic)) continue;
    if (statistic == RollupStatistic::kRatio && weight == nullptr) continue;
    s = summarizer_.Summarize(statistic, kRollupRun, &entries_);
    if (!s.ok()) return s;
    for (std::uint32_t p = 0; p < rows; p += kRollupParameters) {
      RollupShape shape;
      shape.parameters = std::min(kRollupParameters, rows - p);
      shape.steps = values.steps;
      absl::StatusOr<std::string> block = EncodeRollups(
          shape,
          std::span(entries_).subspan(std::size_t{p} * runs,
                                      std::size_t{shape.parameters} * runs));
      if (!block.ok()) return block.status();
      s = sink->PutRollups({0, role, statistic, values.schema_id,
                            RollupGroupOf(values.block, p)},
                           *block);
      if (!s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
