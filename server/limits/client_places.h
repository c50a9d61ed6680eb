// Places that there are so many of, and of one client a part: for calls and
// streams that stay open as long as their client likes.
//
// Layer: server/limits. This file: std, absl, core.

#ifndef GRADTAP_SERVER_LIMITS_CLIENT_PLACES_H_
#define GRADTAP_SERVER_LIMITS_CLIENT_PLACES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/sync.h"

namespace gradtap::server {

// Thread-safe; a call holds a lock for a look-up. Must outlive its places.
class ClientPlaces {
 public:
  // Taken until it is destroyed.
  class Place {
   public:
    ~Place() { places_->Leave(client_); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    friend class ClientPlaces;
    Place(ClientPlaces* places, std::string client)
        : places_(places), client_(std::move(client)) {}
    ClientPlaces* const places_;
    const std::string client_;
  };

  // `what`: they are for, in the plural, as errors name it.
  ClientPlaces(std::string what, std::uint32_t most, std::uint32_t of_a_client)
      : what_(std::move(what)), most_(most), of_a_client_(of_a_client) {}

  // For a client: its token's name, else its address. kResourceExhausted: there
  // is none left, or this client has all that one may have, which `*by_itself`
  // tells. Not counted.
  absl::StatusOr<std::unique_ptr<Place>> Take(const std::string& client,
                                              bool* by_itself = nullptr)
      ABSL_LOCKS_EXCLUDED(mu_);

  std::uint32_t taken() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Leave(const std::string& client) ABSL_LOCKS_EXCLUDED(mu_);

  const std::string what_;
  const std::uint32_t most_;
  const std::uint32_t of_a_client_;
  mutable Mutex mu_;
  std::uint32_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  // None is zero.
  std::map<std::string, std::uint32_t> of_client_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_CLIENT_PLACES_H_
