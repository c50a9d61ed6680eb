// A collector that is killed. A binary of its own: it forks before it has a
// thread.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "server/store/rocksdb_store.h"
#include "server/store/run_of_steps.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::TempDir;
using testing::CheckStore;
using testing::CommitSteps;
using testing::kStepsPerCommit;
using testing::MakeHello;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;

// A child writes until it is killed; it tells of each acknowledged seq through
// a pipe, whose content is what a peer would know.
TEST(StoreKillTest, AfterKill9EveryAcknowledgedStepIsThereOnce) {
  const TempDir temp;
  std::uint64_t acknowledged = 0;
  for (int life = 0; life < 12; ++life) {
    SCOPED_TRACE("life " + std::to_string(life));
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe_fds[0]);
      const auto store = RocksdbStore::Open({temp.path()}, nullptr);
      if (!store.ok()) ::_exit(1);
      const auto stream = (*store)->OpenStream(MakeHello(), kNow);
      if (!stream.ok()) ::_exit(2);
      for (std::uint64_t next = stream->durable_seq;; next += kStepsPerCommit) {
        if (!CommitSteps(store->get(), stream->id,
                         static_cast<std::int64_t>(next))
                 .ok()) {
          ::_exit(3);
        }
        const std::uint64_t seq = next + kStepsPerCommit;
        if (::write(pipe_fds[1], &seq, sizeof(seq)) != sizeof(seq)) ::_exit(4);
      }
    }
    ::close(pipe_fds[1]);
    std::uint64_t seq = 0;
    // Killed after a number of acknowledgements that differs in each life,
    // somewhere within the commit that follows.
    for (int n = 0; n <= life * 7 % 23; ++n) {
      ASSERT_EQ(::read(pipe_fds[0], &seq, sizeof(seq)),
                static_cast<ssize_t>(sizeof(seq)));
      acknowledged = seq;
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (::read(pipe_fds[0], &seq, sizeof(seq)) ==
           static_cast<ssize_t>(sizeof(seq))) {
      acknowledged = seq;
    }
    ::close(pipe_fds[0]);
    const auto store = RocksdbStore::Open({temp.path()}, nullptr);
    GRADTAP_ASSERT_OK(store);
    EXPECT_GE(CheckStore(store->get()), acknowledged);
  }
  EXPECT_GT(acknowledged, 100U);
}

}  // namespace
}  // namespace gradtap::server
