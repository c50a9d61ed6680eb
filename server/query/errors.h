// What a query answers when it cannot: one clear line that names the value and
// the nearest known one. Names from a request are escaped.
//
// Layer: server/query. This file: std, absl.

#ifndef GRADTAP_SERVER_QUERY_ERRORS_H_
#define GRADTAP_SERVER_QUERY_ERRORS_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace gradtap::server {

// 'name', escaped for a terminal and at most about 128 bytes.
std::string Quote(std::string_view name);

// kNotFound: "no KIND 'NAME'; the nearest known one is 'OTHER'".
absl::Status NotFoundNearest(std::string_view kind, std::string_view name,
                             const std::vector<std::string>& known);

// kNotFound: "no run 'NAME'". It names no other run, as not everybody may know
// of them: who knows the caller adds the nearest one with WithNearestRun().
absl::Status UnknownRun(std::string_view name);

// An UnknownRun() as NotFoundNearest() of `known()`, the runs that whoever
// reads it may know of; any other status as it is.
absl::Status WithNearestRun(
    const absl::Status& status,
    const std::function<std::vector<std::string>()>& known);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_ERRORS_H_
