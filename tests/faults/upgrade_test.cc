// A collector that is replaced by another version, and rolled back, while many
// agents stream: no session loses a step, has one twice, or ends badly.
//
// GRADTAP_OLD_BIN=FOLDER names the other version's gradtapd (tools/soak
// --upgrade FOLDER); without it both are this one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "faults/feed.h"
#include "integration/collector.h"
#include "server/store/data_folder.h"
#include "server/store/store.h"
#include "server/store/store_testing.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

namespace fs = std::filesystem;

using server::kFormatVersion;
using ::testing::HasSubstr;
using SteadyClock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::chrono::seconds kPatience{300};

class UpgradeTest : public ::testing::Test {
 protected:
  void StartFeeds(int sessions, int of_each, int places, int pace_us,
                  int ring_bytes) {
    sessions_ = sessions;
    places_ = static_cast<std::size_t>(places);
    for (int rank = 0; rank < sessions; rank += of_each) {
      feeds_.push_back(
          std::make_unique<Feed>(std::map<std::string, std::string>{
              {"collector", "127.0.0.1:" + std::to_string(port_)},
              {"run", "upgraded"},
              {"launch", "one"},
              {"rank", std::to_string(rank)},
              {"world", std::to_string(sessions)},
              {"streams", std::to_string(of_each)},
              {"places", std::to_string(places)},
              {"pace_us", std::to_string(pace_us)},
              {"ring_bytes", std::to_string(ring_bytes)},
              {"spool", spool()},
              {"ring", shared_memory_.path() + "/rings"}}));
    }
  }

  std::string data() const { return dir_.path() + "/data"; }
  std::string spool() const { return dir_.path() + "/spool"; }
  static std::string ThisVersion() { return CollectorCommand("").front(); }
  static std::string OtherVersion() {
    const char* const folder = std::getenv("GRADTAP_OLD_BIN");
    return folder == nullptr || *folder == '\0'
               ? ThisVersion()
               : std::string(folder) + "/gradtapd";
  }

  // True: it listens. False: it has exited, and its words are in refusal_.
  bool Start(const std::string& program) {
    std::vector<std::string> command = CollectorCommand(data(), port_);
    command[0] = program;
    command.insert(command.end(), {"--max-sessions", "1000"});
    collector_ = std::make_unique<Process>(command);
    const std::string line = collector_->ReadLine().value_or("");
    if (line.rfind("gradtapd listening ", 0) == 0) return true;
    const auto exit = collector_->Wait();
    EXPECT_TRUE(exit.has_value()) << "it neither listens nor ends";
    EXPECT_EQ(exit.value_or(Exit{}).code, 1);
    refusal_ = collector_->Errors();
    return false;
  }
  // As an upgrade does it: it drains, and ends well.
  void Stop() {
    collector_->Signal(SIGTERM);
    const auto exit = collector_->Wait();
    ASSERT_TRUE(exit.has_value()) << "SIGTERM does not end it";
    EXPECT_EQ(exit->code, 0) << collector_->Errors();
  }

  // Until all that each session had put by now, and a step at least, is
  // acknowledged.
  void AwaitCaughtUp() {
    const auto give_up = SteadyClock::now() + kPatience;
    for (auto& feed : feeds_) {
      const std::uint64_t goal = std::max<std::uint64_t>(1, feed->Least().seen);
      while (feed->Least().acknowledged < goal) {
        ASSERT_LT(SteadyClock::now(), give_up) << feed->process().Errors();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
  }

  // Under load.
  void Replace(const std::string& what, const std::string& program) {
    const auto begun = SteadyClock::now();
    ASSERT_NO_FATAL_FAILURE(Stop());
    if (!Start(program)) {
      // Only a folder that the newer one has raised may be refused.
      ASSERT_THAT(refusal_, HasSubstr("was written in format "));
      std::cout << what << " refused: " << refusal_;
      ASSERT_TRUE(Start(ThisVersion())) << refusal_;
    }
    const auto back = SteadyClock::now();
    ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
    std::cout << what << ": away for " << Seconds(back - begun).count()
              << " s, all " << sessions_ << " caught up "
              << Seconds(SteadyClock::now() - back).count() << " s later\n";
  }

  // No session has ended otherwise than for the collector's being away.
  static void CheckWords(const std::string& errors) {
    for (const std::string& line : Lines(errors)) {
      EXPECT_TRUE(line.find("it is tried again for ever") !=
                      std::string::npos ||
                  line.find(" is back: ") != std::string::npos)
          << line;
    }
  }

  // Ends all sessions and the collector.
  void EndAll() {
    for (auto& feed : feeds_) {
      const FeedCounts end = feed->End();
      EXPECT_EQ(end.lost, 0u);
      EXPECT_EQ(end.recorded, end.seen);
      EXPECT_EQ(end.acknowledged, end.seen);
      seen_ += end.seen;
      CheckWords(feed->process().Errors());
    }
    Stop();
  }

  // Each step of each session is there once, to the last bit, and no gap is.
  void CheckStored() {
    const Outcome verified =
        RunProgram({ThisVersion(), "verify", "--data-dir", data()}, {},
                   std::chrono::minutes(5));
    EXPECT_EQ(verified.exit.code, 0) << verified.out << verified.err;
    server::StoreOptions options;
    options.data_dir = data();
    const auto store = server::OpenRocksdbStore(options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const auto run = (*store)->FindRun("upgraded");
    ASSERT_NE(run, nullptr);
    ASSERT_EQ(run->streams.size(), static_cast<std::size_t>(sessions_));
    std::uint64_t stored = 0;
    for (const server::StreamEntry& stream : run->streams) {
      SCOPED_TRACE("rank " + std::to_string(stream.hello.rank));
      stored += CheckStream(store->get(), stream);
    }
    EXPECT_EQ(stored, seen_);
    std::cout << sessions_ << " sessions, " << stored << " steps\n";
  }

  std::uint64_t CheckStream(server::Store* store,
                            const server::StreamEntry& stream) {
    EXPECT_EQ(stream.skipped_steps + stream.lost_steps, 0u);
    EXPECT_EQ(stream.rejected_records, 0u);
    EXPECT_TRUE(stream.end && stream.end->reason == EndReason::kFinished);
    EXPECT_EQ(stream.branches.size(), 1u);
    const auto gaps = store->ReadGaps(stream.id);
    EXPECT_TRUE(gaps.ok() && gaps->empty());
    std::int64_t next = 0;
    const absl::Status scanned = store->ScanSteps(
        stream.id, 0, INT64_MIN, INT64_MAX, [&](const server::StepRow& row) {
          const bool same =
              row.step == next &&
              server::testing::StoredBody(row) ==
                  server::testing::BodyOf(
                      server::testing::EncodedStep(MakeStep(next, 1, places_)));
          EXPECT_TRUE(same) << "row " << next << " is of step " << row.step;
          ++next;
          return same;
        });
    EXPECT_TRUE(scanned.ok()) << scanned.ToString();
    EXPECT_EQ(stream.stored_steps, static_cast<std::uint64_t>(next));
    return static_cast<std::uint64_t>(next);
  }

  bool SpoolHasFiles() const {
    std::error_code gone;  // Files come and go.
    for (fs::recursive_directory_iterator file(spool(), gone), end;
         !gone && file != end; file.increment(gone)) {
      if (file->is_regular_file(gone) && file->file_size(gone) > 0) return true;
    }
    return false;
  }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
  const int port_ = FreePort();
  int sessions_ = 0;
  std::size_t places_ = 0;
  std::uint64_t seen_ = 0;
  std::string refusal_;
  std::unique_ptr<Process> collector_;
  std::vector<std::unique_ptr<Feed>> feeds_;
};

TEST_F(UpgradeTest, SessionsGoOnThroughAnUpgradeAndARollback) {
  const int rounds = ShortOrLong(1, 3);
  ASSERT_TRUE(Start(OtherVersion())) << refusal_;
  StartFeeds(ShortOrLong(32, 320), 16, 8, 50'000, 1 << 20);
  ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
  for (int round = 0; round < rounds; ++round) {
    ASSERT_NO_FATAL_FAILURE(Replace("upgrade", ThisVersion()));
    ASSERT_NO_FATAL_FAILURE(Replace("rollback", OtherVersion()));
  }
  ASSERT_NO_FATAL_FAILURE(EndAll());
  CheckStored();
}

// The folder is as a collector leaves it that has raised the format.
TEST_F(UpgradeTest, ARollbackThatIsRefusedLosesNothing) {
  ASSERT_TRUE(Start(ThisVersion())) << refusal_;
  // Half a MB/s each. From a quarter of the ring on it spills, from a half on
  // steps would be thinned: the disk may be busy for 8 s in between.
  StartFeeds(4, 2, 500, 20'000, 16 << 20);
  ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
  ASSERT_NO_FATAL_FAILURE(Stop());
  const std::string format = data() + "/FORMAT";
  const std::string raised =
      "gradtap-data " + std::to_string(kFormatVersion + 1) + "\n";
  const std::string known = ReadFile(format);
  WriteFile(format, raised);
  ASSERT_FALSE(Start(ThisVersion())) << "it takes a folder that is too new";
  EXPECT_THAT(refusal_, HasSubstr("was written in format " +
                                  std::to_string(kFormatVersion + 1)));
  EXPECT_THAT(refusal_,
              HasSubstr("formats up to " + std::to_string(kFormatVersion)));
  EXPECT_EQ(ReadFile(format), raised);  // Nothing is changed in it.

  // Meanwhile the rings fill up, and what they have goes to the disk.
  const auto give_up = SteadyClock::now() + kPatience;
  const std::uint64_t goal = feeds_.back()->Least().seen + 500;
  for (auto& feed : feeds_) {
    while (feed->Least().seen < goal || !SpoolHasFiles()) {
      ASSERT_LT(SteadyClock::now(), give_up);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_EQ(feed->Status().lost, 0u);
  }
  WriteFile(format, known);  // The newer one is back, and knows it.
  ASSERT_TRUE(Start(ThisVersion())) << refusal_;
  ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
  ASSERT_NO_FATAL_FAILURE(EndAll());
  CheckStored();
}

}  // namespace
}  // namespace gradtap::testing
