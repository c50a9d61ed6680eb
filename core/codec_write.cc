// Everything but steps: written seldom, into strings.

#include "core/codec.h"
#include "core/hash.h"
#include "core/names.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using wire::AppendBytesField;
using wire::AppendFixed64Field;
using wire::AppendTextField;
using wire::AppendVarint;
using wire::AppendVarintField;

template <typename T>
std::uint64_t Bits(T value) {
  return static_cast<std::uint64_t>(value);
}

// Text that every reader takes: within the cap as it is, else made safe.
std::string Capped(const std::string& text) {
  if (text.empty()) return text;
  return SafeName(text);
}

void AppendParameter(const Parameter& p, std::string* out) {
  namespace field = wire::parameter;
  std::string body;
  AppendTextField(field::kName, SafeName(p.name), &body);
  AppendVarintField(field::kKind, Bits(p.kind), &body);
  AppendTextField(field::kModulePath, Capped(p.module_path), &body);
  AppendTextField(field::kModuleType, Capped(p.module_type), &body);
  AppendTextField(field::kDtype, Capped(p.dtype), &body);
  std::string packed;
  for (const std::int64_t size : p.shape) AppendVarint(Bits(size), &packed);
  AppendTextField(field::kShape, packed, &body);
  AppendTextField(field::kDevice, Capped(p.device), &body);
  AppendTextField(field::kLayout, Capped(p.layout), &body);
  AppendVarintField(field::kRequiresGrad, p.requires_grad ? 1 : 0, &body);
  AppendVarintField(field::kNumel, p.numel, &body);
  AppendVarintField(field::kBytes, p.bytes, &body);
  for (const std::string& alias : p.aliases) {
    AppendBytesField(field::kAliases, SafeName(alias), &body);
  }
  AppendVarintField(field::kPlacement, Bits(p.placement), &body);
  packed.clear();
  for (const Role role : p.roles) AppendVarint(Bits(role), &packed);
  AppendTextField(field::kRoles, packed, &body);
  AppendTextField(field::kUnsupportedReason, Capped(p.unsupported_reason),
                  &body);
  AppendBytesField(wire::schema::kParameters, body, out);
}

std::string AsRecord(std::uint32_t kind, std::string_view body) {
  std::string out;
  out.reserve(body.size() + 8);
  AppendBytesField(kind, body, &out);
  return out;
}

}  // namespace

std::uint64_t FingerprintOf(const std::vector<Parameter>& parameters) {
  std::string bytes;
  for (const Parameter& p : parameters) AppendParameter(p, &bytes);
  const std::uint64_t hash = StableHash64(bytes);
  return hash == 0 ? 1 : hash;
}

std::string EncodeSchema(const Schema& schema) {
  namespace field = wire::schema;
  std::string body;
  AppendVarintField(field::kSchemaId, schema.schema_id, &body);
  for (const Parameter& p : schema.parameters) AppendParameter(p, &body);
  AppendFixed64Field(field::kFingerprint,
                     schema.fingerprint != 0 ? schema.fingerprint
                                             : FingerprintOf(schema.parameters),
                     &body);
  for (const std::string& optimizer : schema.optimizers) {
    AppendBytesField(field::kOptimizers, SafeName(optimizer), &body);
  }
  return AsRecord(wire::record::kSchema, body);
}

std::string EncodeGap(const GapData& gap) {
  std::string out;
  EncodeGap(gap, &out);
  return out;
}

void EncodeGap(const GapData& gap, std::string* out) {
  namespace field = wire::gap;
  const std::string detail = Capped(gap.detail);
  std::size_t size =
      wire::VarintFieldSize(field::kCause, Bits(gap.cause)) +
      wire::VarintFieldSize(field::kFirstStep, Bits(gap.first_step)) +
      wire::VarintFieldSize(field::kLastStep, Bits(gap.last_step)) +
      wire::VarintFieldSize(field::kSteps, gap.steps);
  if (!detail.empty()) {
    size += wire::BytesFieldSize(field::kDetail, detail.size());
  }
  out->clear();
  AppendVarint(wire::TagOf(wire::record::kGap, wire::Type::kBytes), out);
  AppendVarint(size, out);
  AppendVarintField(field::kCause, Bits(gap.cause), out);
  AppendVarintField(field::kFirstStep, Bits(gap.first_step), out);
  AppendVarintField(field::kLastStep, Bits(gap.last_step), out);
  AppendVarintField(field::kSteps, gap.steps, out);
  AppendTextField(field::kDetail, detail, out);
}

std::string EncodeRollback(const RollbackData& rollback) {
  namespace field = wire::rollback;
  std::string body;
  AppendVarintField(field::kStep, Bits(rollback.step), &body);
  AppendVarintField(field::kBranch, rollback.branch, &body);
  return AsRecord(wire::record::kRollback, body);
}

std::string EncodeEnd(const EndData& end) {
  namespace field = wire::end;
  std::string body;
  AppendVarintField(field::kReason, Bits(end.reason), &body);
  AppendFixed64Field(field::kWallTime, Bits(end.wall_time_unix_ns), &body);
  AppendVarintField(field::kStepsSeen, end.steps_seen, &body);
  AppendVarintField(field::kStepsRecorded, end.steps_recorded, &body);
  AppendVarintField(field::kStepsSkipped, end.steps_skipped, &body);
  AppendVarintField(field::kStepsLost, end.steps_lost, &body);
  return AsRecord(wire::record::kEnd, body);
}

std::string EncodePartHead(std::uint32_t index, std::uint32_t count,
                           std::size_t data_bytes) {
  namespace field = wire::part;
  std::string body;
  AppendVarintField(field::kIndex, index, &body);
  AppendVarintField(field::kCount, count, &body);
  AppendVarint(wire::TagOf(field::kData, wire::Type::kBytes), &body);
  AppendVarint(data_bytes, &body);
  std::string head;
  AppendVarint(wire::TagOf(wire::record::kPart, wire::Type::kBytes), &head);
  AppendVarint(body.size() + data_bytes, &head);
  return head + body;
}

void AppendToRecordList(std::string_view record, std::string* list) {
  AppendBytesField(wire::record_list::kRecords, record, list);
}

std::size_t RecordListOverhead(std::size_t record_bytes) {
  return wire::BytesFieldSize(wire::record_list::kRecords, record_bytes) -
         record_bytes;
}

}  // namespace gradtap
