// Reads everything that a data folder holds and checks that it can be read and
// that it agrees with itself.
//
// Layer: server/store/verify. One thread; the folder is only read.

#ifndef GRADTAP_SERVER_STORE_VERIFY_VERIFY_H_
#define GRADTAP_SERVER_STORE_VERIFY_VERIFY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace gradtap::server {

// What was read. Plain data.
struct VerifySummary {
  std::uint32_t format = 0;
  std::uint64_t problems = 0;
  std::uint64_t runs = 0;
  std::uint64_t streams = 0;
  std::uint64_t branches = 0;
  std::uint64_t rows = 0;     // Steps with statistics or without, as rows,
  std::uint64_t sealed = 0;   // and in windows.
  std::uint64_t steps = 0;    // Of both, those with statistics.
  std::uint64_t values = 0;   // Records x 9.
  std::uint64_t scalars = 0;  // Values of them.
  std::uint64_t windows = 0;
  std::uint64_t chapters = 0;
  std::uint64_t tiles = 0;
  std::uint64_t rollups = 0;
  std::uint64_t histograms = 0;
  std::uint64_t schemas = 0;
  std::uint64_t gaps = 0;
  std::uint64_t tables = 0;  // Files.
  std::uint64_t bytes = 0;   // Of those.
  // Values of windows whose sealing was interrupted: they do not count, and are
  // written over.
  std::uint64_t unfinished = 0;
};

// `place` names a run, stream, step or file and may quote names: hostile text.
using OnProblem =
    std::function<void(const std::string& place, const std::string& what)>;

// Calls `on_problem` for all that is wrong, up to 100 times for each kind of
// check and place above it. An error means that there was nothing to read:
// kNotFound: no data folder; kFailedPrecondition: a collector has it open, or
// it is of a newer format.
absl::StatusOr<VerifySummary> VerifyFolder(const std::string& dir,
                                           const OnProblem& on_problem);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_VERIFY_H_
