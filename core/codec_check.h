// Checks that the codec's readers share.
//
// Layer: core.

#ifndef GRADTAP_CORE_CODEC_CHECK_H_
#define GRADTAP_CORE_CODEC_CHECK_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/step_data.h"
#include "core/wire.h"

namespace gradtap::codec {

// kInvalidArgument: "Step: a length reaches beyond the end". `what` is one of
// ours; text of a peer is escaped by the caller.
inline absl::Status Malformed(std::string_view message, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(message), ": ", std::string(what)));
}

// Why `text` is not what a text field holds; empty if it is.
inline std::string_view TextError(std::string_view text) {
  if (text.size() > kMaxNameBytes) return "has more than 512 bytes";
  if (!IsValidUtf8(text)) return "is not valid UTF-8";
  return {};
}

inline bool FitsUint32(std::uint64_t value) {
  return value <= std::numeric_limits<std::uint32_t>::max();
}

// kUnspecified for what this version does not know.
inline Role RoleOf(std::uint64_t value) {
  return value < static_cast<std::uint64_t>(kRoleCount)
             ? static_cast<Role>(value)
             : Role::kUnspecified;
}

// One of a later version is kept: it says whether a step was SKIPPED or LOST.
inline GapCause GapCauseOf(std::uint64_t value) {
  return value <= std::numeric_limits<std::underlying_type_t<GapCause>>::max()
             ? static_cast<GapCause>(value)
             : GapCause::kUnspecified;
}

// The numbers of a packed or a single varint field, appended to `*out`. False
// if one is cut off, not accepted by `accept`, or there are more than `most`:
// then nothing has been allocated for those.
template <typename T, typename Accept>
bool AppendNumbers(
    const wire::Reader& field, std::vector<T>* out, Accept accept,
    std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) {
  if (field.type() == wire::Type::kVarint) {
    if (out->size() >= most || !accept(field.value())) return false;
    out->push_back(static_cast<T>(field.value()));
    return true;
  }
  std::string_view rest = field.bytes();
  if (out->empty()) {  // Later pieces grow it as vectors do.
    std::size_t count = 0;
    for (const char c : rest) count += static_cast<unsigned char>(c) < 0x80;
    if (count > most) return false;
    out->reserve(count);
  }
  while (!rest.empty()) {
    std::uint64_t value = 0;
    if (!wire::ReadVarint(&rest, &value) || !accept(value)) return false;
    if (out->size() >= most) return false;
    out->push_back(static_cast<T>(value));
  }
  return true;
}

inline bool IsPackedOrVarint(const wire::Reader& field) {
  return field.type() == wire::Type::kVarint ||
         field.type() == wire::Type::kBytes;
}

}  // namespace gradtap::codec

#endif  // GRADTAP_CORE_CODEC_CHECK_H_
