#include "server/ingest/join_room.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace gradtap::server {

std::shared_ptr<JoinRoom> JoinRoom::Create(std::uint64_t of_a_client) {
  return std::shared_ptr<JoinRoom>(new JoinRoom(of_a_client));
}

std::unique_ptr<JoinRoom::Place> JoinRoom::Ask(const std::string& client,
                                               std::uint64_t bytes) {
  std::unique_ptr<Place> place(
      new Place(shared_from_this(), client, std::min(bytes, of_a_client_)));
  MutexLock lock(mu_);
  waiting_.push_back(place.get());
  Grant();
  return place;
}

void JoinRoom::Leave(Place* place) {
  MutexLock lock(mu_);
  if (place->taken_) {
    taken_ -= place->bytes_;
    const auto by = taken_by_.find(place->client_);
    by->second -= place->bytes_;
    if (by->second == 0) taken_by_.erase(by);
  } else {
    waiting_.remove(place);
  }
  Grant();
}

void JoinRoom::Grant() {
  const std::uint64_t of_all = of_a_client_ + of_a_client_ / 4;
  std::set<std::string_view> full;  // Clients of which one waits for the rest.
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    Place* const next = *it;
    const auto by = taken_by_.find(next->client_);
    const std::uint64_t has = by == taken_by_.end() ? 0 : by->second;
    if (full.count(next->client_) != 0 || has + next->bytes_ > of_a_client_) {
      full.insert(next->client_);
      ++it;
      continue;
    }
    if (taken_ + next->bytes_ > of_all) return;
    taken_ += next->bytes_;
    taken_by_[next->client_] += next->bytes_;
    next->taken_ = true;
    it = waiting_.erase(it);
  }
}

}  // namespace gradtap::server
