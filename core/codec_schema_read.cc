// Schemas, from bytes that nobody has checked.

#include <algorithm>

#include "core/codec.h"
#include "core/codec_check.h"
#include "core/limits.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using codec::FitsUint32;
using codec::Malformed;
using wire::Reader;
using wire::Type;

// Of a schema, for each parameter that it may have. Aliases and sizes may stand
// with one parameter: two bytes of a peer's would take 32, one would take 8.
constexpr std::size_t kAliasesPerParameter = 4;
constexpr std::size_t kSizesPerParameter = 16;
// Of a parameter: a role of a newer version takes a byte and is left out.
constexpr std::size_t kMaxRoles = 64;

// What a schema may still hold.
struct Room {
  std::size_t aliases;
  std::size_t sizes;
};

bool AnyNumber(std::uint64_t) { return true; }

absl::Status NoRoom(std::string_view what) {
  return absl::ResourceExhaustedError(
      absl::StrCat("Schema: has more ", std::string(what),
                   " than as many parameters as are allowed would have"));
}

// The text field of `p` that a field number names, or null.
std::string* TextField(std::uint32_t number, Parameter* p) {
  namespace field = wire::parameter;
  switch (number) {
    case field::kName:
      return &p->name;
    case field::kModulePath:
      return &p->module_path;
    case field::kModuleType:
      return &p->module_type;
    case field::kDtype:
      return &p->dtype;
    case field::kDevice:
      return &p->device;
    case field::kLayout:
      return &p->layout;
    case field::kUnsupportedReason:
      return &p->unsupported_reason;
    default:
      return nullptr;
  }
}

// Roles of a newer version are left out: no step that this one reads has them.
absl::Status ReadRoles(const Reader& reader, Parameter* p) {
  std::vector<std::uint32_t> values;
  if (!codec::AppendNumbers(reader, &values, FitsUint32, kMaxRoles)) {
    return Malformed("Parameter", "its roles are malformed");
  }
  for (const std::uint32_t value : values) {
    const Role role = codec::RoleOf(value);
    if (role == Role::kUnspecified) continue;
    if (p->HasRole(role)) {
      return Malformed("Parameter", "lists a role twice");
    }
    p->roles.push_back(role);
  }
  return absl::OkStatus();
}

void ReadNumber(std::uint32_t number, std::uint64_t value, Parameter* p) {
  namespace field = wire::parameter;
  switch (number) {
    case field::kKind:
      p->kind = value <= 2 ? static_cast<Kind>(value) : Kind::kUnspecified;
      break;
    case field::kPlacement:
      p->placement =
          value <= 2 ? static_cast<Placement>(value) : Placement::kUnspecified;
      break;
    case field::kRequiresGrad:
      p->requires_grad = value != 0;
      break;
    case field::kNumel:
      p->numel = value;
      break;
    case field::kBytes:
      p->bytes = value;
      break;
    default:
      break;  // Of a newer version.
  }
}

absl::Status ReadShape(const Reader& reader, Parameter* p, Room* room) {
  const std::size_t before = p->shape.size();
  const std::size_t most = before + room->sizes;
  // A packed field has a size a byte, or fewer.
  const bool may_be_more =
      reader.type() == Type::kBytes && reader.bytes().size() > room->sizes;
  if (!codec::AppendNumbers(reader, &p->shape, AnyNumber, most)) {
    return may_be_more || room->sizes == 0
               ? NoRoom("sizes in shapes")
               : Malformed("Parameter", "its shape is malformed");
  }
  room->sizes -= p->shape.size() - before;
  return absl::OkStatus();
}

absl::Status ReadField(const Reader& reader, Parameter* p, Room* room) {
  namespace field = wire::parameter;
  if (reader.number() == field::kShape && codec::IsPackedOrVarint(reader)) {
    return ReadShape(reader, p, room);
  }
  if (reader.number() == field::kRoles && codec::IsPackedOrVarint(reader)) {
    return ReadRoles(reader, p);
  }
  if (reader.type() == Type::kVarint) {
    ReadNumber(reader.number(), reader.value(), p);
    return absl::OkStatus();
  }
  if (reader.type() != Type::kBytes) return absl::OkStatus();
  std::string* text = TextField(reader.number(), p);
  if (reader.number() == field::kAliases) {
    if (room->aliases == 0) return NoRoom("aliases");
    --room->aliases;
    text = &p->aliases.emplace_back();
  }
  if (text == nullptr) return absl::OkStatus();
  const std::string_view error = codec::TextError(reader.bytes());
  if (!error.empty()) {
    return Malformed(
        absl::StrCat("Parameter: the text of field ", reader.number()), error);
  }
  *text = std::string(reader.bytes());
  return absl::OkStatus();
}

absl::Status ReadParameter(std::string_view body, Parameter* p, Room* room) {
  p->kind = Kind::kUnspecified;
  p->placement = Placement::kUnspecified;
  Reader reader(body);
  while (reader.Next()) {
    const absl::Status status = ReadField(reader, p, room);
    if (!status.ok()) return status;
  }
  if (!reader.ok()) return Malformed("Parameter", reader.error());
  if (p->name.empty()) return Malformed("Parameter", "has no name");
  const auto is_empty = [](const std::string& s) { return s.empty(); };
  if (std::any_of(p->aliases.begin(), p->aliases.end(), is_empty)) {
    return Malformed("Parameter", "has an alias without a name");
  }
  const auto is_negative = [](std::int64_t size) { return size < 0; };
  if (std::any_of(p->shape.begin(), p->shape.end(), is_negative)) {
    return Malformed("Parameter", "has a negative size in its shape");
  }
  return absl::OkStatus();
}

absl::Status ReadOptimizer(std::string_view text,
                           std::vector<std::string>* optimizers) {
  if (optimizers->size() == kMaxSchemaOptimizers) {
    return Malformed(
        "Schema",
        absl::StrCat("names more than ", kMaxSchemaOptimizers, " optimizers"));
  }
  const std::string_view error =
      text.empty() ? "is empty" : codec::TextError(text);
  if (!error.empty()) return Malformed("Schema: an optimizer's type", error);
  optimizers->emplace_back(text);
  return absl::OkStatus();
}

absl::Status CheckUnique(const std::vector<Parameter>& parameters) {
  std::vector<std::string_view> names;
  names.reserve(parameters.size());
  for (const Parameter& p : parameters) names.push_back(p.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return Malformed(
      "Schema", absl::StrCat("has the parameter '", EscapeForTerminal(*twice),
                             "' twice"));
}

absl::Status CheckParameterCount(std::string_view body, std::size_t limit,
                                 std::size_t* count) {
  *count = 0;
  Reader reader(body);
  while (reader.Next()) {
    *count += reader.Is(wire::schema::kParameters, Type::kBytes) ? 1 : 0;
  }
  if (!reader.ok()) return Malformed("Schema", reader.error());
  if (*count <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "Schema: has ", *count, " parameters; at most ", limit, " are allowed"));
}

}  // namespace

absl::StatusOr<Schema> DecodeSchema(std::string_view body,
                                    std::size_t max_parameters) {
  namespace field = wire::schema;
  Schema schema;
  std::size_t count = 0;
  absl::Status status = CheckParameterCount(body, max_parameters, &count);
  if (!status.ok()) return status;
  schema.parameters.reserve(count);
  max_parameters = std::min(max_parameters, kMaxSchemaParameters);
  Room room{max_parameters * kAliasesPerParameter,
            max_parameters * kSizesPerParameter};
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kSchemaId, Type::kVarint)) {
      if (!FitsUint32(reader.value())) {
        return Malformed("Schema", "its id exceeds 32 bits");
      }
      schema.schema_id = static_cast<std::uint32_t>(reader.value());
    } else if (reader.Is(field::kFingerprint, Type::kFixed64)) {
      schema.fingerprint = reader.value();
    } else if (reader.Is(field::kParameters, Type::kBytes)) {
      status = ReadParameter(reader.bytes(), &schema.parameters.emplace_back(),
                             &room);
      if (!status.ok()) return status;
    } else if (reader.Is(field::kOptimizers, Type::kBytes)) {
      status = ReadOptimizer(reader.bytes(), &schema.optimizers);
      if (!status.ok()) return status;
    }
  }
  status = CheckUnique(schema.parameters);
  if (!status.ok()) return status;
  return schema;
}

}  // namespace gradtap
