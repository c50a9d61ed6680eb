// What a session says of itself, and what it sends of records.

#include <algorithm>
#include <optional>
#include <string_view>

#include "agent/delivery/session.h"
#include "agent/spool/hole.h"
#include "core/codec.h"

namespace gradtap::agent {
namespace {

// Adds an entry to the record that it is a part of, or all of. True: that is
// complete.
bool Join(const EntryView& entry, std::string* record) {
  if (entry.meta.part_index == 0) record->clear();
  if (entry.meta.part_count == 1) {
    record->append(entry.bytes);
    return true;
  }
  const auto view = ParseRecord(entry.bytes);
  if (!view.ok() || view->kind != RecordKind::kPart) return false;
  const auto part = DecodePart(view->body);
  if (!part.ok()) return false;
  record->append(part->data);
  return entry.meta.part_index + 1 == entry.meta.part_count;
}

// A step without statistics, in one part, needs none.
bool NeedsSchema(const EntryMeta& meta) {
  return meta.kind == EntryKind::kStep &&
         (meta.recorded_steps > 0 || meta.part_count > 1);
}

// That a step refers to, or that a schema has; none: it is neither.
std::optional<std::uint32_t> SchemaIdOf(std::string_view record) {
  const auto view = ParseRecord(record);
  if (!view.ok()) return std::nullopt;
  if (view->kind == RecordKind::kStep) {
    const auto step = StepView::Parse(view->body);
    if (step.ok()) return step->schema_id();
  } else if (view->kind == RecordKind::kSchema) {
    const auto schema = DecodeSchema(view->body);
    if (schema.ok()) return schema->schema_id;
  }
  return std::nullopt;
}

}  // namespace

v1::AgentMessage Session::MakeHello() const {
  v1::AgentMessage message;
  v1::Hello* const hello = message.mutable_hello();
  hello->set_protocol_version(1);
  hello->set_run(options_.run);
  hello->set_launch(options_.launch);
  hello->set_rank(options_.rank);
  hello->set_world_size(options_.world_size);
  hello->set_process_nonce(options_.process_nonce);
  hello->set_start_time_unix_ns(options_.start_time_unix_ns);
  hello->set_schema_fingerprint(books_->schema_fingerprint());
  hello->set_first_seq(source_->first_seq());
  hello->set_last_seq(std::max(source_->last_seq(), source_->first_seq() - 1));
  hello->set_agent_version(options_.agent_version);
  hello->set_torch_version(options_.torch_version);
  hello->set_host(options_.host);
  hello->set_pid(options_.pid);
  for (const auto& [key, value] : options_.tags) {
    v1::Tag* const tag = hello->add_tags();
    tag->set_key(key);
    tag->set_value(value);
  }
  return message;
}

v1::AgentMessage Session::MakeHeartbeat() const {
  const DeliveryCounters c = books_->Snapshot();
  v1::AgentMessage message;
  v1::Heartbeat* const heartbeat = message.mutable_heartbeat();
  heartbeat->set_wall_time_unix_ns(clock_->UnixNanos());
  heartbeat->set_steps_seen(c.steps_seen);
  heartbeat->set_steps_recorded(c.steps_recorded);
  heartbeat->set_steps_skipped(c.steps_skipped);
  heartbeat->set_steps_lost(c.steps_lost);
  heartbeat->set_last_seq(source_->last_seq());
  return message;
}

std::uint32_t Session::FillContent(std::size_t max_bytes, bool at_least_one,
                                   std::string* content) {
  filled_in_call_ = true;
  std::uint32_t records = 0;
  const auto fits = [&](std::size_t bytes) {
    return (records == 0 && at_least_one) ||
           content->size() + bytes + RecordListOverhead(bytes) <= max_bytes;
  };
  unreadable_seq_ = 0;
  for (; send_next_ < source_->first_seq(); ++send_next_, ++records) {
    std::string record = history_.Replacement(send_next_);
    if (record.empty() && send_next_ < known_from_) {
      if (!FindHoleNext()) return records;
      record = InHole(send_next_);
    }
    if (!fits(record.size())) return records;
    AppendToRecordList(record, content);
  }
  EntryView entry;
  while (source_->Read(send_next_, &entry)) {
    std::string given_up;
    std::string_view bytes = entry.bytes;
    const bool gives_up = send_next_ < schema_seq_ && NeedsSchema(entry.meta);
    if (gives_up) bytes = given_up = GivenUp(entry.meta);
    if (!fits(bytes.size())) break;
    if (gives_up) source_->MarkRejected(send_next_);
    AppendToRecordList(bytes, content);
    ++send_next_;
    ++records;
  }
  unreadable_seq_ = send_next_;
  return records;
}

bool Session::FindHoleNext() {
  if (hole_next_read_ || !options_.declare_holes) return true;
  EntryView entry;
  for (std::uint64_t seq = source_->first_seq(); seq <= source_->last_seq();
       ++seq) {
    if (!source_->Read(seq, &entry)) {
      unreadable_seq_ = seq;
      return false;
    }
    if (NoteHoleNext(entry.meta)) break;
  }
  hole_next_read_ = true;
  return true;
}

bool Session::NoteHoleNext(const EntryMeta& meta) {
  if (!hole_next_) hole_next_ = FirstPlace(meta);
  if (!hole_next_ || meta.kind != EntryKind::kStep) return false;
  hole_next_->parts = meta.part_count;
  return hole_next_read_ = true;
}

std::string Session::InHole(std::uint64_t seq) const {
  if (!hole_next_) return {};
  const KeptSchema& schema = options_.schema;
  Hole hole;
  hole.records =
      known_from_ - hole_from_ - schema.Within(hole_from_, known_from_);
  // The first record of all is a schema.
  hole.from_start = hole_from_ == 1;
  if (hole.from_start && !schema.Has(1)) --hole.records;
  hole.next = *hole_next_;
  hole.detail = "neither the collector nor what the process has left has them";
  const std::uint64_t behind =
      known_from_ - 1 - seq - schema.Within(seq, known_from_);
  return RecordOfHole(hole, behind).bytes;
}

bool Session::SchemaFits() {
  std::string record;
  const KeptSchema& schema = options_.schema;
  for (std::uint64_t seq = schema.first_seq; schema.Has(seq); ++seq) {
    (void)Join(schema.At(seq), &record);
  }
  const std::optional<std::uint32_t> id = SchemaIdOf(record);
  EntryView entry;
  for (std::uint64_t seq = source_->first_seq(); source_->Read(seq, &entry);
       ++seq) {
    if (entry.meta.kind == EntryKind::kSchema) return true;
    if (entry.meta.kind != EntryKind::kStep || !Join(entry, &record)) continue;
    if (entry.meta.recorded_steps == 0) continue;
    const std::optional<std::uint32_t> wanted = SchemaIdOf(record);
    if (wanted) return wanted == id;
  }
  return true;
}

bool Session::FindSchema() {
  schema_seq_ = steps_without_schema_ = 0;
  EntryView first;
  unreadable_seq_ = source_->first_seq();
  unreadable_ = !drained() && !source_->Read(unreadable_seq_, &first);
  if (unreadable_) return false;
  if (options_.schema.first_seq != 0 && SchemaFits()) return true;
  std::uint32_t parts = 0;
  EntryView entry;
  std::uint64_t seq = source_->first_seq();
  for (; source_->Read(seq, &entry); ++seq) {
    const EntryMeta& meta = entry.meta;
    steps_without_schema_ += meta.recorded_steps;
    // The rest is read only if it is wanted.
    if (steps_without_schema_ > 0 && !options_.without_schema) return true;
    if (meta.kind != EntryKind::kSchema) continue;
    const bool follows = meta.part_index == 0 || meta.part_index == parts;
    parts = follows ? meta.part_index + 1 : 0;
    if (parts == meta.part_count) break;
  }
  if (steps_without_schema_ > 0) schema_seq_ = seq;
  return true;
}

std::string Session::GivenUp(const EntryMeta& meta) {
  if (meta.recorded_steps == 0) return {};
  return EncodeGap({GapCause::kIoError, meta.step, meta.step, 1,
                    "its schema was not left, and was given up"});
}

}  // namespace gradtap::agent
