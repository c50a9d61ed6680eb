// Files of the spool, which any process of the user may have written
// (agent/spool/segment.h).

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

// With the header's hash set right, so that what it covers is looked at.
void TryWithHash(std::string bytes) {
  if (bytes.size() < kIdentityAt) return;
  std::uint32_t size = 0;
  std::memcpy(&size, bytes.data() + 12, sizeof(size));
  const std::size_t end = kIdentityAt + std::size_t{size};
  if (bytes.size() < end + sizeof(std::uint64_t)) return;
  const std::uint64_t hash =
      StableHash64(std::string_view(bytes).substr(0, end));
  std::memcpy(bytes.data() + end, &hash, sizeof(hash));
  TryBytes(bytes);
}

}  // namespace

void Try(std::string_view input) {
  TryBytes(input);
  TryWithHash(std::string(input));
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
  return seeds;
}

}  // namespace gradtap::fuzz
