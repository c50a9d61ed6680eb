#include "server/limits/client_places.h"

namespace gradtap::server {

std::unique_ptr<ClientPlaces::Place> ClientPlaces::Take(
    const std::string& client) {
  MutexLock lock(mu_);
  if (taken_ >= most_) return nullptr;
  std::size_t& of_client = of_client_[client];
  if (of_client >= of_a_client_) return nullptr;
  ++of_client;
  ++taken_;
  return std::unique_ptr<Place>(new Place(this, client));
}

void ClientPlaces::Leave(const std::string& client) {
  MutexLock lock(mu_);
  --taken_;
  const auto of = of_client_.find(client);
  if (--of->second == 0) of_client_.erase(of);
}

}  // namespace gradtap::server
