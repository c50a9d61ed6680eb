// The catalog: which runs and streams there are and how far each has come,
// in memory, as it stands in the database.
//
// Layer: server/store. Plain data; its owner locks.

#ifndef GRADTAP_SERVER_STORE_CATALOG_H_
#define GRADTAP_SERVER_STORE_CATALOG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/catalog_codec.h"
#include "server/store/engine.h"
#include "server/store/store.h"

namespace gradtap::server {

struct CatalogRun {
  std::uint64_t run_id = 0;
  std::shared_ptr<const RunEntry> entry;
};

struct Catalog {
  std::map<std::string, CatalogRun, std::less<>> runs;
  // Which run a stream belongs to.
  std::unordered_map<StreamId, std::string> run_of;
  // Of streams that have some.
  std::unordered_map<StreamId, KeptParts> parts;
  // By stream and branch; none: nothing of it is sealed.
  std::map<std::pair<StreamId, std::uint32_t>, Sealed> sealed;
  NextIds next;

  // Null if there is none.
  const CatalogRun* FindStream(StreamId stream) const;
};

// Position of a stream in its run, or where it would stand: streams are in
// order of their ids, which is that of their first Hello.
std::size_t IndexOf(const RunEntry& run, StreamId stream);

// Reads all of it. kDataLoss if a value is damaged or refers to what is not
// there.
absl::StatusOr<Catalog> LoadCatalog(const Engine& engine);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_CATALOG_H_
