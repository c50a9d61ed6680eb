#include "server/limits/client_places.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace gradtap::server {

absl::StatusOr<std::unique_ptr<ClientPlaces::Place>> ClientPlaces::Take(
    const std::string& client, bool* by_itself) {
  MutexLock lock(mu_);
  const auto of = of_client_.find(client);
  const bool has_all = of != of_client_.end() && of->second >= of_a_client_;
  if (by_itself != nullptr) *by_itself = has_all;
  if (taken_ >= most_ && !has_all) {
    return absl::ResourceExhaustedError(
        absl::StrCat(most_, " ", what_,
                     " are open, the limit of this collector; try again"));
  }
  if (has_all) {
    return absl::ResourceExhaustedError(
        absl::StrCat(of_a_client_, " of ", most_, " ", what_,
                     " are yours, as many as one client may have; close one"));
  }
  ++of_client_[client];
  ++taken_;
  return std::unique_ptr<Place>(new Place(this, client));
}

std::uint32_t ClientPlaces::taken() const {
  MutexLock lock(mu_);
  return taken_;
}

void ClientPlaces::Leave(const std::string& client) {
  MutexLock lock(mu_);
  --taken_;
  const auto of = of_client_.find(client);
  if (--of->second == 0) of_client_.erase(of);
}

}  // namespace gradtap::server
