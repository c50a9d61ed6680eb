#include "server/store/tile/header.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/store/tile/bits.h"

namespace gradtap::server {
namespace tile {
namespace {

constexpr std::uint8_t kReferenceFlags =
    kNeedsScale | kNeedsIncrement | kNeedsTwin;
constexpr std::uint8_t kPartialFlag = 8;

absl::Status TakeInfo(std::string_view* tile, TileInfo* info) {
  std::string_view head;
  std::uint32_t parameters = 0;
  std::uint32_t steps = 0;
  if (!Take(2, tile, &head) || !TakeU32(tile, &parameters) ||
      !TakeU32(tile, &steps)) {
    return Damaged("shorter than its head");
  }
  const auto codec = static_cast<std::uint8_t>(head[0]);
  const auto flags = static_cast<std::uint8_t>(head[1]);
  if (codec < static_cast<std::uint8_t>(TileCodec::kConstant) ||
      codec > static_cast<std::uint8_t>(TileCodec::kModel)) {
    return Damaged(absl::StrCat("of an unknown codec, ", codec));
  }
  if ((flags & ~(kReferenceFlags | kPartialFlag)) != 0) {
    return Damaged(absl::StrCat("of unknown flags, ", flags));
  }
  const std::uint64_t size = std::uint64_t{parameters} * steps;
  if (size == 0 || size > kMaxTileValues) {
    return Damaged(absl::StrCat("of ", parameters, " x ", steps, " values"));
  }
  *info = {.codec = static_cast<TileCodec>(codec),
           .parameters = parameters,
           .steps = steps,
           .references = static_cast<std::uint8_t>(flags & kReferenceFlags),
           .partial = (flags & kPartialFlag) != 0};
  return absl::OkStatus();
}

}  // namespace

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("tile: ", absl::string_view(what.data(), what.size())));
}

bool Take(std::size_t size, std::string_view* from, std::string_view* taken) {
  if (from->size() < size) return false;
  *taken = from->substr(0, size);
  from->remove_prefix(size);
  return true;
}

bool TakeU32(std::string_view* from, std::uint32_t* value) {
  std::string_view bytes;
  if (!Take(sizeof *value, from, &bytes)) return false;
  *value = Load<std::uint32_t>(bytes.data());
  return true;
}

bool TakeSized(std::string_view* from, std::string_view* taken) {
  std::uint32_t size = 0;
  return TakeU32(from, &size) && Take(size, from, taken);
}

void AppendSized(std::string_view content, Repeats repeats,
                 StreamWriter* writer, std::string* out) {
  const std::size_t at = out->size();
  Append(std::uint32_t{0}, out);
  writer->Append(content, repeats, out);
  const auto size =
      static_cast<std::uint32_t>(out->size() - at - sizeof(std::uint32_t));
  std::memcpy(out->data() + at, &size, sizeof size);
}

void AppendHeader(const TileInfo& info,
                  const std::vector<std::uint8_t>& present,
                  StreamWriter* writer, std::string* out) {
  const bool partial =
      std::find(present.begin(), present.end(), 0) != present.end();
  out->push_back(static_cast<char>(info.codec));
  out->push_back(
      static_cast<char>(info.references | (partial ? kPartialFlag : 0)));
  Append(info.parameters, out);
  Append(info.steps, out);
  if (!partial) return;
  std::string bitmap((present.size() + 7) / 8, '\0');
  for (std::size_t i = 0; i < present.size(); ++i) {
    if (present[i] != 0) bitmap[i / 8] |= static_cast<char>(1 << (i % 8));
  }
  AppendSized(bitmap, Repeats::kMany, writer, out);
}

absl::Status TakeHeader(std::string_view* tile, StreamReader* reader,
                        TileInfo* info, std::vector<std::uint8_t>* present) {
  present->clear();
  if (absl::Status status = TakeInfo(tile, info); !status.ok()) return status;
  if (!info->partial) return absl::OkStatus();
  const std::size_t size = std::size_t{info->parameters} * info->steps;
  std::string_view frame;
  std::string bitmap((size + 7) / 8, '\0');
  if (!TakeSized(tile, &frame) || !reader->Read(frame, bitmap)) {
    return Damaged("its presence cannot be read");
  }
  present->resize(size);
  for (std::size_t i = 0; i < size; ++i) {
    (*present)[i] = (bitmap[i / 8] >> (i % 8)) & 1;
  }
  return absl::OkStatus();
}

TilePart CutToTile(const TilePart& part, const TileInfo& info) {
  TilePart cut;
  cut.first_parameter = std::min(part.first_parameter, info.parameters);
  cut.parameters =
      std::min(part.parameters, info.parameters - cut.first_parameter);
  cut.steps = std::min(part.steps, info.steps);
  return cut;
}

}  // namespace tile

absl::StatusOr<TileInfo> ReadTileInfo(std::string_view tile) {
  TileInfo info;
  if (absl::Status status = tile::TakeInfo(&tile, &info); !status.ok()) {
    return status;
  }
  return info;
}

}  // namespace gradtap::server
