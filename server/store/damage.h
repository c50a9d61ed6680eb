// Words for what reading a data folder can fail with.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_DAMAGE_H_
#define GRADTAP_SERVER_STORE_DAMAGE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace gradtap::server {

inline constexpr std::string_view kReading = "data folder: cannot read";

inline absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(absl::StrCat("the data folder holds a damaged ",
                                          std::string(what),
                                          "; restore it from a copy"));
}

inline absl::Status RunDeleted() {
  return absl::NotFoundError("the run was deleted while it was read");
}

inline absl::Status DatabaseFailing() {
  return absl::UnavailableError(
      "data folder: the database has failed and is not open again yet; see the "
      "disk's state");
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_DAMAGE_H_
