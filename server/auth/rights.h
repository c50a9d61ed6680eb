// What a caller may do, and what each call needs.
//
// Layer: server/auth. This file: std, absl; no grpc. Pure functions.

#ifndef GRADTAP_SERVER_AUTH_RIGHTS_H_
#define GRADTAP_SERVER_AUTH_RIGHTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace gradtap::server {

enum class Right : std::uint8_t {
  kNone = 0,   // Whoever reaches the collector may call it.
  kWrite = 1,  // An agent's.
  kRead = 2,
  kAdmin = 4,  // Has the two others, too.
};

// "write".
std::string_view NameOf(Right right);

// Any of the three.
class Rights {
 public:
  Rights() = default;
  static Rights All() { return Rights(7); }

  void Add(Right right) {
    bits_ |= right == Right::kAdmin ? 7 : static_cast<std::uint8_t>(right);
  }
  bool Has(Right right) const {
    return (bits_ & static_cast<std::uint8_t>(right)) ==
           static_cast<std::uint8_t>(right);
  }
  bool empty() const { return bits_ == 0; }
  bool operator==(const Rights&) const = default;

 private:
  explicit Rights(std::uint8_t bits) : bits_(bits) {}
  std::uint8_t bits_ = 0;
};

// "write,read"; "admin" alone, as it has the others.
std::string ToString(Rights rights);
// kInvalidArgument names what is no right.
absl::StatusOr<Rights> ParseRights(std::string_view text);

// What a method of gRPC is, for everybody who asks: /api/v1/METHOD of HTTP is
// /gradtap.v1.Query/METHOD.
struct MethodRight {
  std::string_view path;  // "/gradtap.v1.Query/ListRuns".
  Right right;
  // Tells of all runs, or changes them: not for a token that is limited to
  // some.
  bool of_all_runs = false;
};

// Null: there is no such method. A test holds the table against the services'
// descriptors.
const MethodRight* FindMethod(std::string_view path);
const std::vector<MethodRight>& AllMethods();

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_RIGHTS_H_
