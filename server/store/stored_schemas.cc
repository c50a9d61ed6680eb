#include "server/store/stored_schemas.h"

namespace gradtap::server {

const StoredSchemas::Entry* StoredSchemas::FindLocked(StreamId stream,
                                                      std::uint32_t id) {
  const auto found = index_.find({stream, id});
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return &*found->second;
}

std::shared_ptr<const Schema> StoredSchemas::Find(StreamId stream,
                                                  std::uint32_t id) {
  MutexLock lock(mu_);
  const Entry* entry = FindLocked(stream, id);
  return entry == nullptr ? nullptr : entry->schema;
}

std::shared_ptr<const TileLayout> StoredSchemas::FindLayout(StreamId stream,
                                                            std::uint32_t id) {
  MutexLock lock(mu_);
  const Entry* entry = FindLocked(stream, id);
  return entry == nullptr ? nullptr : entry->layout;
}

void StoredSchemas::Insert(StreamId stream, std::uint32_t id,
                           std::shared_ptr<const Schema> schema) {
  auto layout = std::make_shared<const TileLayout>(*schema);
  MutexLock lock(mu_);
  const Key key{stream, id};
  if (index_.count(key) != 0) return;
  parameters_ += schema->parameters.size();
  entries_.push_front({key, std::move(schema), std::move(layout)});
  index_[key] = entries_.begin();
  while (parameters_ > capacity_parameters_ && entries_.size() > 1) {
    parameters_ -= entries_.back().schema->parameters.size();
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

}  // namespace gradtap::server
