// Files of the spool, which any process of the user may have written
// (agent/spool/segment.h, kept_schema.h).

#include <algorithm>

#include "agent/spool/kept_schema.h"
#include "agent/spool/segment.h"
#include "core/hash.h"
#include "fuzz/fuzz.h"

namespace gradtap::fuzz {
namespace {

constexpr std::size_t kIdentityAt = 16;  // Behind magic, version and size.

void TryBytes(std::string_view bytes) {
  const agent::SegmentContent content = agent::ParseSegment(bytes, 1);
  Require(content.good_bytes <= bytes.size(), "what is good was there");
  Require(bytes.empty() ||
              content.damage.empty() == (content.good_bytes == bytes.size()),
          "what is not good is damage, and is said");
  std::size_t before = 0;
  for (const agent::SegmentRecord& record : content.records) {
    Require(record.offset >= before && record.size <= agent::kMaxRecordBytes &&
                record.offset + record.size <= content.good_bytes,
            "records lie one behind the other in what is good");
    before = record.offset + record.size;
  }
}

void TryKeptSchema(std::string_view bytes) {
  agent::SpoolIdentity identity;
  std::string damage;
  const agent::KeptSchema schema =
      agent::ParseKeptSchema(bytes, 1, &identity, &damage);
  Require(schema.records.empty() != damage.empty(),
          "a schema is whole, or it is said why there is none");
  if (!damage.empty()) return;
  const agent::KeptSchema again = agent::ParseKeptSchema(
      agent::EncodeKeptSchema(identity, schema), 1, &identity, &damage);
  Require(again.records == schema.records, "what was read can be kept again");
}

void PutHash(std::size_t begin, std::size_t end, std::size_t at,
             std::string* bytes) {
  const std::uint64_t hash =
      StableHash64(std::string_view(*bytes).substr(begin, end - begin));
  std::memcpy(bytes->data() + at, &hash, sizeof(hash));
}

std::uint32_t SizeAt(const std::string& bytes, std::size_t at) {
  std::uint32_t size = 0;
  std::memcpy(&size, bytes.data() + at, sizeof(size));
  return size;
}

// With the hashes of the header and of each record set right, so that what they
// cover is looked at.
void TryWithHashes(std::string bytes) {
  constexpr std::size_t kHash = sizeof(std::uint64_t);
  constexpr std::size_t kHead = agent::kRecordHeadBytes;
  if (bytes.size() < kIdentityAt) return;
  std::size_t at = kIdentityAt + SizeAt(bytes, kIdentityAt - 4);
  if (bytes.size() < at + kHash) return;
  PutHash(0, at, at, &bytes);
  at += kHash;
  while (bytes.size() - at >= kHead) {
    const std::size_t end =
        std::min(bytes.size(), at + kHead + SizeAt(bytes, at + kHash));
    PutHash(at + kHead, end, at + kHead - 2 * kHash, &bytes);
    PutHash(at, at + kHead - kHash, at + kHead - kHash, &bytes);
    at = end;
  }
  TryBytes(bytes);
  TryKeptSchema(bytes);
}

}  // namespace

void Try(std::string_view input) {
  TryBytes(input);
  TryKeptSchema(input);
  TryWithHashes(std::string(input));
}

std::vector<std::string> Seeds() {
  agent::SpoolIdentity identity;
  identity.run = "run";
  identity.launch = "launch";
  identity.process_nonce = "0123456789abcdef";
  identity.agent_version = "0.1";
  identity.torch_version = "1.13.1";
  identity.host = "host";
  identity.collector = "127.0.0.1:7317";
  identity.start_time_unix_ns = std::int64_t{1700000000} * 1'000'000'000;
  identity.pid = 42;
  identity.tags = {{"key", "value"}};
  std::string segment = agent::EncodeSegmentHeader(identity);
  std::vector<std::string> seeds = {segment};
  for (std::uint64_t seq = 1; seq <= 3; ++seq) {
    const std::string payload(seq * 5, 'p');
    segment += agent::EncodeRecordHead(seq, {}, payload) + payload;
  }
  seeds.push_back(segment);
  seeds.push_back(
      agent::EncodeKeptSchema(identity, {1, {"first part", "second part"}}));
  return seeds;
}

}  // namespace gradtap::fuzz
