// Three attempts of a job of eight ranks, most of which comes late.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "faults/feed.h"
#include "integration/collector.h"
#include "integration/csv.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

constexpr int kRanks = 8;
constexpr int kReplaced = 3;    // In attempt 1, by a second process.
constexpr int kRolledBack = 2;  // In attempt 2.

class RanksTest : public ::testing::Test {
 protected:
  using Feeds = std::vector<std::unique_ptr<Feed>>;

  std::unique_ptr<Feed> Start(int rank, const std::string& address,
                              std::map<std::string, std::string> more) {
    more.insert({{"collector", address},
                 {"run", "job"},
                 {"rank", std::to_string(rank)},
                 {"world", std::to_string(kRanks)},
                 {"pace_us", "200"},
                 {"ring_bytes", "1048576"},
                 {"spool", spool_},
                 {"ring", rings_}});
    return std::make_unique<Feed>(more);
  }
  static void Await(Feed* feed, std::uint64_t steps) {
    while (feed->Status().seen < steps && !HasFailure()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  static void Kill(Feed* feed) {
    feed->process().Signal(SIGKILL);
    EXPECT_TRUE(feed->process().Wait());
  }
  // step -> value; a step that comes twice fails.
  std::map<std::int64_t, double> Line(int rank, const std::string& attempt) {
    std::vector<std::string> args = {
        "export", "job",         "--format", "csv",
        "--stat", "scalar.loss", "--rank",   std::to_string(rank)};
    if (!attempt.empty()) args.insert(args.end(), {"--attempt", attempt});
    const Outcome out = Gradtap(address_, args);
    EXPECT_EQ(out.exit.code, 0) << out.err;
    const Csv csv = Csv::Parse(out.out);
    std::map<std::int64_t, double> line;
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      EXPECT_TRUE(line.emplace(std::stoll(csv.At(row, "step")),
                               Number(csv.At(row, "value")))
                      .second)
          << "step " << csv.At(row, "step") << " twice";
    }
    return line;
  }
  static void Expect(std::int64_t first, std::int64_t end, double salt,
                     std::map<std::int64_t, double>* line) {
    line->erase(line->lower_bound(first), line->end());
    for (std::int64_t step = first; step < end; ++step) {
      (*line)[step] = LossOf(step) + salt;
    }
  }

  void Drain() {
    const Outcome drained =
        RunProgram(GradtapCommand(address_, {"drain"}),
                   {{"GRADTAP_SPOOL", spool_}, {"GRADTAP_RING_FOLDER", rings_}},
                   std::chrono::seconds(120));
    EXPECT_EQ(drained.exit.code, 0) << drained.err;
  }

  // Steps 0 to 299; one rank dies at 150, and goes on from 100.
  void FirstAttempt() {
    Feeds feeds;
    for (int rank = 0; rank < kRanks; ++rank) {
      feeds.push_back(Start(rank, address_,
                            {{"launch", "a1"},
                             {"salt", "1"},
                             {"steps", rank == kReplaced ? "150" : "300"}}));
    }
    Await(feeds[kReplaced].get(), 150);
    Kill(feeds[kReplaced].get());
    feeds[kReplaced] = Start(kReplaced, address_,
                             {{"launch", "a1"},
                              {"salt", "1.5"},
                              {"start", "100"},
                              {"steps", "200"}});
    for (int rank = 0; rank < kRanks; ++rank) {
      Await(feeds[rank].get(), rank == kReplaced ? 200 : 300);
      Kill(feeds[rank].get());
    }
  }
  // From 200 to 449; one rank goes back from 320 to 250.
  void SecondAttempt() {
    Feeds feeds;
    for (int rank = 0; rank < kRanks; ++rank) {
      std::map<std::string, std::string> more = {
          {"launch", "a2"}, {"salt", "2"}, {"start", "200"}, {"steps", "250"}};
      if (rank == kRolledBack) {
        more["steps"] = "320";
        more.insert(
            {{"back_at", "320"}, {"back_to", "250"}, {"back_salt", "2.5"}});
      }
      feeds.push_back(Start(rank, address_, more));
    }
    for (int rank = 0; rank < kRanks; ++rank) {
      Await(feeds[rank].get(), rank == kRolledBack ? 320 : 250);
      Kill(feeds[rank].get());
    }
  }
  // From 400 to 599, with a collector; meanwhile the rest comes.
  void ThirdAttempt() {
    Feeds feeds;
    for (int rank = 0; rank < kRanks; ++rank) {
      feeds.push_back(Start(rank, address_,
                            {{"launch", "a3"},
                             {"salt", "3"},
                             {"start", "400"},
                             {"steps", "200"}}));
    }
    Drain();
    for (auto& feed : feeds) {
      Await(feed.get(), 200);
      feed->End();
    }
    Drain();  // What a live agent had taken on before it ended.
  }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
  const std::string spool_ = dir_.path() + "/spool";
  const std::string rings_ = shared_memory_.path() + "/rings";
  // Where nobody listens before the third attempt.
  const int port_ = FreePort();
  const std::string address_ = "127.0.0.1:" + std::to_string(port_);
};

TEST_F(RanksTest, LateLeftoversOfOlderAttemptsNeverReplaceNewerOnes) {
  FirstAttempt();
  SecondAttempt();
  Collector collector(dir_.path() + "/data", port_);
  ASSERT_EQ(collector.address(), address_);
  ThirdAttempt();

  for (int rank = 0; rank < kRanks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    std::map<std::int64_t, double> first, second, third, canonical;
    Expect(0, rank == kReplaced ? 150 : 300, 1, &first);
    if (rank == kReplaced) Expect(100, 300, 1.5, &first);
    Expect(200, rank == kRolledBack ? 320 : 450, 2, &second);
    if (rank == kRolledBack) Expect(250, 450, 2.5, &second);
    Expect(400, 600, 3, &third);
    canonical = first;
    canonical.erase(canonical.lower_bound(200), canonical.end());
    canonical.insert(second.begin(), second.lower_bound(400));
    canonical.insert(third.begin(), third.end());
    EXPECT_EQ(Line(rank, ""), canonical);
    // The older ones stay readable, whatever their labels are.
    std::set<std::map<std::int64_t, double>> attempts;
    for (const char* label : {"1", "2", "3"}) {
      attempts.insert(Line(rank, label));
    }
    EXPECT_EQ(attempts, (std::set{first, second, third}));
  }
}

}  // namespace
}  // namespace gradtap::testing
