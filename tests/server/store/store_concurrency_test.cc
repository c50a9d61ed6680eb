// Readers beside a writer. Not for ThreadSanitizer: the packaged RocksDB is not
// instrumented, and publishes what it writes without locks.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "server/store/store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::TempDir;
using testing::OwnedCommit;
using testing::StepsCommit;
using testing::StepsOf;

// The last one keeps a few steps in memory: a scan begins in the database.
class StoreConcurrencyTest : public ::testing::TestWithParam<std::size_t> {};

TEST_P(StoreConcurrencyTest, ReadersSeeWholeCommitsWhileAWriterWrites) {
  const TempDir temp;
  StoreOptions options;
  options.data_dir = temp.path();
  options.tail_bytes = GetParam();
  auto opened = OpenRocksdbStore(options);
  GRADTAP_ASSERT_OK(opened);
  const std::unique_ptr<Store> store = *std::move(opened);
  const StreamId id = store->OpenStream(testing::MakeHello(), 1)->id;
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < 50; ++i) {
      const auto first = static_cast<std::int64_t>(i * 4);
      const OwnedCommit commit = StepsCommit(id, i * 4 + 1, first, first + 3);
      EXPECT_THAT(store->Commit({&commit.commit, 1}),
                  ::gradtap::testing::IsOk());
    }
    done = true;
  });
  while (!done) {
    const std::uint64_t durable = store->FindRun("run")->streams[0].durable_seq;
    const auto steps = StepsOf(store.get(), id);
    EXPECT_EQ(steps.size() % 4, 0U);
    EXPECT_TRUE(steps.empty() ||
                steps.back() + 1 == static_cast<std::int64_t>(steps.size()));
    EXPECT_GE(steps.size(), durable);  // What the catalog says can be read.
  }
  writer.join();
  EXPECT_EQ(StepsOf(store.get(), id).size(), 200U);
}

INSTANTIATE_TEST_SUITE_P(Tail, StoreConcurrencyTest,
                         ::testing::Values(std::size_t{1} << 20, 0U, 4096U));

}  // namespace
}  // namespace gradtap::server
