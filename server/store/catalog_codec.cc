#include "server/store/catalog_codec.h"

#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"

namespace gradtap::server {
namespace {

constexpr char kVersion = 1;
// More branches than any stream has: a damaged count must not fill memory.
constexpr std::uint64_t kMaxBranches = 1u << 20;

std::string Begin() { return std::string(1, kVersion); }

absl::Status Damaged(const char* kind, std::string_view bytes) {
  return absl::DataLossError(absl::StrCat(
      "the catalog holds a damaged value: ", kind, " of ", bytes.size(),
      " bytes; restore the data folder from a copy"));
}

// The fields after a known version byte; an empty input is not ok later on.
absl::StatusOr<ByteReader> Open(const char* kind, std::string_view bytes) {
  if (bytes.empty() || bytes[0] != kVersion) return Damaged(kind, bytes);
  return ByteReader(bytes.substr(1));
}

}  // namespace

std::string EncodeIds(const NextIds& ids) {
  std::string out = Begin();
  PutVarint(ids.run_id, &out);
  PutVarint(ids.stream, &out);
  return out;
}

absl::StatusOr<NextIds> DecodeIds(std::string_view bytes) {
  auto in = Open("ids", bytes);
  if (!in.ok()) return in.status();
  NextIds ids;
  ids.run_id = in->Varint();
  ids.stream = in->Varint();
  if (!in->ok()) return Damaged("ids", bytes);
  return ids;
}

RunHead HeadOf(std::uint64_t run_id, const RunEntry& run) {
  return {run_id, run.created_unix_ns, run.ordinal, run.pinned};
}

std::string EncodeRunHead(const RunHead& head) {
  std::string out = Begin();
  PutVarint(head.run_id, &out);
  PutSigned(head.created_unix_ns, &out);
  PutVarint(head.ordinal, &out);
  if (head.pinned) PutVarint(1, &out);
  return out;
}

absl::StatusOr<RunHead> DecodeRunHead(std::string_view bytes) {
  auto in = Open("run", bytes);
  if (!in.ok()) return in.status();
  RunHead head;
  head.run_id = in->Varint();
  head.created_unix_ns = in->Signed();
  head.ordinal = in->Varint();
  if (in->ok() && !in->at_end()) head.pinned = in->Varint() != 0;
  if (!in->ok()) return Damaged("run", bytes);
  return head;
}

std::string EncodeHello(const StreamHello& hello) {
  std::string out = Begin();
  PutString(hello.run, &out);
  PutString(hello.launch, &out);
  PutVarint(hello.rank, &out);
  PutVarint(hello.world_size, &out);
  PutString(hello.process_nonce, &out);
  PutSigned(hello.start_time_unix_ns, &out);
  PutString(hello.host, &out);
  PutSigned(hello.pid, &out);
  PutString(hello.agent_version, &out);
  PutString(hello.torch_version, &out);
  PutVarint(hello.tags.size(), &out);
  for (const auto& [key, value] : hello.tags) {
    PutString(key, &out);
    PutString(value, &out);
  }
  return out;
}

absl::StatusOr<StreamHello> DecodeHello(std::string_view bytes) {
  auto in = Open("hello", bytes);
  if (!in.ok()) return in.status();
  StreamHello hello;
  hello.run = in->String();
  hello.launch = in->String();
  hello.rank = in->Varint32();
  hello.world_size = in->Varint32();
  hello.process_nonce = in->String();
  hello.start_time_unix_ns = in->Signed();
  hello.host = in->String();
  hello.pid = in->Signed();
  hello.agent_version = in->String();
  hello.torch_version = in->String();
  const std::uint64_t tags = in->Varint();
  for (std::uint64_t i = 0; i < tags && in->ok(); ++i) {
    std::string key(in->String());
    hello.tags[std::move(key)] = in->String();
  }
  if (!in->ok()) return Damaged("hello", bytes);
  return hello;
}

std::string EncodeCursor(const StreamEntry& stream) {
  std::string out = Begin();
  PutVarint(stream.durable_seq, &out);
  PutVarint(stream.stored_steps, &out);
  PutVarint(stream.skipped_steps, &out);
  PutVarint(stream.lost_steps, &out);
  PutVarint(stream.bytes, &out);
  PutVarint(stream.rejected_records, &out);
  PutVarint(stream.schema_id, &out);
  PutSigned(stream.last_seen_unix_ns, &out);
  PutVarint(stream.branches.size(), &out);
  PutVarint(stream.end.has_value() ? 1 : 0, &out);
  if (stream.end.has_value()) {
    PutVarint(static_cast<std::uint64_t>(stream.end->reason), &out);
    PutSigned(stream.end->wall_time_unix_ns, &out);
    PutVarint(stream.end->steps_seen, &out);
    PutVarint(stream.end->steps_recorded, &out);
    PutVarint(stream.end->steps_skipped, &out);
    PutVarint(stream.end->steps_lost, &out);
  }
  if (stream.optimizers.empty()) return out;
  PutVarint(stream.optimizers.size(), &out);
  for (const std::string& type : stream.optimizers) PutString(type, &out);
  return out;
}

absl::Status DecodeCursor(std::string_view bytes, StreamEntry* stream) {
  auto in = Open("cursor", bytes);
  if (!in.ok()) return in.status();
  stream->durable_seq = in->Varint();
  stream->stored_steps = in->Varint();
  stream->skipped_steps = in->Varint();
  stream->lost_steps = in->Varint();
  stream->bytes = in->Varint();
  stream->rejected_records = in->Varint();
  stream->schema_id = in->Varint32();
  stream->last_seen_unix_ns = in->Signed();
  const std::uint64_t branches = in->Varint();
  if (in->Varint() != 0) {
    EndData end;
    end.reason = static_cast<EndReason>(in->Varint() & 0xff);
    end.wall_time_unix_ns = in->Signed();
    end.steps_seen = in->Varint();
    end.steps_recorded = in->Varint();
    end.steps_skipped = in->Varint();
    end.steps_lost = in->Varint();
    stream->end = end;
  }
  if (in->ok() && !in->at_end()) {
    const std::uint64_t optimizers = in->Varint();
    for (std::uint64_t i = 0; i < optimizers && in->ok(); ++i) {
      stream->optimizers.emplace_back(in->String());
    }
  }
  if (!in->ok() || branches == 0 || branches > kMaxBranches) {
    return Damaged("cursor", bytes);
  }
  stream->branches.resize(branches);
  for (std::uint32_t i = 0; i < branches; ++i) stream->branches[i].branch = i;
  return absl::OkStatus();
}

std::string EncodeBranch(const Branch& branch) {
  std::string out = Begin();
  PutSigned(branch.first_step, &out);
  PutSigned(branch.last_step, &out);
  PutVarint(branch.rows, &out);
  const bool shrunk = branch.rolled_up_end > 0;
  if (branch.rollback_step >= 0 || shrunk) {
    PutSigned(branch.rollback_step, &out);
  }
  if (shrunk) {
    PutSigned(branch.rolled_up_end, &out);
    PutVarint(branch.rolled_up_steps, &out);
  }
  return out;
}

absl::StatusOr<Branch> DecodeBranch(std::string_view bytes) {
  auto in = Open("branch", bytes);
  if (!in.ok()) return in.status();
  Branch branch;
  branch.first_step = in->Signed();
  branch.last_step = in->Signed();
  branch.rows = in->Varint();
  if (!in->at_end()) branch.rollback_step = in->Signed();
  if (!in->at_end()) {
    branch.rolled_up_end = in->Signed();
    branch.rolled_up_steps = in->Varint();
  }
  if (!in->ok()) return Damaged("branch", bytes);
  return branch;
}

std::string EncodeSealed(const Sealed& sealed) {
  std::string out = Begin();
  PutSigned(sealed.end, &out);
  PutVarint(sealed.rows, &out);
  PutVarint(sealed.windows, &out);
  PutSigned(sealed.chapter_first, &out);
  PutVarint(sealed.chapter_windows, &out);
  PutVarint(sealed.chapter_steps, &out);
  return out;
}
absl::StatusOr<Sealed> DecodeSealed(std::string_view bytes) {
  auto in = Open("sealed", bytes);
  if (!in.ok()) return in.status();
  Sealed sealed;
  sealed.end = in->Signed();
  sealed.rows = in->Varint();
  sealed.windows = in->Varint();
  sealed.chapter_first = in->Signed();
  sealed.chapter_windows = in->Varint32();
  if (in->at_end()) {
    sealed.chapter_windows = 0;  // Of another size: they make no chapter.
  } else {
    sealed.chapter_steps = in->Varint32();
  }
  if (!in->ok()) return Damaged("sealed", bytes);
  return sealed;
}

std::string EncodeGapValue(const GapData& gap) {
  std::string out = Begin();
  PutVarint(static_cast<std::uint64_t>(gap.cause), &out);
  PutSigned(gap.first_step, &out);
  PutSigned(gap.last_step, &out);
  PutVarint(gap.steps, &out);
  PutString(gap.detail, &out);
  return out;
}

absl::StatusOr<GapData> DecodeGapValue(std::string_view bytes) {
  auto in = Open("gap", bytes);
  if (!in.ok()) return in.status();
  GapData gap;
  gap.cause = static_cast<GapCause>(in->Varint() & 0xff);
  gap.first_step = in->Signed();
  gap.last_step = in->Signed();
  gap.steps = in->Varint();
  gap.detail = in->String();
  if (!in->ok()) return Damaged("gap", bytes);
  return gap;
}

}  // namespace gradtap::server
