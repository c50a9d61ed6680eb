#include "server/store/tile/split.h"

#include <algorithm>
#include <cstdint>

#include "server/store/tile/header.h"

namespace gradtap::server::tile {
namespace {

template <typename T>
T Fold(T difference) {
  const T sign = T{0} - (difference >> (8 * sizeof(T) - 1));
  return (difference << 1) ^ sign;
}
template <typename T>
T Unfold(T folded) {
  return (folded >> 1) ^ (T{0} - (folded & 1));
}

}  // namespace

template <typename T>
void AppendSplit(std::span<const T> values, std::span<const std::size_t> counts,
                 StreamWriter* writer, std::string* out) {
  std::vector<T> folded;
  folded.reserve(values.size());
  T all = 0;
  std::size_t at = 0;
  for (const std::size_t count : counts) {
    T before = 0;
    for (const T value : values.subspan(at, count)) {
      folded.push_back(Fold(static_cast<T>(value - before)));
      all |= folded.back();
      before = value;
    }
    at += count;
  }
  unsigned planes = 0;
  while (planes < sizeof(T) && (all >> (8 * planes)) != 0) ++planes;
  out->push_back(static_cast<char>(planes));
  std::string plane(folded.size(), '\0');
  for (unsigned byte = 0; byte < planes; ++byte) {
    std::transform(folded.begin(), folded.end(), plane.begin(), [&](T value) {
      return static_cast<char>(value >> (8 * byte));
    });
    AppendSized(plane, Repeats::kMany, writer, out);
  }
}

template <typename T>
bool ReadSplit(std::string_view body, std::span<const std::size_t> counts,
               StreamReader* reader, std::string* scratch,
               std::span<T> values) {
  std::string_view head;
  if (!Take(1, &body, &head)) return false;
  const auto planes = static_cast<std::uint8_t>(head[0]);
  if (planes > sizeof(T)) return false;
  std::fill(values.begin(), values.end(), T{0});
  scratch->resize(values.size());
  for (unsigned byte = 0; byte < planes; ++byte) {
    std::string_view frame;
    if (!TakeSized(&body, &frame) || !reader->Read(frame, *scratch)) {
      return false;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] |= T{static_cast<std::uint8_t>((*scratch)[i])} << (8 * byte);
    }
  }
  std::size_t at = 0;
  for (const std::size_t count : counts) {
    T before = 0;
    for (T& value : values.subspan(at, count)) {
      before += Unfold(value);
      value = before;
    }
    at += count;
  }
  return body.empty();
}

template void AppendSplit(std::span<const std::uint32_t>,
                          std::span<const std::size_t>, StreamWriter*,
                          std::string*);
template void AppendSplit(std::span<const std::uint64_t>,
                          std::span<const std::size_t>, StreamWriter*,
                          std::string*);
template bool ReadSplit(std::string_view, std::span<const std::size_t>,
                        StreamReader*, std::string*, std::span<std::uint32_t>);
template bool ReadSplit(std::string_view, std::span<const std::size_t>,
                        StreamReader*, std::string*, std::span<std::uint64_t>);

}  // namespace gradtap::server::tile
