#include "agent/spool/segment.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "core/hash.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are copied as they stand in memory");

constexpr std::string_view kMagic = "GTSPOOL1";
constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kOldestVersion = 1;  // Without a collector.
constexpr std::size_t kMaxIdentityBytes = 256 * 1024;
constexpr std::size_t kMaxTags = 64;
constexpr std::size_t kNonceBytes = 16;

template <typename Number>
void Put(Number number, std::string* out) {
  static_assert(std::is_integral_v<Number>);
  char bytes[sizeof(number)];
  std::memcpy(bytes, &number, sizeof(number));
  out->append(bytes, sizeof(number));
}

void PutText(std::string_view text, std::string* out) {
  Put(static_cast<std::uint32_t>(text.size()), out);
  out->append(text);
}

// Takes numbers and texts off the front; once there is too little, all fails.
class Taker {
 public:
  explicit Taker(std::string_view from) : rest_(from) {}

  template <typename Number>
  Number Take() {
    Number number{};
    if (rest_.size() < sizeof(number)) {
      ok_ = false;
      rest_ = {};
      return Number{};
    }
    std::memcpy(&number, rest_.data(), sizeof(number));
    rest_.remove_prefix(sizeof(number));
    return number;
  }
  std::string_view Bytes(std::size_t size) {
    if (rest_.size() < size) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string Text() { return std::string(Bytes(Take<std::uint32_t>())); }

  bool ok() const { return ok_; }
  std::size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

// What is wrong, or empty.
std::string ParseIdentity(std::string_view bytes, std::uint32_t version,
                          SpoolIdentity* identity) {
  Taker take(bytes);
  for (std::string* text :
       {&identity->run, &identity->launch, &identity->process_nonce,
        &identity->agent_version, &identity->torch_version, &identity->host}) {
    *text = take.Text();
  }
  if (version > kOldestVersion) identity->collector = take.Text();
  identity->rank = take.Take<std::uint32_t>();
  identity->world_size = take.Take<std::uint32_t>();
  identity->start_time_unix_ns = take.Take<std::int64_t>();
  identity->pid = take.Take<std::int64_t>();
  const auto tags = take.Take<std::uint32_t>();
  if (!take.ok() || tags > kMaxTags) return "an identity that is cut off";
  for (std::uint32_t i = 0; i < tags; ++i) {
    std::string key = take.Text();
    identity->tags[std::move(key)] = take.Text();
  }
  if (!take.ok() || take.left() != 0) return "an identity of another length";
  if (identity->process_nonce.size() != kNonceBytes ||
      !IsValidRunName(identity->run) ||
      identity->rank >= identity->world_size) {
    return "an identity that no process has";
  }
  return {};
}

// The header's length, or 0 with `damage` set.
std::size_t ParseHeader(std::string_view bytes, SegmentContent* content) {
  Taker take(bytes);
  const std::string_view magic = take.Bytes(kMagic.size());
  const auto version = take.Take<std::uint32_t>();
  const auto size = take.Take<std::uint32_t>();
  if (!take.ok()) {
    content->damage = "its header is cut off";
    return 0;
  }
  if (magic != kMagic) {
    content->damage = "it does not begin as a spool segment does";
    return 0;
  }
  const std::string_view identity =
      size <= kMaxIdentityBytes ? take.Bytes(size) : std::string_view();
  const std::size_t hashed = bytes.size() - take.left();
  const auto hash = take.Take<std::uint64_t>();
  if (!take.ok() || size > kMaxIdentityBytes) {
    content->damage = "its header is cut off";
    return 0;
  }
  if (hash != StableHash64(bytes.substr(0, hashed))) {
    content->damage = "its header does not match its checksum";
    return 0;
  }
  if (version < kOldestVersion || version > kVersion) {
    content->damage = absl::StrCat("it has format version ", version,
                                   ", and this program knows ", kVersion);
    content->other_version = true;
    return 0;
  }
  const std::string wrong =
      ParseIdentity(identity, version, &content->identity);
  if (!wrong.empty()) {
    content->damage = absl::StrCat("its header has ", wrong);
    return 0;
  }
  return bytes.size() - take.left();
}

constexpr char kCutOff[] = "a record is cut off";

// What is wrong with the record at the front of `bytes`, or empty.
std::string ParseRecord(std::string_view bytes, std::uint64_t want_seq,
                        SegmentRecord* record) {
  if (bytes.size() < kRecordHeadBytes) return kCutOff;
  const std::string_view head = bytes.substr(0, kRecordHeadBytes);
  Taker take(head);
  const auto seq = take.Take<std::uint64_t>();
  record->size = take.Take<std::uint32_t>();
  EntryMeta& meta = record->meta;
  const auto kind = take.Take<std::uint8_t>();
  meta.kind = static_cast<EntryKind>(kind);
  meta.cause = static_cast<GapCause>(take.Take<std::uint8_t>());
  (void)take.Take<std::uint16_t>();
  meta.recorded_steps = take.Take<std::uint32_t>();
  meta.part_index = take.Take<std::uint32_t>();
  meta.part_count = take.Take<std::uint32_t>();
  meta.branch = take.Take<std::uint32_t>();
  meta.step = take.Take<std::int64_t>();
  meta.last_step = take.Take<std::int64_t>();
  meta.steps = take.Take<std::uint64_t>();
  const auto payload_hash = take.Take<std::uint64_t>();
  const auto head_hash = take.Take<std::uint64_t>();
  if (head_hash !=
      StableHash64(head.substr(0, kRecordHeadBytes - sizeof(head_hash)))) {
    return "the head of a record does not match its checksum";
  }
  if (seq != want_seq || record->size > kMaxRecordBytes ||
      kind < static_cast<int>(EntryKind::kSchema) ||
      kind > static_cast<int>(EntryKind::kEnd) || meta.recorded_steps > 1 ||
      meta.part_index >= meta.part_count) {
    return absl::StrCat("record ", seq, " cannot stand where record ", want_seq,
                        " is expected");
  }
  const std::string_view payload = bytes.substr(kRecordHeadBytes, record->size);
  if (payload.size() < record->size) return kCutOff;
  if (payload_hash != StableHash64(payload)) {
    return absl::StrCat("record ", seq, " does not match its checksum");
  }
  return {};
}

}  // namespace

std::string EncodeSegmentHeader(const SpoolIdentity& identity) {
  std::string body;
  for (const std::string* text :
       {&identity.run, &identity.launch, &identity.process_nonce,
        &identity.agent_version, &identity.torch_version, &identity.host,
        &identity.collector}) {
    PutText(*text, &body);
  }
  Put(identity.rank, &body);
  Put(identity.world_size, &body);
  Put(identity.start_time_unix_ns, &body);
  Put(identity.pid, &body);
  Put(static_cast<std::uint32_t>(identity.tags.size()), &body);
  for (const auto& [key, value] : identity.tags) {
    PutText(key, &body);
    PutText(value, &body);
  }
  std::string header(kMagic);
  Put(kVersion, &header);
  Put(static_cast<std::uint32_t>(body.size()), &header);
  header += body;
  Put(StableHash64(header), &header);
  return header;
}

std::string EncodeRecordHead(std::uint64_t seq, const EntryMeta& meta,
                             std::string_view payload) {
  std::string head;
  head.reserve(kRecordHeadBytes);
  Put(seq, &head);
  Put(static_cast<std::uint32_t>(payload.size()), &head);
  Put(static_cast<std::uint8_t>(meta.kind), &head);
  Put(static_cast<std::uint8_t>(meta.cause), &head);
  Put(std::uint16_t{0}, &head);
  Put(meta.recorded_steps, &head);
  Put(meta.part_index, &head);
  Put(meta.part_count, &head);
  Put(meta.branch, &head);
  Put(meta.step, &head);
  Put(meta.last_step, &head);
  Put(meta.steps, &head);
  Put(StableHash64(payload), &head);
  Put(StableHash64(head), &head);
  return head;
}

SegmentContent ParseSegment(std::string_view bytes_untrusted,
                            std::uint64_t first_seq) {
  SegmentContent content;
  content.good_bytes = ParseHeader(bytes_untrusted, &content);
  if (content.good_bytes == 0) return content;
  std::uint64_t seq = first_seq;
  while (content.good_bytes < bytes_untrusted.size()) {
    SegmentRecord record;
    content.damage =
        ParseRecord(bytes_untrusted.substr(content.good_bytes), seq, &record);
    content.cut_off = content.damage == kCutOff;
    if (!content.damage.empty()) break;
    record.offset = content.good_bytes + kRecordHeadBytes;
    content.good_bytes = record.offset + record.size;
    content.records.push_back(record);
    ++seq;
  }
  return content;
}

}  // namespace gradtap::agent
