// The parameter table as plain data, shared by capture, codec and readers.
//
// Layer: core.

#ifndef GRADTAP_CORE_SCHEMA_H_
#define GRADTAP_CORE_SCHEMA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/record.h"

namespace gradtap {

// Values are the wire's (gradtap.v1.Kind, gradtap.v1.Placement).
enum class Kind : std::uint8_t {
  kUnspecified = 0,
  kParameter = 1,
  kBuffer = 2
};
enum class Placement : std::uint8_t {
  kUnspecified = 0,
  kReplicated = 1,
  kSharded = 2,
};

// One parameter or buffer. The fields are those of gradtap.v1.Parameter; names
// are safe (SafeName) by the time they are here.
struct Parameter {
  std::string name;
  Kind kind = Kind::kParameter;
  std::string module_path;
  std::string module_type;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string device;
  std::string layout;
  bool requires_grad = false;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> aliases;
  Placement placement = Placement::kReplicated;
  std::vector<Role> roles;
  std::string unsupported_reason;

  bool HasRole(Role role) const {
    for (const Role r : roles) {
      if (r == role) return true;
    }
    return false;
  }
};

struct Schema {
  std::uint32_t schema_id = 0;
  std::vector<Parameter> parameters;
  std::uint64_t fingerprint = 0;  // Of the parameters alone.
  // Types, in the order of their first use; empty: unknown. Safe, like names.
  std::vector<std::string> optimizers;
};

}  // namespace gradtap

#endif  // GRADTAP_CORE_SCHEMA_H_
