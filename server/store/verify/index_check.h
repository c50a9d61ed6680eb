// A run's schemas, gaps and pieces of records; and the index that says in which
// order rows and gaps came.
//
// Layer: server/store/verify. One thread.

#ifndef GRADTAP_SERVER_STORE_VERIFY_INDEX_CHECK_H_
#define GRADTAP_SERVER_STORE_VERIFY_INDEX_CHECK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "server/store/branch_key.h"
#include "server/store/engine.h"
#include "server/store/keys.h"
#include "server/store/store.h"
#include "server/store/verify/findings.h"
#include "server/store/window/layout.h"

namespace gradtap::server {

// The order of one run's rows and gaps: each has a number, numbers have no
// holes, and each leads back to what has it.
class OrdinalCheck {
 public:
  OrdinalCheck(const Engine& engine, std::uint64_t run_id, Findings* findings);

  // A row or gap that says to have `ordinal`.
  void Expect(std::uint64_t ordinal, const keys::OrdinalValue& at,
              const std::string& place);
  // All have been expected. The run's entry says that there are `last`.
  void Finish(std::uint64_t last, const std::string& place);

 private:
  const Engine& engine_;
  const std::uint64_t run_id_;
  Findings* const findings_;
  const std::string end_;
  const rocksdb::Slice upper_;
  std::unique_ptr<rocksdb::Iterator> it_;
  std::uint64_t expected_ = 0;
};

// One stream's layouts, by schema.
using Layouts = std::map<std::uint32_t, std::shared_ptr<const TileLayout>>;

// What gaps say of one branch.
struct GapBounds {
  std::uint64_t gaps = 0;
  std::int64_t first_step = -1;
  std::int64_t last_step = -1;
};

// Decodes the stream's schemas.
Layouts CheckSchemas(const Engine& engine, std::uint64_t run_id,
                     const StreamEntry& stream, const std::string& place,
                     Findings* findings);
// Decodes its gaps and holds their sums against the stream's; what each branch
// has, in the order of branches.
std::vector<GapBounds> CheckGaps(const Engine& engine, std::uint64_t run_id,
                                 const StreamEntry& stream,
                                 const std::string& place,
                                 OrdinalCheck* ordinals, Findings* findings);
void CheckParts(const Engine& engine, std::uint64_t run_id,
                const StreamEntry& stream, const std::string& place,
                Findings* findings);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_VERIFY_INDEX_CHECK_H_
