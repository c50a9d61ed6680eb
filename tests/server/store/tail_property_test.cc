// Two stores get the same random commits, deletes and sealing: one keeps few of
// the newest steps in memory, the other none. Whatever is read from both is the
// same.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/env.h"
#include "server/store/rocksdb_store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {
    Open(0);
    Open(1);
  }

  void Act() {
    const std::uint64_t action = Below(40);
    if (action == 0) return Open(Below(2));
    if (action == 1) return Delete();
    if (action < 4) return Seal();
    if (action < 8 || streams_.empty()) return AddStream();
    Commit();
  }

  void Compare() {
    for (const auto& run : stores_[0]->Runs()) {
      CompareOrdinals(*run);
      for (const StreamEntry& stream : run->streams) CompareSteps(stream);
    }
  }

  std::uint64_t tail_scans() const {
    return tail_scans_ + stores_[1]->counters().tail_scans;
  }
  // That began in the database and ended in memory.
  std::uint64_t mixed() const { return mixed_; }

 private:
  struct Stream {
    std::string run;
    std::uint64_t seq = 0;
    std::uint32_t branch = 0;
    std::int64_t next = 0;
  };

  std::uint64_t Below(std::uint64_t n) { return random_() % n; }

  void Open(std::size_t which) {
    if (which == 1 && stores_[1] != nullptr) {
      tail_scans_ += stores_[1]->counters().tail_scans;
    }
    stores_[which].reset();
    StoreOptions options;
    options.data_dir = temp_.path() + "/" + std::to_string(which);
    options.seal = false;  // SealOne() does it.
    options.tail_bytes = which == 0 ? 0 : 4000 + Below(20'000);
    auto store = RocksdbStore::Open(options, envs_[which].get());
    GRADTAP_ASSERT_OK(store);
    stores_[which] = *std::move(store);
  }

  void Delete() {
    const std::string run = "run" + std::to_string(Below(2));
    for (const auto& store : stores_) (void)store->DeleteRun(run);
    std::erase_if(streams_,
                  [&](const auto& entry) { return entry.second.run == run; });
  }

  void Seal() {
    for (const auto& store : stores_) GRADTAP_EXPECT_OK(store->SealOne());
  }

  void AddStream() {
    const std::string run = "run" + std::to_string(Below(2));
    const auto rank = static_cast<std::uint32_t>(Below(3));
    StreamId id = 0;
    for (const auto& store : stores_) {
      id = store->OpenStream(MakeHello(run, "launch", rank), 1)->id;
    }
    const auto [stream, is_new] = streams_.try_emplace(id);
    if (!is_new) return;
    stream->second.run = run;
    const std::string schema = BodyOf(EncodeSchema(MakeSchema()));
    StreamCommit commit;
    commit.schemas.push_back({1, schema});
    CommitTo(id, commit);
  }

  void CommitTo(StreamId id, StreamCommit commit) {
    Stream& stream = streams_.at(id);
    commit.stream = id;
    commit.first_seq = commit.last_seq = ++stream.seq;
    // Not silent for an hour: what is sealed is for SealOne() to say.
    commit.last_seen_unix_ns = INT64_MAX / 2;
    for (const auto& store : stores_) {
      GRADTAP_EXPECT_OK(store->Commit({&commit, 1}));
    }
  }

  void Commit() {
    auto it = streams_.begin();
    std::advance(it, static_cast<long>(Below(streams_.size())));
    Stream& stream = it->second;
    StreamCommit commit;
    std::vector<std::string> bodies;
    const std::uint64_t records = 1 + (Below(8) == 0 ? Below(100) : Below(4));
    bodies.reserve(records);
    for (std::uint64_t i = 0; i < records; ++i) {
      if (Below(30) == 0) {
        commit.gaps.push_back(
            {stream.branch,
             {GapCause::kRingFull, stream.next, stream.next + 2, 3, "detail"}});
        stream.next += 3;
        continue;
      }
      stream.next += static_cast<std::int64_t>(Below(3));
      bodies.push_back(StepBody(stream.next));
      commit.steps.push_back(
          {stream.branch, stream.next, true, 4, bodies.back()});
      ++stream.next;
    }
    if (Below(20) == 0) {
      stream.next -= std::min<std::int64_t>(
          stream.next, static_cast<std::int64_t>(Below(20)));
      commit.new_branches.push_back({++stream.branch, stream.next});
    }
    if (Below(60) == 0)
      commit.end = EndData{EndReason::kFinished, 1, 1, 1, 0, 0};
    CommitTo(it->first, commit);
  }

  static std::string TextOf(const StepRow& row) {
    return std::to_string(row.stream) + "/" + std::to_string(row.branch) + "/" +
           std::to_string(row.step) + " " + std::to_string(row.ordinal) + " " +
           StoredBody(row);
  }

  void CompareOrdinals(const RunEntry& run) {
    const std::uint64_t after = Below(run.ordinal + 2);
    const std::uint64_t most = 1 + Below(run.ordinal + 1);
    std::vector<std::string> seen[2];
    bool from_memory = false;
    bool from_database = false;
    for (int i = 0; i < 2; ++i) {
      GRADTAP_EXPECT_OK(stores_[i]->ScanByOrdinal(
          run.run, after, [&](const StepRow* row, const GapRow* gap) {
            seen[i].push_back(
                row != nullptr
                    ? TextOf(*row)
                    : "gap " + std::to_string(gap->ordinal) + " " +
                          std::to_string(gap->gap.first_step) +
                          gap->gap.detail + std::to_string(gap->stream));
            if (row != nullptr && i == 1) {
              (row->body_owner != nullptr ? from_memory : from_database) = true;
            }
            return seen[i].size() < most;
          }));
    }
    EXPECT_EQ(seen[0], seen[1]) << "after " << after;
    mixed_ += from_memory && from_database ? 1 : 0;
  }

  void CompareSteps(const StreamEntry& stream) {
    const Branch& branch = stream.branches[Below(stream.branches.size())];
    const auto past = static_cast<std::uint64_t>(branch.last_step + 2);
    const auto begin = static_cast<std::int64_t>(Below(past + 1));
    const auto end = begin + static_cast<std::int64_t>(Below(past + 1));
    const std::uint64_t most = 1 + Below(branch.rows + 1);
    std::vector<std::string> seen[2];
    for (int i = 0; i < 2; ++i) {
      GRADTAP_EXPECT_OK(stores_[i]->ScanSteps(stream.id, branch.branch, begin,
                                              end, [&](const StepRow& row) {
                                                seen[i].push_back(TextOf(row));
                                                return seen[i].size() < most;
                                              }));
    }
    EXPECT_EQ(seen[0], seen[1]) << begin << ":" << end;
  }

  std::mt19937_64 random_;
  gradtap::testing::TempDir temp_;
  // Files in memory: nothing here is about syncs, which take long.
  std::unique_ptr<rocksdb::Env> envs_[2] = {
      std::unique_ptr<rocksdb::Env>(
          rocksdb::NewMemEnv(rocksdb::Env::Default())),
      std::unique_ptr<rocksdb::Env>(
          rocksdb::NewMemEnv(rocksdb::Env::Default()))};
  std::unique_ptr<RocksdbStore> stores_[2];  // Without, and with a tail.
  std::map<StreamId, Stream> streams_;
  std::uint64_t tail_scans_ = 0;
  std::uint64_t mixed_ = 0;
};

TEST(TailPropertyTest, ReadsAreThoseOfAStoreWithoutATail) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int i = 0; i < 110 && !::testing::Test::HasFailure(); ++i) {
      world.Act();
      for (int k = 0; k < 4; ++k) world.Compare();
    }
    EXPECT_GT(world.tail_scans(), 20U);
    EXPECT_GT(world.mixed(), 10U);
  }
}

}  // namespace
}  // namespace gradtap::server::testing
