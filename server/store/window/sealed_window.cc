#include "server/store/window/sealed_window.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/statistic.h"
#include "server/store/tile/siblings.h"

namespace gradtap::server {
namespace {

absl::Status Damaged(const TileKey& key, std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the data folder holds a damaged tile (role ",
                   std::string(RoleName(key.role)), ", field ",
                   static_cast<int>(key.field), ", block ", key.block,
                   "): ", std::string(what), "; restore it from a copy"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<SealedWindow>> SealedWindow::Open(
    std::unique_ptr<WindowSource> source, std::string timeline,
    std::shared_ptr<const TileLayout> layout) {
  std::shared_ptr<SealedWindow> window(new SealedWindow());
  window->bytes_ = std::move(timeline);
  absl::StatusOr<TimelineView> view = TimelineView::Parse(window->bytes_);
  if (!view.ok()) return view.status();
  window->timeline_ = *std::move(view);
  window->names_ = window->timeline_.ScalarNames();
  window->source_ = std::move(source);
  window->layout_ = std::move(layout);
  return window;
}

std::shared_ptr<SealedWindow> SealedWindow::Clone() const {
  auto clone = Open(source_->Clone(), bytes_, layout_);
  (*clone)->Focus(first_parameter_, last_parameter_);
  (*clone)->only_ = only_;
  (*clone)->rolled_up_ = rolled_up_;
  return *std::move(clone);  // The bytes have been parsed before.
}

void SealedWindow::Focus(std::uint32_t first, std::uint32_t last) {
  first_parameter_ = first;
  last_parameter_ = last;
}

void SealedWindow::Release() {
  recent_floats_ = {};
  recent_counts_ = {};
  floats_.clear();
  counts_.clear();
  siblings_.clear();
  spare_.clear();
}

std::uint64_t SealedWindow::KeyOf(const TileKey& key) {
  return static_cast<std::uint64_t>(key.role) << 40 |
         static_cast<std::uint64_t>(key.field) << 32 | key.block;
}

TilePart SealedWindow::PartOf(const TileKey& key) const {
  const TileLayout::RowRange rows = layout_->RowsWithin(
      key.role, key.block, first_parameter_, last_parameter_);
  TilePart part;
  part.first_parameter = rows.first;
  part.parameters = rows.rows;
  if (only_.has_value()) part.steps = *only_ + 1;
  return part;
}

absl::StatusOr<std::string_view> SealedWindow::Read(const TileKey& key) {
  absl::StatusOr<std::string_view> bytes = source_->ReadTile(key);
  if (bytes.ok()) bytes_read_ += bytes->size();
  return bytes;
}

template <typename T>
absl::Status SealedWindow::CheckShape(const TileKey& key,
                                      const TileBlock<T>& block) const {
  const TilePart part = PartOf(key);
  if (block.parameters != part.parameters ||
      block.steps != std::min(part.steps, timeline_.recorded())) {
    return Damaged(key, "it has another shape than its window");
  }
  return absl::OkStatus();
}

// What is asked for of a decoded block.
template <typename T>
void SealedWindow::Keep(const TileBlock<T>& block, TileBlock<T>* kept) const {
  if (!only_.has_value()) {
    *kept = block;
    return;
  }
  kept->parameters = block.parameters;
  kept->steps = 1;
  kept->values.resize(block.parameters);
  for (std::uint32_t p = 0; p < block.parameters; ++p) {
    kept->values[p] = block.values[(std::size_t{p} + 1) * block.steps - 1];
  }
}

// ---- Floats and what they lean on. ----

void SealedWindow::UseSiblingsOf(std::uint32_t block) {
  if (sibling_block_ == block) return;
  for (auto& [key, sibling] : siblings_) spare_.push_back(std::move(sibling));
  siblings_.clear();
  sibling_block_ = block;
}

FloatBlock* SealedWindow::NewSibling(const TileKey& key) {
  std::unique_ptr<FloatBlock>& made = siblings_[KeyOf(key)];
  if (spare_.empty()) {
    made = std::make_unique<FloatBlock>();
  } else {
    made = std::move(spare_.back());
    spare_.pop_back();
  }
  return made.get();
}

absl::StatusOr<const FloatBlock*> SealedWindow::Sibling(const TileKey& key) {
  UseSiblingsOf(key.block);
  const auto found = siblings_.find(KeyOf(key));
  if (found != siblings_.end()) return found->second.get();
  FloatBlock* const block = NewSibling(key);
  const absl::Status s = DecodeFloats(key, block);
  if (s.ok()) return block;
  siblings_.erase(KeyOf(key));
  return s;
}

// The update's mean, with a row for each row of the weight: zeros where the
// parameter has no update. As slab.cc aligned it.
absl::StatusOr<const FloatBlock*> SealedWindow::Increment(const TileKey& key) {
  const TilePart part = PartOf(key);
  const TileKey update{Role::kUpdate, WindowField::kMean, key.block};
  const TilePart from = PartOf(update);
  increment_.parameters = part.parameters;
  increment_.steps = std::min(part.steps, timeline_.recorded());
  increment_.present.clear();
  increment_.values.assign(increment_.size(), 0.0F);
  if (from.parameters == 0) return &increment_;
  absl::StatusOr<const FloatBlock*> mean = Sibling(update);
  if (!mean.ok()) return mean.status();
  const std::uint32_t first =
      layout_->FirstPlace(key.role, key.block) + part.first_parameter;
  for (std::uint32_t p = 0; p < part.parameters; ++p) {
    const std::int64_t place =
        layout_->PlaceIn(Role::kUpdate, key.role, first + p);
    if (place < 0) continue;
    const std::uint32_t row =
        layout_->RowOf(Role::kUpdate, static_cast<std::uint32_t>(place)) -
        from.first_parameter;
    std::copy_n((*mean)->values.begin() +
                    static_cast<std::ptrdiff_t>(row) * increment_.steps,
                increment_.steps,
                increment_.values.begin() +
                    static_cast<std::ptrdiff_t>(p) * increment_.steps);
  }
  return &increment_;
}

absl::Status SealedWindow::DecodeReferences(const TileKey& key,
                                            std::uint8_t needs,
                                            TileReferences* references) {
  const TileSiblings siblings =
      SiblingsOf(key.role, static_cast<TileField>(key.field));
  const std::uint8_t known =
      (siblings.std_as_scale ? kNeedsScale : 0) |
      (siblings.mean_as_twin ? kNeedsTwin : 0) |
      (siblings.update_as_increment ? kNeedsIncrement : 0);
  if ((needs & ~known) != 0) {
    return Damaged(key, "it leans on what its field does not lean on");
  }
  absl::StatusOr<const FloatBlock*> got;
  if ((needs & kNeedsScale) != 0) {
    got = Sibling({key.role, WindowField::kStd, key.block});
    if (!got.ok()) return got.status();
    references->scale = *got;
  }
  if ((needs & kNeedsTwin) != 0) {
    got = Sibling({key.role, WindowField::kMean, key.block});
    if (!got.ok()) return got.status();
    references->twin = *got;
  }
  if ((needs & kNeedsIncrement) != 0) {
    got = Increment(key);
    if (!got.ok()) return got.status();
    references->increment = *got;
  }
  return absl::OkStatus();
}

absl::Status SealedWindow::DecodeFloats(const TileKey& key, FloatBlock* out) {
  absl::StatusOr<std::string_view> bytes = Read(key);
  if (!bytes.ok()) return bytes.status();
  if (bytes->empty()) return Damaged(key, "it is missing");
  absl::StatusOr<TileInfo> info = ReadTileInfo(*bytes);
  if (!info.ok()) return info.status();
  TileReferences references;
  absl::Status s = DecodeReferences(key, info->references, &references);
  if (!s.ok()) return s;
  s = decoder_.DecodeFloats(*bytes, references, PartOf(key), out);
  if (!s.ok()) return Damaged(key, std::string(s.message()));
  return CheckShape(key, *out);
}

absl::Status SealedWindow::LoadFloats(const TileKey& key, Part<float>* loaded) {
  loaded->first_row = PartOf(key).first_parameter;
  // The `std` of a block is soon leant on.
  const bool leant_on = only_.has_value() && key.field == WindowField::kStd;
  if (leant_on || (sibling_block_ == key.block &&
                   siblings_.find(KeyOf(key)) != siblings_.end())) {
    absl::StatusOr<const FloatBlock*> sibling = Sibling(key);
    if (!sibling.ok()) return sibling.status();
    Keep(**sibling, &loaded->block);
    return absl::OkStatus();
  }
  const absl::Status s = DecodeFloats(key, &scratch_);
  if (s.ok()) Keep(scratch_, &loaded->block);
  return s;
}

const SealedWindow::Part<float>* SealedWindow::FloatsOf(const TileKey& key) {
  std::unique_ptr<Part<float>>& part = floats_[KeyOf(key)];
  if (part == nullptr) {
    auto loaded = std::make_unique<Part<float>>();
    status_.Update(LoadFloats(key, loaded.get()));
    if (!status_.ok()) return nullptr;
    part = std::move(loaded);
  }
  return part.get();
}

const float* SealedWindow::Floats(Role role, WindowField field,
                                  std::uint32_t place) {
  const std::uint32_t block = layout_->BlockOf(role, place);
  Recent<float>& recent = recent_floats_[static_cast<std::size_t>(role)]
                                        [static_cast<std::size_t>(field)];
  if (recent.block != block) {
    const Part<float>* part = FloatsOf({role, field, block});
    if (part == nullptr) return nullptr;
    recent = {block, part};
  }
  const std::uint32_t row =
      layout_->RowOf(role, place) - recent.part->first_row;
  return recent.part->block.values.data() +
         std::size_t{row} * recent.part->block.steps;
}

absl::Status SealedWindow::LoadCounts(
    const TileKey& key, std::unique_ptr<Part<std::uint64_t>>* loaded) {
  absl::StatusOr<std::string_view> bytes = Read(key);
  if (!bytes.ok() || bytes->empty()) return bytes.status();
  auto part = std::make_unique<Part<std::uint64_t>>();
  part->first_row = PartOf(key).first_parameter;
  absl::Status s = decoder_.DecodeCounts(*bytes, PartOf(key), &count_scratch_);
  if (!s.ok()) return Damaged(key, std::string(s.message()));
  s = CheckShape(key, count_scratch_);
  if (!s.ok()) return s;
  Keep(count_scratch_, &part->block);
  *loaded = std::move(part);
  return absl::OkStatus();
}

// Null: all zero, or an error.
const SealedWindow::Part<std::uint64_t>* SealedWindow::CountsOf(
    const TileKey& key) {
  const auto [it, is_new] = counts_.try_emplace(KeyOf(key));
  if (is_new) status_.Update(LoadCounts(key, &it->second));
  return it->second.get();
}

const std::uint64_t* SealedWindow::Counts(Role role, WindowField field,
                                          std::uint32_t place) {
  if ((timeline_.fields(role) & BitOf(field)) == 0) return nullptr;
  const std::uint32_t block = layout_->BlockOf(role, place);
  Recent<std::uint64_t>& recent =
      recent_counts_[static_cast<std::size_t>(role)]
                    [static_cast<std::size_t>(field)];
  if (recent.block != block) recent = {block, CountsOf({role, field, block})};
  if (recent.part == nullptr || !status_.ok()) return nullptr;
  const std::uint32_t row =
      layout_->RowOf(role, place) - recent.part->first_row;
  return recent.part->block.values.data() +
         std::size_t{row} * recent.part->block.steps;
}

// ---- Scalars. ----

absl::Status SealedWindow::LoadScalar(std::size_t i, ScalarColumn* column) {
  absl::StatusOr<std::string_view> bytes = source_->ReadScalar(names_[i]);
  if (!bytes.ok()) return bytes.status();
  bytes_read_ += bytes->size();
  absl::StatusOr<ScalarView> view = ScalarView::Parse(*bytes);
  if (!view.ok()) return view.status();
  if (view->rows() != timeline_.rows()) {
    return absl::DataLossError(
        "the data folder holds scalars that do not fit their window; restore "
        "it from a copy");
  }
  return view->Decode(&decoder_, column);
}

const ScalarColumn* SealedWindow::Scalar(std::size_t i) {
  scalars_.resize(names_.size());
  if (scalars_[i] == nullptr) {
    auto column = std::make_unique<ScalarColumn>();
    status_.Update(LoadScalar(i, column.get()));
    if (!status_.ok()) return nullptr;
    scalars_[i] = std::move(column);
  }
  return scalars_[i].get();
}

}  // namespace gradtap::server
