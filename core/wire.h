// Protobuf's wire format, as much of it as the codec needs, and the numbers of
// record.proto. Not for use outside core/codec_*.cc and their tests.
//
//   message := field*
//   field   := tag value          tag := varint(number << 3 | type)
//   value   := varint             type 0
//            | 8 bytes            type 1, little-endian
//            | varint(n) n bytes  type 2: text, bytes, message, packed numbers
//            | 4 bytes            type 5, little-endian
//   varint  := 1 to 10 bytes of 7 bits each, lowest first; the top bit says
//              that another follows
//
// Layer: core.

#ifndef GRADTAP_CORE_WIRE_H_
#define GRADTAP_CORE_WIRE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gradtap::wire {

static_assert(std::endian::native == std::endian::little,
              "float columns are copied as they stand in memory");

enum class Type : std::uint8_t {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,
  kFixed32 = 5,
};

// Field numbers of gradtap/v1/record.proto.
namespace record {
enum : std::uint32_t {
  kSchema = 1,
  kStep = 2,
  kGap = 3,
  kRollback = 4,
  kEnd = 5,
  kPart = 6
};
}  // namespace record
namespace record_list {
enum : std::uint32_t { kRecords = 1 };
}  // namespace record_list
namespace parameter {
enum : std::uint32_t {
  kName = 1,
  kKind = 2,
  kModulePath = 3,
  kModuleType = 4,
  kDtype = 5,
  kShape = 6,
  kDevice = 7,
  kLayout = 8,
  kRequiresGrad = 9,
  kNumel = 10,
  kBytes = 11,
  kAliases = 12,
  kPlacement = 13,
  kRoles = 14,
  kUnsupportedReason = 15
};
}  // namespace parameter
namespace schema {
enum : std::uint32_t {
  kSchemaId = 1,
  kParameters = 2,
  kFingerprint = 3,
  kOptimizers = 4
};
}  // namespace schema
namespace sparse {
enum : std::uint32_t { kIndexDelta = 1, kCount = 2 };
}  // namespace sparse
namespace columns {
enum : std::uint32_t {
  kRole = 1,
  kSize = 2,
  kAbsent = 3,
  kMean = 4,
  kStd = 5,
  kAbsMean = 6,
  kMin = 7,
  kMax = 8,
  kZero = 9,
  kNan = 10,
  kPosInf = 11,
  kNegInf = 12
};
}  // namespace columns
namespace scalar {
enum : std::uint32_t { kName = 1, kValue = 2 };
}  // namespace scalar
namespace histogram {
enum : std::uint32_t { kRole = 1, kPlace = 2, kBins = 3 };
}  // namespace histogram
namespace step {
enum : std::uint32_t {
  kStep = 1,
  kWallTime = 2,
  kSchemaId = 3,
  kIntervalSteps = 4,
  kRoles = 5,
  kScalars = 6,
  kHistograms = 7,
  kSkipped = 8,
  kSkippedDetail = 9
};
}  // namespace step
namespace gap {
enum : std::uint32_t {
  kCause = 1,
  kFirstStep = 2,
  kLastStep = 3,
  kSteps = 4,
  kDetail = 5
};
}  // namespace gap
namespace rollback {
enum : std::uint32_t { kStep = 1, kBranch = 2 };
}  // namespace rollback
namespace end {
enum : std::uint32_t {
  kReason = 1,
  kWallTime = 2,
  kStepsSeen = 3,
  kStepsRecorded = 4,
  kStepsSkipped = 5,
  kStepsLost = 6
};
}  // namespace end
namespace part {
enum : std::uint32_t { kIndex = 1, kCount = 2, kData = 3 };
}  // namespace part

// Bytes of a varint: 1 to 10.
constexpr std::size_t VarintSize(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}
constexpr std::uint64_t TagOf(std::uint32_t number, Type type) {
  return (std::uint64_t{number} << 3) | static_cast<std::uint64_t>(type);
}
constexpr std::size_t TagSize(std::uint32_t number) {
  return VarintSize(TagOf(number, Type::kBytes));
}
// A field of `bytes` bytes with its tag and length.
constexpr std::size_t BytesFieldSize(std::uint32_t number, std::size_t bytes) {
  return TagSize(number) + VarintSize(bytes) + bytes;
}
// A number with its tag; nothing at all for zero, as proto3 has it.
constexpr std::size_t VarintFieldSize(std::uint32_t number,
                                      std::uint64_t value) {
  return value == 0 ? 0 : TagSize(number) + VarintSize(value);
}

// Appends to a string.
void AppendVarint(std::uint64_t value, std::string* out);
// Nothing for zero.
void AppendVarintField(std::uint32_t number, std::uint64_t value,
                       std::string* out);
void AppendFixed64Field(std::uint32_t number, std::uint64_t value,
                        std::string* out);
// Writes an empty one, too: for elements of repeated fields, and messages.
void AppendBytesField(std::uint32_t number, std::string_view bytes,
                      std::string* out);
// Nothing for an empty one.
void AppendTextField(std::uint32_t number, std::string_view text,
                     std::string* out);

// Writes from the end of a buffer towards its front, so that a message's length
// is known when it is due. The buffer must be long enough.
class BackwardWriter {
 public:
  explicit BackwardWriter(char* end) : at_(end) {}

  const char* at() const { return at_; }

  void Raw(const void* data, std::size_t bytes) {
    at_ -= bytes;
    if (bytes != 0) std::memcpy(at_, data, bytes);
  }
  void Byte(unsigned char byte) { *--at_ = static_cast<char>(byte); }
  void Varint(std::uint64_t value) {
    at_ -= VarintSize(value);
    char* p = at_;
    for (; value >= 0x80; value >>= 7) {
      *p++ = static_cast<char>(static_cast<unsigned char>(value | 0x80));
    }
    *p = static_cast<char>(static_cast<unsigned char>(value));
  }
  void VarintField(std::uint32_t number, std::uint64_t value) {
    if (value == 0) return;
    Varint(value);
    Varint(TagOf(number, Type::kVarint));
  }
  void Fixed64Field(std::uint32_t number, std::uint64_t value) {
    if (value == 0) return;
    Raw(&value, sizeof(value));
    Varint(TagOf(number, Type::kFixed64));
  }
  void BytesField(std::uint32_t number, const void* data, std::size_t bytes) {
    Raw(data, bytes);
    Head(number, bytes);
  }
  // Ends (that is, begins) a field whose content reaches up to `end`.
  void CloseField(std::uint32_t number, const char* end) {
    Head(number, static_cast<std::size_t>(end - at_));
  }

 private:
  void Head(std::uint32_t number, std::size_t bytes) {
    Varint(bytes);
    Varint(TagOf(number, Type::kBytes));
  }

  char* at_;
};

// Reads one varint from the front of `*from`. False if it is cut off or longer
// than 10 bytes; then `*from` is left in the middle.
bool ReadVarint(std::string_view* from, std::uint64_t* value);

// Walks over the fields of a message that nobody has checked.
//
//   Reader reader(bytes);
//   while (reader.Next()) { switch (reader.number()) ... }
//   if (!reader.ok()) return Malformed("Gap", reader.error());
class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}

  // False at the end, or when what follows is no field.
  bool Next();

  std::uint32_t number() const { return number_; }
  Type type() const { return type_; }
  bool Is(std::uint32_t number, Type type) const {
    return number_ == number && type_ == type;
  }
  // Of a varint or fixed field.
  std::uint64_t value() const { return value_; }
  // Of a field of type kBytes.
  std::string_view bytes() const { return bytes_; }

  // Bytes behind the field at hand.
  std::size_t left() const { return rest_.size(); }

  bool ok() const { return error_.empty(); }
  // What is wrong, in words; points to a literal.
  std::string_view error() const { return error_; }

 private:
  bool Fail(std::string_view error) {
    error_ = error;
    rest_ = {};
    return false;
  }
  bool ReadFixed(std::size_t bytes);

  std::string_view rest_;
  std::uint32_t number_ = 0;
  Type type_ = Type::kVarint;
  std::uint64_t value_ = 0;
  std::string_view bytes_;
  std::string_view error_;
};

}  // namespace gradtap::wire

#endif  // GRADTAP_CORE_WIRE_H_
