#include "server/ingest/record_assembly.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/wire.h"

namespace gradtap::server {
namespace {

// The first byte of a record that is a schema: field and wire type.
constexpr char kSchemaHead = wire::record::kSchema << 3 | 2;
// What an agent writes around a part's data, at most.
constexpr std::uint64_t kPartHeadBytes = 16;

}  // namespace

UnfinishedRecord FindUnfinished(const KeptParts& kept,
                                std::uint64_t durable_seq,
                                std::string_view first_part) {
  UnfinishedRecord found;
  if (kept.parts == 0) return found;
  found.stored = true;
  const auto part = DecodePart(first_part);
  if (!part.ok() || part->index != 0 || kept.parts >= part->count ||
      !kept.whole() || kept.last_seq != durable_seq) {
    return found;
  }
  found.first_seq = kept.first_seq;
  found.parts = static_cast<std::uint32_t>(kept.parts);
  found.count = part->count;
  found.bytes = kept.bytes - std::min(kept.bytes, kPartHeadBytes * kept.parts);
  found.head = part->data.substr(0, kRecordHeadBytes);
  return found;
}

std::uint64_t RecordAssembly::BytesIfEndsWithin(std::uint64_t records) const {
  const std::uint64_t missing = at_.count - at_.parts;
  if (at_.parts == 0 || missing > records) return 0;
  return at_.bytes + kPartHeadBytes * at_.parts +
         std::min<std::uint64_t>(missing * kMaxPartBytes,
                                 limits_.max_batch_bytes);
}

absl::Status RecordAssembly::Begin(std::span<const std::string_view> records) {
  const std::uint64_t missing = at_.count - at_.parts;
  if (at_.parts == 0 || missing > records.size()) return absl::OkStatus();
  const auto last = ParseRecord(records[missing - 1]);
  if (!last.ok() || last->kind != RecordKind::kPart) return absl::OkStatus();
  std::uint64_t bytes = at_.bytes + kPartHeadBytes * at_.parts;
  for (std::uint64_t i = 0; i < missing; ++i) bytes += records[i].size();
  const std::uint64_t end = under_way_.empty()
                                ? at_.first_seq + at_.parts
                                : under_way_.front().parts.front().seq;
  if (end == at_.first_seq) return absl::OkStatus();
  std::string whole;
  whole.reserve(bytes);
  std::uint64_t seq = at_.first_seq;
  const absl::Status scanned = scan_(seq, end, [&](std::string_view body) {
    const auto part = DecodePart(body);
    if (!part.ok() || part->index != seq - at_.first_seq) return false;
    whole.append(part->data);
    ++seq;
    return true;
  });
  if (!scanned.ok() && !absl::IsDataLoss(scanned)) return scanned;
  damaged_ = seq != end;
  read_ = std::move(whole);
  return absl::OkStatus();
}

absl::Status RecordAssembly::Check(const PartView& part) const {
  if (part.index != at_.parts || (part.index > 0 && part.count != at_.count)) {
    return absl::InvalidArgumentError(absl::StrCat("part ", part.index, " of ",
                                                   part.count, " where part ",
                                                   at_.parts, " was expected"));
  }
  if (part.count > kMaxParts) {
    return absl::InvalidArgumentError(absl::StrCat("a record in ", part.count,
                                                   " parts; at most ",
                                                   kMaxParts, " are allowed"));
  }
  // What it is going to be stands in front; a schema is not kept beyond what a
  // schema may have.
  const bool schema =
      (part.index == 0 ? part.data[0] : at_.head[0]) == kSchemaHead;
  const std::uint64_t limit =
      schema ? limits_.max_schema_bytes : limits_.max_step_bytes;
  // Together with the few bytes around the message.
  if (at_.bytes + part.data.size() > limit + 16) {
    limits_.guards.Refused(schema ? Limit::kSchemaBytes : Limit::kStepBytes);
    return absl::InvalidArgumentError(
        absl::StrCat(schema ? "a schema" : "a record", " of more than ", limit,
                     " bytes in parts"));
  }
  return absl::OkStatus();
}

bool RecordAssembly::Add(std::uint64_t seq, std::string_view body,
                         const PartView& part) {
  if (part.index == 0) {
    at_ = {};
    at_.first_seq = seq;
    at_.count = part.count;
  }
  ++at_.parts;
  at_.bytes += part.data.size();
  at_.head.append(part.data.substr(0, kRecordHeadBytes - at_.head.size()));
  at_hand_.push_back({seq, body});
  return at_.parts == at_.count;
}

absl::StatusOr<std::string> RecordAssembly::Join(bool* drop_parts) {
  std::string whole = std::move(read_);
  const bool damaged = damaged_;
  const auto append = [&whole](const std::vector<StreamCommit::Part>& parts) {
    for (const StreamCommit::Part& part : parts) {
      whole.append(DecodePart(part.data)->data);
    }
  };
  for (const Batch& batch : under_way_) append(batch.parts);
  append(at_hand_);
  Drop(drop_parts);
  if (!damaged) return whole;
  return absl::DataLossError(
      "a record whose earlier parts cannot be read any more");
}

void RecordAssembly::Drop(bool* drop_parts) {
  under_way_.clear();
  at_hand_.clear();
  read_ = {};
  damaged_ = false;
  if (std::exchange(at_, {}).stored) *drop_parts = true;
}

std::vector<StreamCommit::Part> RecordAssembly::End(
    std::uint64_t last_seq, std::shared_ptr<const std::string> content) {
  read_ = {};  // It has not ended after all.
  damaged_ = false;
  if (at_hand_.empty()) return {};
  at_.stored = true;
  under_way_.push_back({last_seq, std::move(content), at_hand_});
  return std::exchange(at_hand_, {});
}

void RecordAssembly::OnDurable(std::uint64_t seq) {
  while (!under_way_.empty() && under_way_.front().last_seq <= seq) {
    under_way_.pop_front();
  }
}

}  // namespace gradtap::server
