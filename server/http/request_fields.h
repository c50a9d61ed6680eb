// The parameters of a URL as the fields of a request:
// "run=mnist&ranks=0&ranks=1&steps.first=100".
//
// Layer: server/http. This file: std, absl, protobuf; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_REQUEST_FIELDS_H_
#define GRADTAP_SERVER_HTTP_REQUEST_FIELDS_H_

#include <google/protobuf/message.h>

#include <map>
#include <string>

#include "absl/status/status.h"

namespace gradtap::server {

using UrlParameters = std::multimap<std::string, std::string>;

// Sets the fields of `request`. A name is that of a field, as the .proto file
// or JSON spells it; a field of a message in a field stands behind a dot; one
// that repeats may come more than once. Enums are named in full or by what
// follows their type's prefix, in any case: ROLE_GRAD, grad. kInvalidArgument
// names the parameter, its value and what may stand there.
absl::Status SetFields(const UrlParameters& parameters,
                       google::protobuf::Message* request);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_REQUEST_FIELDS_H_
