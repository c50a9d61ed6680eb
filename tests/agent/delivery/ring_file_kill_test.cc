// SIGKILL at any moment of a process that puts records into its ring, while a
// thread of its own frees them.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <new>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/escaping.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/ring_file_fixtures.h"
#include "agent/delivery/ring_maker.h"

namespace gradtap::agent {
namespace {

using testing::ExpectNumbered;
using testing::FreeNumbered;
using testing::NamesIn;
using testing::PutNumbered;
using testing::ReserveNumbered;
using testing::RingFileTest;

// What the child reports; shared with it.
struct Report {
  std::atomic<std::uint64_t> published{0};  // Publish() has returned.
  std::atomic<std::uint64_t> freed{0};      // FreeBefore() may have begun.
};

class SharedReport {
 public:
  SharedReport() {
    void* const page = ::mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw std::bad_alloc();
    report_ = ::new (page) Report;
  }
  ~SharedReport() { ::munmap(report_, sizeof(Report)); }
  SharedReport(const SharedReport&) = delete;
  SharedReport& operator=(const SharedReport&) = delete;
  Report* operator->() const { return report_; }
  Report* get() const { return report_; }

 private:
  Report* report_;
};

[[noreturn]] void FreeForEver(Ring* ring, Report* report) {
  std::mt19937 random(1);
  for (;;) {
    Ring::Cursor cursor = ring->CursorAt(ring->first_seq());
    std::uint64_t next = ring->first_seq();
    EntryView entry;
    for (unsigned i = random() % 8; i > 0 && ring->Next(&cursor, &entry); --i) {
      next = entry.seq + 1;
    }
    report->freed = next - 1;
    ring->FreeBefore(cursor, next);
    std::this_thread::yield();
  }
}

// One to three records at a time, as fast as there is room.
[[noreturn]] void PutForEver(Ring* ring, Report* report) {
  std::mt19937 random(2);
  std::uint64_t next = 1;
  for (;;) {
    const std::uint64_t end = next + 1 + random() % 3;
    std::uint64_t seq = next;
    while (seq < end && ReserveNumbered(ring, seq)) ++seq;
    if (seq < end) {
      ring->Abandon();
      std::this_thread::yield();
      continue;
    }
    ring->Publish();
    report->published = end - 1;
    next = end;
  }
}

class RingFileKillTest : public RingFileTest {
 protected:
  pid_t StartChild(Report* report) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    RingFile* const file = Create().release();
    if (file == nullptr) ::_exit(1);
    Ring* const ring = file->TakeRing().release();
    std::thread(FreeForEver, ring, report).detach();
    PutForEver(ring, report);
  }
};

TEST_F(RingFileKillTest, TheNextRingGivesBackWhatKilledProcessesDoNotUse) {
  constexpr std::size_t kBytes = 1 << 20;
  const auto named = [&](char nonce) {
    RingFileOptions options = Options(kBytes);
    options.identity.process_nonce = std::string(16, nonce);
    return options;
  };
  const auto file_of = [&](char nonce) {
    return folder() + "/" + absl::BytesToHexString(std::string(16, nonce)) +
           ".ring";
  };
  const auto bytes_of = [&](char nonce) {
    struct stat about {};
    if (::stat(file_of(nonce).c_str(), &about) != 0) return std::int64_t{-1};
    return std::int64_t{about.st_blocks} * 512;
  };
  for (const char nonce : {'a', 'b'}) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      RingFile* const file = RingFile::Create(named(nonce))->release();
      Ring* const ring = file->TakeRing().release();
      for (std::uint64_t seq = 1; seq <= 3; ++seq) {
        if (!PutNumbered(ring, seq)) ::_exit(1);
      }
      if (nonce == 'b') FreeNumbered(ring, 4);
      ::raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_GE(bytes_of(nonce), std::int64_t{kBytes});
  }
  auto living = MakeRing(named('c'), kBytes);
  GRADTAP_ASSERT_OK(living);
  EXPECT_LT(bytes_of('a'), 64 * 1024);
  EXPECT_EQ(bytes_of('b'), -1);
  auto next = MakeRing(named('d'), kBytes);
  GRADTAP_ASSERT_OK(next);
  EXPECT_GE(bytes_of('c'), std::int64_t{kBytes});
  auto left = OpenRingFile(file_of('a'));
  GRADTAP_ASSERT_OK(left);
  EXPECT_TRUE((*left)->problems().empty());
  const auto ring = (*left)->TakeRing();
  EXPECT_EQ(ring->last_seq(), 3u);
  ExpectNumbered(*ring);
}

TEST_F(RingFileKillTest, EveryRecordThatWasPublishedIsReadAfterwards) {
  const int rounds = std::getenv("GRADTAP_SOAK") != nullptr ? 200 : 20;
  std::mt19937_64 random(std::random_device{}());
  std::uint64_t at_hand = 0;
  // What frees them may be so fast that nothing is at hand: until something
  // was.
  for (int round = 0; round < rounds || (at_hand == 0 && round < 100 * rounds);
       ++round) {
    SCOPED_TRACE(round);
    const SharedReport report;
    const pid_t pid = StartChild(report.get());
    const std::uint64_t target = 1 + random() % 5'000;
    int status = 0;
    while (report->published < target &&
           ::waitpid(pid, &status, WNOHANG) == 0) {
      std::this_thread::yield();
    }
    // A moment of no meaning to the child.
    for (std::uint64_t i = random() % 100'000; i > 0; --i) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    auto left = OpenRingFile(path());
    GRADTAP_ASSERT_OK(left);
    EXPECT_TRUE((*left)->problems().empty()) << (*left)->problems().front();
    const auto ring = (*left)->TakeRing();
    EXPECT_LE(ring->first_seq(), report->freed + 1);
    EXPECT_GE(ring->last_seq(), report->published);
    ExpectNumbered(*ring);
    at_hand += ring->last_seq() + 1 - ring->first_seq();
    GRADTAP_EXPECT_OK((*left)->Remove());
    if (HasFatalFailure()) return;
  }
  std::cout << rounds << " kills or more, " << at_hand
            << " records at hand after them\n";
  EXPECT_GT(at_hand, 0u);
  EXPECT_TRUE(NamesIn(folder()).empty());
}

}  // namespace
}  // namespace gradtap::agent
