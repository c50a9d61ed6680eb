// Opens sealed windows in the database.
//
// Layer: server/store. Any thread.

#ifndef GRADTAP_SERVER_STORE_ROCKSDB_WINDOW_H_
#define GRADTAP_SERVER_STORE_ROCKSDB_WINDOW_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/step_scan.h"
#include "server/store/window/sealed_window.h"

namespace gradtap::server {

// The window of that timeline, which stands at `place`. It keeps the engine
// open. kNotFound if its schema is not there. Reading a value that has been
// taken since the place was learned is kUnavailable: whoever asks again sees
// that there are none.
absl::StatusOr<std::shared_ptr<SealedWindow>> OpenWindow(
    const std::shared_ptr<Engine>& engine, const BranchKey& branch,
    const WindowPlace& place, std::string timeline,
    const LayoutOfSchema& layout_of);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROCKSDB_WINDOW_H_
