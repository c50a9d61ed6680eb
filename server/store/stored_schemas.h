// Decoded schemas and their layouts, shared by readers; the least recently used
// go first.
//
// Layer: server/store. Thread-safe.

#ifndef GRADTAP_SERVER_STORE_STORED_SCHEMAS_H_
#define GRADTAP_SERVER_STORE_STORED_SCHEMAS_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <utility>

#include "core/schema.h"
#include "core/sync.h"
#include "server/store/store.h"
#include "server/store/window/layout.h"

namespace gradtap::server {

class StoredSchemas {
 public:
  explicit StoredSchemas(std::size_t capacity_parameters)
      : capacity_parameters_(capacity_parameters) {}

  // Null if it is not here.
  std::shared_ptr<const Schema> Find(StreamId stream, std::uint32_t id)
      ABSL_LOCKS_EXCLUDED(mu_);

  // The layout of its tiles; null if it is not here.
  std::shared_ptr<const TileLayout> FindLayout(StreamId stream,
                                               std::uint32_t id)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Keeps at least this one, whatever its size.
  void Insert(StreamId stream, std::uint32_t id,
              std::shared_ptr<const Schema> schema) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Key = std::pair<StreamId, std::uint32_t>;
  struct Entry {
    Key key;
    std::shared_ptr<const Schema> schema;
    std::shared_ptr<const TileLayout> layout;
  };

  // Null if it is not here.
  const Entry* FindLocked(StreamId stream, std::uint32_t id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::size_t capacity_parameters_;
  Mutex mu_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mu_);  // Newest use first.
  std::map<Key, std::list<Entry>::iterator> index_ ABSL_GUARDED_BY(mu_);
  std::size_t parameters_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_STORED_SCHEMAS_H_
