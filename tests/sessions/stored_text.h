// What a store has of a run, as text: all of it that a reader could see, to the
// last bit, and nothing that depends on when or where it was stored.
//
// Layer: tests. No grpc, no protobuf.

#ifndef GRADTAP_TESTS_SESSIONS_STORED_TEXT_H_
#define GRADTAP_TESTS_SESSIONS_STORED_TEXT_H_

#include <string>

#include "server/store/store.h"

namespace gradtap::server::testing {

// Of a long list the first lines, and a digest of all. Throws
// std::runtime_error if something cannot be read. A run that is not there:
// "no run\n".
std::string StoredText(Store* store, const std::string& run);

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SESSIONS_STORED_TEXT_H_
