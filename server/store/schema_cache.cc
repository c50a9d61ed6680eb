#include "server/store/schema_cache.h"

namespace gradtap::server {

std::shared_ptr<const Schema> SchemaCache::Find(StreamId stream,
                                                std::uint32_t id) {
  MutexLock lock(mu_);
  const auto found = index_.find({stream, id});
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->schema;
}

void SchemaCache::Insert(StreamId stream, std::uint32_t id,
                         std::shared_ptr<const Schema> schema) {
  MutexLock lock(mu_);
  const Key key{stream, id};
  if (index_.count(key) != 0) return;
  parameters_ += schema->parameters.size();
  entries_.push_front({key, std::move(schema)});
  index_[key] = entries_.begin();
  while (parameters_ > capacity_parameters_ && entries_.size() > 1) {
    parameters_ -= entries_.back().schema->parameters.size();
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

}  // namespace gradtap::server
