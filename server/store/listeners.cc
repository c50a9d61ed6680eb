#include "server/store/listeners.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace gradtap::server {

int Listeners::Add(Listener listener) {
  auto entry = std::make_shared<Entry>();
  entry->call = std::move(listener);
  MutexLock lock(mu_);
  entry->id = next_id_++;
  entries_.push_back(std::move(entry));
  return next_id_ - 1;
}

void Listeners::Remove(int id) {
  MutexLock lock(mu_);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [id](const auto& entry) { return entry->id == id; });
  if (found == entries_.end()) return;
  const std::shared_ptr<Entry> entry = *found;
  entries_.erase(found);
  entry->removed = true;
  while (entry->in_flight > 0) {
    idle_.WaitUntil(mu_,
                    std::chrono::steady_clock::now() + std::chrono::seconds(1));
  }
}

void Listeners::Notify(const std::string& run) {
  std::vector<std::shared_ptr<Entry>> entries;
  {
    MutexLock lock(mu_);
    entries = entries_;
  }
  for (const auto& entry : entries) {
    {
      MutexLock lock(mu_);
      if (entry->removed) continue;
      ++entry->in_flight;
    }
    entry->call(run);
    MutexLock lock(mu_);
    if (--entry->in_flight == 0) idle_.NotifyAll();
  }
}

}  // namespace gradtap::server
