// Sealed windows without a database, for tests.

#ifndef GRADTAP_TESTS_SUPPORT_MEMORY_WINDOW_H_
#define GRADTAP_TESTS_SUPPORT_MEMORY_WINDOW_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/schema.h"
#include "server/store/window/sealed_window.h"

namespace gradtap::testing {

// The rows (ordinal and encoded Step), which are all of `schema`, as one
// window.
absl::StatusOr<std::shared_ptr<server::SealedWindow>> SealInMemory(
    const std::vector<std::pair<std::uint64_t, std::string>>& rows,
    const Schema& schema);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_MEMORY_WINDOW_H_
