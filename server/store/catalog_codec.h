// The values of the catalog and of gaps, as bytes.
//
//   ids    = version next-run-id next-stream
//   run    = version run-id created ordinal [pinned]
//   hello  = version run launch rank world-size nonce start host pid
//            agent-version torch-version count{key value}
//   cursor = version durable-seq stored-steps skipped-steps lost-steps bytes
//            rejected schema-id last-seen branches end [count{optimizer}]
//   end    = 0 | 1 reason wall-time seen recorded skipped lost
//   branch = version first-step last-step rows
//            [rollback-step [rolled-up-end rolled-up-steps]]
//   sealed = version end rows windows chapter-first chapter-windows
//   gap    = version cause first-step last-step steps detail
//
//   version is one byte, 1. Unsigned numbers are varints, signed ones zigzag
//   varints, strings a varint length and the bytes. Later versions add fields
//   at the end; a reader ignores what follows the fields that it knows, and
//   refuses a version that it does not know.
//
// Layer: server/store. Pure functions; any thread may call them. Decoding what
// is malformed gives kDataLoss, naming the kind of value.

#ifndef GRADTAP_SERVER_STORE_CATALOG_CODEC_H_
#define GRADTAP_SERVER_STORE_CATALOG_CODEC_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace gradtap::server {

struct NextIds {
  std::uint64_t run_id = 1;
  StreamId stream = 1;
};
std::string EncodeIds(const NextIds& ids);
absl::StatusOr<NextIds> DecodeIds(std::string_view bytes);

struct RunHead {
  std::uint64_t run_id = 0;
  std::int64_t created_unix_ns = 0;
  std::uint64_t ordinal = 0;
  bool pinned = false;
};
RunHead HeadOf(std::uint64_t run_id, const RunEntry& run);
std::string EncodeRunHead(const RunHead& head);
absl::StatusOr<RunHead> DecodeRunHead(std::string_view bytes);

std::string EncodeHello(const StreamHello& hello);
absl::StatusOr<StreamHello> DecodeHello(std::string_view bytes);

// All of `stream` but its id, its hello and the contents of its branches.
std::string EncodeCursor(const StreamEntry& stream);
// Fills those fields; branches are made, numbered from 0, empty.
absl::Status DecodeCursor(std::string_view bytes, StreamEntry* stream);

std::string EncodeBranch(const Branch& branch);
// Without its number, which is in the key.
absl::StatusOr<Branch> DecodeBranch(std::string_view bytes);

// How far a branch is sealed: its rows below step `end`, that many.
struct Sealed {
  std::int64_t end = 0;
  std::uint64_t rows = 0;
  std::uint64_t windows = 0;
  // The newest full windows that are to become a chapter: where the first of
  // them begins, and how many there are.
  std::int64_t chapter_first = 0;
  std::uint32_t chapter_windows = 0;
  std::uint32_t chapter_steps = 0;  // Recorded, in all of them.
};
std::string EncodeSealed(const Sealed& sealed);
absl::StatusOr<Sealed> DecodeSealed(std::string_view bytes);

std::string EncodeGapValue(const GapData& gap);
absl::StatusOr<GapData> DecodeGapValue(std::string_view bytes);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_CATALOG_CODEC_H_
