// Small things that delivery's tests share.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_FIXTURES_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_FIXTURES_H_

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/ring.h"
#include "agent/delivery/ring_memory.h"
#include "core/codec.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::testing {

inline std::unique_ptr<agent::Ring> MakeRing(std::size_t bytes,
                                             std::size_t reserve = 4096) {
  auto memory = agent::RingMemory::Create(bytes);
  if (!memory.ok()) throw std::runtime_error(memory.status().ToString());
  auto ring = agent::Ring::Create(*std::move(memory), reserve);
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  return *std::move(ring);
}

// A schema of `places` parameters with a gradient each.
inline Schema MakeSchema(std::uint32_t id, std::size_t places) {
  Schema schema;
  schema.schema_id = id;
  for (std::size_t i = 0; i < places; ++i) {
    Parameter p;
    p.name = "layer" + std::to_string(i) + ".weight";
    p.dtype = "float32";
    p.device = "cpu";
    p.layout = "strided";
    p.shape = {4};
    p.numel = 4;
    p.bytes = 16;
    p.roles = {Role::kGrad};
    schema.parameters.push_back(std::move(p));
  }
  schema.fingerprint = FingerprintOf(schema.parameters);
  return schema;
}

// A step with one gradient record for each of `places` parameters.
inline StepData MakeStep(std::int64_t step, std::uint32_t schema_id,
                         std::size_t places) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = 1'700'000'000'000'000'000 + step % 1'000'000;
  data.schema_id = schema_id;
  RoleColumns columns;
  columns.role = Role::kGrad;
  columns.Resize(places);
  for (std::size_t i = 0; i < places; ++i) {
    Record record;
    record.mean = static_cast<float>(step) + static_cast<float>(i) * 0.37f;
    record.std = 1.0f / (1.0f + static_cast<float>(i));
    record.abs_mean = record.mean;
    record.min = -record.mean;
    record.max = record.mean * 3.1f;
    columns.Set(i, record);
  }
  data.roles.push_back(std::move(columns));
  data.scalars.push_back({"loss", 1.0 / (static_cast<double>(step) + 1.5)});
  return data;
}

inline StepData MakeSkippedStep(std::int64_t step, GapCause cause) {
  StepData data;
  data.step = step;
  data.skipped = cause;
  data.scalars.push_back({"loss", 0.5});
  return data;
}

// All entries at hand, copied. [Threading] the consumer.
struct EntryCopy {
  std::uint64_t seq = 0;
  agent::EntryMeta meta;
  std::string bytes;
};
inline std::vector<EntryCopy> EntriesOf(const agent::Ring& ring) {
  std::vector<EntryCopy> entries;
  agent::Ring::Cursor cursor = ring.CursorAt(ring.first_seq());
  agent::EntryView view;
  while (ring.Next(&cursor, &view)) {
    entries.push_back({view.seq, view.meta, std::string(view.bytes)});
  }
  return entries;
}

// Frees the oldest `count` entries.
inline void FreeOldest(agent::Ring* ring, std::uint64_t count) {
  agent::Ring::Cursor cursor = ring->CursorAt(ring->first_seq());
  agent::EntryView view;
  std::uint64_t next = ring->first_seq();
  for (std::uint64_t i = 0; i < count && ring->Next(&cursor, &view); ++i) {
    next = view.seq + 1;
  }
  ring->FreeBefore(cursor, next);
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_DELIVERY_FIXTURES_H_
