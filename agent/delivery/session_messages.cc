// What a session says of itself.

#include <algorithm>

#include "agent/delivery/session.h"
#include "core/codec.h"

namespace gradtap::agent {

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

std::string Session::HoleGap() {
  if (!options_.declare_holes || hole_from_ == 0) return {};
  // The first record of all is a schema.
  bool has_schema = hole_from_ > 1;
  const std::uint64_t first = source_->first_seq();
  const std::uint64_t records = first - hole_from_ - (has_schema ? 0 : 1);
  GapData gap;
  gap.cause = GapCause::kIoError;
  gap.detail = "neither the collector nor what the process has left has them";
  bool begun = false;
  EntryView entry;
  for (std::uint64_t seq = first; source_->Read(seq, &entry); ++seq) {
    const EntryMeta& meta = entry.meta;
    if (begun && meta.kind != EntryKind::kStep) break;
    has_schema |= meta.kind == EntryKind::kSchema;
    if (meta.kind != EntryKind::kStep) continue;
    if (!begun) {
      const std::int64_t most = std::max<std::int64_t>(meta.step, 0);
      gap.steps =
          std::min(records / meta.part_count, static_cast<std::uint64_t>(most));
      gap.first_step = meta.step - static_cast<std::int64_t>(gap.steps);
      gap.last_step = meta.step - 1;
      begun = true;
    }
    if (has_schema) break;
    // No collector takes a step without the schema that it refers to.
    gap.last_step = meta.step;
    gap.steps += meta.recorded_steps;
  }
  return gap.steps == 0 ? std::string() : EncodeGap(gap);
}

}  // namespace gradtap::agent
