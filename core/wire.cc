#include "core/wire.h"

#include <limits>

namespace gradtap::wire {

void AppendVarint(std::uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) {
    out->push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80)));
  }
  out->push_back(static_cast<char>(static_cast<unsigned char>(value)));
}

void AppendVarintField(std::uint32_t number, std::uint64_t value,
                       std::string* out) {
  if (value == 0) return;
  AppendVarint(TagOf(number, Type::kVarint), out);
  AppendVarint(value, out);
}

void AppendFixed64Field(std::uint32_t number, std::uint64_t value,
                        std::string* out) {
  if (value == 0) return;
  AppendVarint(TagOf(number, Type::kFixed64), out);
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  out->append(bytes, sizeof(value));
}

void AppendBytesField(std::uint32_t number, std::string_view bytes,
                      std::string* out) {
  AppendVarint(TagOf(number, Type::kBytes), out);
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

void AppendTextField(std::uint32_t number, std::string_view text,
                     std::string* out) {
  if (!text.empty()) AppendBytesField(number, text, out);
}

bool ReadVarint(std::string_view* from, std::uint64_t* value) {
  std::uint64_t result = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (from->empty()) return false;
    const auto byte = static_cast<unsigned char>(from->front());
    from->remove_prefix(1);
    result |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return false;
}

bool Reader::ReadFixed(std::size_t bytes) {
  if (rest_.size() < bytes) return Fail("a number is cut off");
  value_ = 0;
  std::memcpy(&value_, rest_.data(), bytes);
  rest_.remove_prefix(bytes);
  return true;
}

bool Reader::Next() {
  if (rest_.empty()) return false;
  std::uint64_t tag = 0;
  if (!ReadVarint(&rest_, &tag)) return Fail("a tag is cut off or too long");
  if (tag > std::numeric_limits<std::uint32_t>::max() || (tag >> 3) == 0) {
    return Fail("a field number is out of range");
  }
  number_ = static_cast<std::uint32_t>(tag >> 3);
  type_ = static_cast<Type>(tag & 7);
  switch (type_) {
    case Type::kVarint:
      if (!ReadVarint(&rest_, &value_)) {
        return Fail("a varint is cut off or too long");
      }
      return true;
    case Type::kFixed64:
      return ReadFixed(8);
    case Type::kFixed32:
      return ReadFixed(4);
    case Type::kBytes: {
      std::uint64_t size = 0;
      if (!ReadVarint(&rest_, &size)) {
        return Fail("a length is cut off or too long");
      }
      if (size > rest_.size()) return Fail("a length reaches beyond the end");
      bytes_ = rest_.substr(0, size);
      rest_.remove_prefix(size);
      return true;
    }
  }
  return Fail("a field is of an unsupported wire type");
}

}  // namespace gradtap::wire
