// Where the pieces of a sealed branch lie, whose roll-ups stand together:
// chapters, and windows that belong to none.
//
// Layer: server/store. Any thread.

#ifndef GRADTAP_SERVER_STORE_PIECES_H_
#define GRADTAP_SERVER_STORE_PIECES_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/store.h"

namespace gradtap::server {

// The piece that has `step` strictly inside; none: one may begin there.
absl::StatusOr<std::optional<StepSpan>> PieceAround(const Engine& engine,
                                                    const BranchKey& branch,
                                                    std::int64_t step);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_PIECES_H_
