// Keys that belong to no run, stream or branch of the catalog, or are of no
// kind.
//
// Layer: server/store/verify. One thread.

#ifndef GRADTAP_SERVER_STORE_VERIFY_STRAY_CHECK_H_
#define GRADTAP_SERVER_STORE_VERIFY_STRAY_CHECK_H_

#include "server/store/catalog.h"
#include "server/store/engine.h"
#include "server/store/verify/findings.h"

namespace gradtap::server {

// Reads one key of each branch and kind, and all of the small family
// "default".
void CheckStrays(const Engine& engine, const Catalog& catalog,
                 Findings* findings);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_STRAY_CHECK_H_
