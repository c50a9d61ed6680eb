// What a verification has found so far, and what its parts share.
//
// Layer: server/store/verify. One thread.

#ifndef GRADTAP_SERVER_STORE_VERIFY_FINDINGS_H_
#define GRADTAP_SERVER_STORE_VERIFY_FINDINGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "rocksdb/db.h"
#include "server/store/branch_key.h"
#include "server/store/damage.h"
#include "server/store/engine.h"
#include "server/store/verify/verify.h"

namespace gradtap::server {

class Findings {
 public:
  explicit Findings(const OnProblem& on_problem) : on_problem_(on_problem) {}

  VerifySummary summary;

  void Report(const std::string& place, const std::string& what) {
    ++summary.problems;
    constexpr std::uint64_t kMost = 100;
    const std::uint64_t n = ++reported_[place];
    if (n < kMost) {
      on_problem_(place, what);
    } else if (n == kMost) {
      on_problem_(place, "and more like that");
    }
  }
  void ReportUnlessOk(const std::string& place, const absl::Status& status) {
    if (!status.ok()) Report(place, std::string(status.message()));
  }

 private:
  const OnProblem& on_problem_;
  std::map<std::string, std::uint64_t> reported_;  // By place.
};

// Calls `visit(key, value)` for each key of [begin, end); what cannot be read
// ends it and is reported. A family that the folder does not have is empty.
template <typename Visit>
void ForEachKey(const Engine& engine, rocksdb::ColumnFamilyHandle* family,
                const std::string& begin, const std::string& end,
                const std::string& place, Findings* findings,
                const Visit& visit) {
  if (family == nullptr) return;
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  options.fill_cache = false;
  options.readahead_size = std::size_t{2} << 20;
  std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, family));
  for (it->Seek(begin); it->Valid(); it->Next()) {
    visit(View(it->key()), View(it->value()));
  }
  findings->ReportUnlessOk(
      place + ", " + Engine::NameOf(family),
      ToStatus(it->status(), "what follows cannot be read"));
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_FINDINGS_H_
