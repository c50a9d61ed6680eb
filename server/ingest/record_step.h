// Which step a record is that is not going to be stored.
//
// Layer: server/ingest. This file: std.

#ifndef GRADTAP_SERVER_INGEST_RECORD_STEP_H_
#define GRADTAP_SERVER_INGEST_RECORD_STEP_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace gradtap::server {

// The number of the step that an encoded gradtap.v1.Record begins with;
// `head_untrusted` is as much of it as there is, of whatever follows the number
// nothing is asked. Empty: it is no step, or its number cannot be read, or is
// negative.
std::optional<std::int64_t> StepOfRecord(std::string_view head_untrusted);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_RECORD_STEP_H_
