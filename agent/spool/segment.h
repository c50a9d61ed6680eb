// The bytes of a segment file: who wrote it, then records.
//
// Each segment says by itself whose records it holds, so that any one of them
// can be delivered by anybody. Format, all numbers little-endian:
//
//   segment  := header record*
//   header   := "GTSPOOL1" version:u32 (2)  size:u32 (of identity)
//               identity  hash:u64 (of all before it)
//   identity := run launch nonce agent_version torch_version host collector
//               (texts; version 1 has no collector)
//               rank:u32 world_size:u32 start_time_unix_ns:i64 pid:i64
//               tags:u32 (key value)*
//   text     := size:u32 bytes
//   record   := seq:u64 size:u32 kind:u8 cause:u8 zero:u16
//               recorded_steps:u32 part_index:u32 part_count:u32 branch:u32
//               step:i64 last_step:i64 steps:u64
//               payload_hash:u64 head_hash:u64 (of the 64 bytes before it)
//               payload (`size` bytes: an encoded gradtap.v1.Record)
//
// Hashes are StableHash64. Seqs follow each other without holes. A reader takes
// the records up to the first that is cut off, does not match its hash or is
// out of order. A version never changes its meaning; readers refuse versions
// that they do not know, and leave them to those who do: that they are not
// damaged shows by the hash, as every version has a header of this form. There
// is no footer: a file that ends between two records is whole.
//
// Layer: agent/spool. This file: std, absl, core. Pure: no file is touched.

#ifndef GRADTAP_AGENT_SPOOL_SEGMENT_H_
#define GRADTAP_AGENT_SPOOL_SEGMENT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "agent/entry.h"

namespace gradtap::agent {

// The stream that records are of: what its Hello says, and for whom they are.
struct SpoolIdentity {
  std::string run;
  std::string launch;
  std::string process_nonce;  // 16 bytes.
  std::string agent_version;
  std::string torch_version;
  std::string host;
  // "HOST:PORT", as the process was told. Empty: any, or not known.
  std::string collector;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::int64_t start_time_unix_ns = 0;
  std::int64_t pid = 0;
  std::map<std::string, std::string> tags;

  bool operator==(const SpoolIdentity&) const = default;
};

inline constexpr std::size_t kRecordHeadBytes = 72;
inline constexpr std::size_t kMaxRecordBytes = std::size_t{16} << 20;

std::string EncodeSegmentHeader(const SpoolIdentity& identity);
std::string EncodeRecordHead(std::uint64_t seq, const EntryMeta& meta,
                             std::string_view payload);

struct SegmentRecord {
  EntryMeta meta;
  std::size_t offset = 0;  // Of the payload.
  std::size_t size = 0;
};

struct SegmentContent {
  SpoolIdentity identity;
  // Of the seqs from the first on.
  std::vector<SegmentRecord> records;
  std::size_t good_bytes = 0;
  // Empty: all bytes are good. Else what is wrong at good_bytes, in words.
  std::string damage;
  // What is wrong is only that it has another version.
  bool other_version = false;
  // What is wrong is only that the record there does not go to its end.
  bool cut_off = false;
};

// Reads what anybody may have written, down to a torn or flipped bit.
// `first_seq` is what the file's name says.
SegmentContent ParseSegment(std::string_view bytes_untrusted,
                            std::uint64_t first_seq);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_SEGMENT_H_
