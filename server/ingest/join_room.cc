#include "server/ingest/join_room.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

namespace gradtap::server {

std::shared_ptr<JoinRoom> JoinRoom::Create(std::uint64_t of_a_client) {
  return std::shared_ptr<JoinRoom>(new JoinRoom(of_a_client));
}

std::unique_ptr<JoinRoom::Place> JoinRoom::Ask(const std::string& client,
                                               std::uint64_t bytes,
                                               std::uint64_t held) {
  std::unique_ptr<Place> place(new Place(shared_from_this(), client,
                                         std::min(bytes, of_a_client_), held));
  {
    MutexLock lock(mu_);
    waiting_.push_back(place.get());
    Grant();
    if (place->taken_ || !HoldsTooMuch(*place)) return place;
  }
  return nullptr;  // Which leaves.
}

bool JoinRoom::HoldsTooMuch(const Place& next) const {
  std::uint64_t of_client = 0, of_all = 0;
  for (const Place* const place : waiting_) {
    of_all += place->held_;
    if (place->client_ == next.client_) of_client += place->held_;
  }
  return of_client > of_a_client_ || of_all > 2 * of_a_client_;
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
    waiting_.erase(it);
    EndTurn(next->client_);
    it = waiting_.begin();
    full.clear();
  }
}

void JoinRoom::EndTurn(const std::string& client) {
  std::list<Place*> behind;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto next = std::next(it);
    if ((*it)->client_ == client) behind.splice(behind.end(), waiting_, it);
    it = next;
  }
  waiting_.splice(waiting_.end(), behind);
}

}  // namespace gradtap::server
