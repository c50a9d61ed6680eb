#include "server/store/keys.h"

#include "server/store/bytes.h"

namespace gradtap::server::keys {

std::string OfRun(char kind, std::uint64_t run_id) {
  std::string key;
  key.reserve(40);
  if (kind != 0) key.push_back(kind);
  PutU64(run_id, &key);
  return key;
}

std::string OfStream(char kind, std::uint64_t run_id, std::uint64_t stream) {
  std::string key = OfRun(kind, run_id);
  PutU64(stream, &key);
  return key;
}

std::string After(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) {
    prefix.pop_back();
  }
  if (!prefix.empty()) {
    prefix.back() =
        static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  }
  return prefix;
}

std::string Ids() { return std::string(1, kIds); }

std::string Note(std::uint64_t number) {
  std::string key(1, kNote);
  PutU64(number, &key);
  return key;
}

std::string Run(std::string_view name) {
  std::string key(1, kRun);
  key.append(name);
  return key;
}

std::string Head(std::uint64_t run_id, std::uint64_t stream) {
  return OfStream(kHead, run_id, stream);
}

std::string Cursor(std::uint64_t run_id, std::uint64_t stream) {
  return OfStream(kCursor, run_id, stream);
}

std::string Branch(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch) {
  std::string key = OfStream(kBranch, run_id, stream);
  PutU32(branch, &key);
  return key;
}

std::string Row(std::uint64_t run_id, std::uint64_t stream,
                std::uint32_t branch, std::int64_t step) {
  std::string key = OfStream(0, run_id, stream);
  PutU32(branch, &key);
  PutI64(step, &key);
  return key;
}

std::string Sealed(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch) {
  std::string key = OfStream(kSealed, run_id, stream);
  PutU32(branch, &key);
  return key;
}

std::string Timeline(std::uint64_t run_id, std::uint64_t stream,
                     std::uint32_t branch, std::int64_t first_step) {
  std::string key = OfStream(kTimeline, run_id, stream);
  PutU32(branch, &key);
  PutI64(first_step, &key);
  return key;
}

std::string Chapter(std::uint64_t run_id, std::uint64_t stream,
                    std::uint32_t branch, std::int64_t first_step) {
  std::string key = OfStream(kChapter, run_id, stream);
  PutU32(branch, &key);
  PutI64(first_step, &key);
  return key;
}

std::string Scalar(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch, std::string_view name,
                   std::int64_t first_step) {
  std::string key = OfStream(kScalar, run_id, stream);
  PutU32(branch, &key);
  key.push_back(static_cast<char>(name.size() >> 8));
  key.push_back(static_cast<char>(name.size()));
  key.append(name);
  PutI64(first_step, &key);
  return key;
}

std::string Tile(std::uint64_t run_id, std::uint64_t stream,
                 std::uint32_t branch, std::int64_t first_step,
                 std::uint8_t role, std::uint8_t field, std::uint32_t block) {
  std::string key = Row(run_id, stream, branch, first_step);
  key.push_back(static_cast<char>(role));
  key.push_back(static_cast<char>(field));
  PutU32(block, &key);
  return key;
}

std::string Rollup(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch, std::uint8_t level, std::uint8_t role,
                   std::uint8_t statistic, std::uint32_t schema_id,
                   std::uint32_t group, std::int64_t first_step) {
  std::string key = OfStream(0, run_id, stream);
  PutU32(branch, &key);
  key.push_back(static_cast<char>(level));
  key.push_back(static_cast<char>(role));
  key.push_back(static_cast<char>(statistic));
  PutU32(schema_id, &key);
  PutU32(group, &key);
  PutI64(first_step, &key);
  return key;
}

std::string HistogramStep(std::uint64_t run_id, std::uint64_t stream,
                          std::uint32_t branch, std::int64_t step) {
  return Row(run_id, stream, branch, step);
}

std::string Histogram(std::uint64_t run_id, std::uint64_t stream,
                      std::uint32_t branch, std::int64_t step,
                      std::uint8_t role, std::uint32_t block) {
  std::string key = HistogramStep(run_id, stream, branch, step);
  key.push_back(static_cast<char>(role));
  PutU32(block, &key);
  return key;
}

std::string Schema(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t schema_id) {
  std::string key = OfStream(kSchema, run_id, stream);
  PutU32(schema_id, &key);
  return key;
}

std::string Gap(std::uint64_t run_id, std::uint64_t stream,
                std::uint32_t branch, std::int64_t first_step,
                std::uint64_t ordinal) {
  std::string key = OfStream(kGap, run_id, stream);
  PutU32(branch, &key);
  PutI64(first_step, &key);
  PutU64(ordinal, &key);
  return key;
}

std::string Part(std::uint64_t run_id, std::uint64_t stream,
                 std::uint64_t seq) {
  std::string key = OfStream(kPart, run_id, stream);
  PutU64(seq, &key);
  return key;
}

std::string Ordinal(std::uint64_t run_id, std::uint64_t ordinal) {
  std::string key = OfRun(kOrdinal, run_id);
  PutU64(ordinal, &key);
  return key;
}

std::string Attachment(std::uint64_t run_id, std::string_view name) {
  std::string key = OfRun(kAttachment, run_id);
  key.append(name);
  return key;
}

std::optional<StreamKey> ParseStreamKey(char kind, std::string_view key) {
  if (kind != 0) {
    if (key.empty() || key.front() != kind) return std::nullopt;
    key.remove_prefix(1);
  }
  ByteReader reader(key);
  StreamKey parsed;
  parsed.run_id = reader.U64();
  parsed.stream = reader.U64();
  parsed.rest = reader.rest();
  if (!reader.ok()) return std::nullopt;
  return parsed;
}

std::string EncodeOrdinalValue(const OrdinalValue& value) {
  std::string out(1, value.is_gap ? 'g' : 'r');
  PutU64(value.stream, &out);
  PutU32(value.branch, &out);
  PutI64(value.step, &out);
  return out;
}

std::optional<OrdinalValue> DecodeOrdinalValue(std::string_view value) {
  if (value.empty() || (value[0] != 'g' && value[0] != 'r')) {
    return std::nullopt;
  }
  OrdinalValue parsed;
  parsed.is_gap = value[0] == 'g';
  ByteReader reader(value.substr(1));
  parsed.stream = reader.U64();
  parsed.branch = reader.U32();
  parsed.step = reader.I64();
  if (!reader.ok() || !reader.at_end()) return std::nullopt;
  return parsed;
}

}  // namespace gradtap::server::keys
