#include "server/store/window/slab.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

namespace gradtap::server {

Slab::Slab(const TileLayout* layout, std::uint32_t begin, std::uint32_t end,
           std::uint32_t max_steps)
    : layout_(layout), begin_(begin), end_(end), max_steps_(max_steps) {
  for (int role = 1; role < kRoleCount; ++role) {
    OfRole& of = roles_[role];
    const auto r = static_cast<Role>(role);
    of.first = layout->FirstPlace(r, begin);
    of.places =
        layout->FirstPlace(r, end - 1) + layout->Rows(r, end - 1) - of.first;
  }
}

std::size_t Slab::BytesOf(const TileLayout& layout, std::uint32_t block,
                          std::uint32_t max_steps) {
  std::size_t places = 0;
  for (int role = 1; role < kRoleCount; ++role) {
    places += layout.Rows(static_cast<Role>(role), block);
  }
  return places * max_steps * (kFloatFields * sizeof(float) + 1);
}

void Slab::Add(const StepView& step) {
  for (const StepView::Columns& columns : step.columns()) AddRole(columns);
  ++steps_;
}

void Slab::AddRole(const StepView::Columns& columns) {
  OfRole& of = roles_[static_cast<std::size_t>(columns.role)];
  if (of.places == 0 || columns.size < of.first + of.places) return;
  // What readers of a tile get where nothing is: siblings may lean on it.
  const auto nothing = std::bit_cast<float>(kAbsentBits);
  if (of.steps++ == 0) {
    const std::size_t size = std::size_t{max_steps_} * of.places;
    for (auto& field : of.floats) field.assign(size, nothing);
    of.present.assign(size, 0);
    for (auto& field : of.counts) field.resize(end_ - begin_);
  }
  const std::size_t at = std::size_t{steps_} * of.places;
  const std::array<std::string_view, kFloatFields> from = {
      columns.mean, columns.std, columns.abs_mean, columns.min, columns.max};
  for (int field = 0; field < kFloatFields; ++field) {
    std::memcpy(of.floats[field].data() + at,
                from[field].data() + std::size_t{of.first} * sizeof(float),
                std::size_t{of.places} * sizeof(float));
  }
  std::fill_n(of.present.begin() + static_cast<std::ptrdiff_t>(at), of.places,
              std::uint8_t{1});
  for (std::uint32_t i = 0; i < of.places && !columns.absent.empty(); ++i) {
    if (!columns.IsAbsent(of.first + i)) continue;
    of.absent = true;
    of.present[at + i] = 0;
    for (auto& field : of.floats) field[at + i] = nothing;
  }
  AddCounts(columns, &of);
}

void Slab::AddCounts(const StepView::Columns& columns, OfRole* of) {
  const std::array<const StepView::Counts*, kCountFields> counts = {
      &columns.zero, &columns.nan, &columns.pos_inf, &columns.neg_inf};
  for (int field = 0; field < kCountFields; ++field) {
    const std::vector<std::uint32_t>& places = counts[field]->place;
    const auto begin =
        std::lower_bound(places.begin(), places.end(), of->first);
    for (auto it = begin; it != places.end() && *it < of->first + of->places;
         ++it) {
      const std::uint32_t block = layout_->BlockOf(columns.role, *it);
      of->counts[field][block - begin_].push_back(
          {steps_, layout_->RowOf(columns.role, *it),
           counts[field]
               ->count[static_cast<std::size_t>(it - places.begin())]});
    }
  }
}

// ---- One block. ----

void Slab::Gather(std::uint32_t block, BlockValues* out) const {
  out->block = block;
  out->steps = steps_;
  for (int i = 1; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    const OfRole& of = roles_[i];
    RoleValues& values = out->roles[i];
    values.any = of.steps > 0 && layout_->Rows(role, block) > 0;
    if (!values.any) continue;
    GatherFloats(of, role, block, &values);
    GatherCounts(of, role, block, &values);
  }
}

std::vector<std::uint8_t> Slab::GatherPresence(const OfRole& of, Role role,
                                               std::uint32_t block) const {
  if (!of.absent && of.steps == steps_) return {};
  const std::uint32_t rows = layout_->Rows(role, block);
  const std::uint32_t from = layout_->FirstPlace(role, block) - of.first;
  std::vector<std::uint8_t> present(std::size_t{rows} * steps_);
  bool all = true;
  for (std::uint32_t t = 0; t < steps_; ++t) {
    const std::uint8_t* row =
        of.present.data() + std::size_t{t} * of.places + from;
    for (std::uint32_t p = 0; p < rows; ++p) {
      present[std::size_t{p} * steps_ + t] = row[p];
      all &= row[p] != 0;
    }
  }
  if (all) present.clear();
  return present;
}

void Slab::GatherFloats(const OfRole& of, Role role, std::uint32_t block,
                        RoleValues* out) const {
  // Lines of the source are read once, and those of the target are few enough
  // to stay at hand.
  constexpr std::uint32_t kAtOnce = 16;
  const std::uint32_t rows = layout_->Rows(role, block);
  const std::uint32_t from = layout_->FirstPlace(role, block) - of.first;
  const std::vector<std::uint8_t> present = GatherPresence(of, role, block);
  for (int field = 0; field < kFloatFields; ++field) {
    FloatBlock& to = out->floats[field];
    to.parameters = rows;
    to.steps = steps_;
    to.present = present;
    to.values.resize(to.size());
    for (std::uint32_t p0 = 0; p0 < rows; p0 += kAtOnce) {
      const std::uint32_t p1 = std::min(rows, p0 + kAtOnce);
      for (std::uint32_t t = 0; t < steps_; ++t) {
        const float* row =
            of.floats[field].data() + std::size_t{t} * of.places + from;
        for (std::uint32_t p = p0; p < p1; ++p) {
          to.values[std::size_t{p} * steps_ + t] = row[p];
        }
      }
    }
  }
}

void Slab::GatherCounts(const OfRole& of, Role role, std::uint32_t block,
                        RoleValues* out) const {
  for (int field = 0; field < kCountFields; ++field) {
    const std::vector<Count>& counts = of.counts[field][block - begin_];
    out->counted[field] = !counts.empty();
    if (counts.empty()) continue;
    CountBlock& to = out->counts[field];
    to.parameters = layout_->Rows(role, block);
    to.steps = steps_;
    to.values.assign(to.size(), 0);
    for (const Count& count : counts) {
      to.values[std::size_t{count.row} * steps_ + count.step] = count.count;
    }
  }
}

}  // namespace gradtap::server
