#include "agent/spool/kept_schema.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {
namespace {

EntryMeta MetaOf(const KeptSchema& schema, std::size_t part) {
  EntryMeta meta;
  meta.kind = EntryKind::kSchema;
  meta.part_index = static_cast<std::uint32_t>(part);
  meta.part_count = static_cast<std::uint32_t>(schema.records.size());
  return meta;
}

}  // namespace

EntryView KeptSchema::At(std::uint64_t seq) const {
  EntryView entry;
  entry.seq = seq;
  entry.meta = MetaOf(*this, seq - first_seq);
  entry.bytes = records[seq - first_seq];
  return entry;
}

std::uint64_t KeptSchema::Within(std::uint64_t first,
                                 std::uint64_t next) const {
  const std::uint64_t from = std::max(first, first_seq);
  const std::uint64_t to = std::min(next, next_seq());
  return to > from ? to - from : 0;
}

std::string EncodeKeptSchema(const SpoolIdentity& identity,
                             const KeptSchema& schema) {
  std::string bytes = EncodeSegmentHeader(identity);
  for (std::size_t i = 0; i < schema.records.size(); ++i) {
    const std::string& record = schema.records[i];
    bytes += EncodeRecordHead(schema.first_seq + i, MetaOf(schema, i), record);
    bytes += record;
  }
  return bytes;
}

KeptSchema ParseKeptSchema(std::string_view bytes_untrusted,
                           std::uint64_t first_seq, SpoolIdentity* identity,
                           std::string* damage) {
  SegmentContent content = ParseSegment(bytes_untrusted, first_seq);
  *identity = std::move(content.identity);
  *damage = std::move(content.damage);
  KeptSchema schema;
  schema.first_seq = first_seq;
  for (const SegmentRecord& record : content.records) {
    if (record.meta.kind != EntryKind::kSchema ||
        record.meta.part_index != schema.records.size() ||
        record.meta.part_count != content.records.size()) {
      *damage = "it is no whole schema";
      break;
    }
    schema.records.emplace_back(
        bytes_untrusted.substr(record.offset, record.size));
  }
  if (damage->empty() && schema.records.empty()) *damage = "nothing is in it";
  return damage->empty() ? schema : KeptSchema();
}

void SchemaNotes::Note(const EntryView& entry) {
  if (entry.meta.kind != EntryKind::kSchema) return;
  const std::uint64_t first = entry.seq - entry.meta.part_index;
  if (!whole_.empty() && first <= whole_.back().first_seq) return;
  if (first != begun_.first_seq) begun_ = {first, {}};
  if (entry.meta.part_index != begun_.records.size()) return;
  begun_.records.emplace_back(entry.bytes);
  if (begun_.records.size() < entry.meta.part_count) return;
  whole_.push_back(std::exchange(begun_, {}));
}

void SchemaNotes::FreeBefore(std::uint64_t next_seq) {
  while (whole_.size() > 1 && whole_[1].first_seq <= next_seq) {
    whole_.erase(whole_.begin());
  }
}

}  // namespace gradtap::agent
