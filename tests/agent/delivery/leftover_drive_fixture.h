// A dead process's leftover, driven to a model collector.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_DRIVE_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_DRIVE_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/delivery/fake_transport.h"
#include "agent/delivery/leftover_drive.h"
#include "agent/delivery/leftover_fixtures.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {

class LeftoverDriveTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_THAT(network_.collector.violations, ::testing::IsEmpty());
  }

  std::unique_ptr<Leftover> Open(const std::string& folder,
                                 SpoolUse use = SpoolUse::kTakeOver) {
    auto leftover = Leftover::Open(testing::SpoolPlace(folder), use, &disk_);
    EXPECT_THAT(leftover, testing::IsOk());
    return leftover.ok() ? *std::move(leftover) : nullptr;
  }

  std::unique_ptr<LeftoverDrive> Drive(
      Leftover* leftover, std::unique_ptr<Transport> transport = nullptr) {
    if (transport == nullptr) {
      transport = std::make_unique<testing::FakeTransport>(&network_);
    }
    return std::make_unique<LeftoverDrive>(leftover, options_,
                                           std::move(transport), &clock_);
  }
  LeftoverOutcome Finish(LeftoverDrive* drive) {
    for (int i = 0; i < 20'000 && drive->Poll(); ++i) {
      clock_.Advance(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(drive->ended());
    return drive->outcome();
  }
  LeftoverOutcome Deliver(const std::string& folder,
                          SpoolUse use = SpoolUse::kTakeOver) {
    const auto leftover = Open(folder, use);
    if (leftover == nullptr) return {};
    return Finish(Drive(leftover.get()).get());
  }

  LeftoverOutcome DeliverPlace(const LeftoverPlace& place) {
    auto leftover = Leftover::Open(place, SpoolUse::kTakeOver, &disk_);
    EXPECT_THAT(leftover, testing::IsOk());
    if (!leftover.ok()) return {};
    return Finish(Drive(leftover->get()).get());
  }
  // What was left, in one place.
  LeftoverOutcome DeliverTheOne() {
    const auto places = FindLeftovers(root_, rings_, /*lone_rings=*/true);
    EXPECT_THAT(places, testing::IsOk());
    EXPECT_THAT(*places, ::testing::SizeIs(1));
    return DeliverPlace(places->front());
  }

  int Connects() {
    MutexLock lock(network_.mu);
    return network_.connects;
  }
  std::size_t StoredSteps() {
    const auto contents = network_.collector.Contents();
    EXPECT_THAT(contents.problems, ::testing::IsEmpty());
    return contents.recorded.size();
  }
  std::string Copy(const std::string& folder) {
    const std::string to = dir_.path() + "/copy";
    std::filesystem::copy(folder, to);
    return to;
  }
  static std::map<std::string, std::string> Bytes(const std::string& folder) {
    std::map<std::string, std::string> bytes;
    for (const std::string& name : testing::NamesIn(folder)) {
      bytes[name] = testing::ReadAll(folder + "/" + name);
    }
    return bytes;
  }
  // "BRANCH: FIRST-LAST" of each gap.
  std::vector<std::string> Gaps() {
    std::vector<std::string> gaps;
    for (const auto& [branch, gap] : network_.collector.Contents().gaps) {
      EXPECT_EQ(gap.cause, GapCause::kIoError);
      EXPECT_EQ(static_cast<std::int64_t>(gap.steps),
                gap.last_step - gap.first_step + 1);
      gaps.push_back(std::to_string(branch) + ": " +
                     std::to_string(gap.first_step) + "-" +
                     std::to_string(gap.last_step));
    }
    return gaps;
  }
  static void CutOff(const std::string& path) {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  }
  // The names of its segments, the oldest first.
  static std::vector<std::string> Segments(const std::string& folder) {
    std::vector<std::string> names;
    for (const std::string& name : testing::NamesIn(folder)) {
      if (name.ends_with(".seg")) names.push_back(name);
    }
    return names;
  }
  static std::uint64_t SeqOf(const std::string& segment) {
    return std::stoull(segment);
  }

  testing::TempDir dir_;
  const std::string root_ = dir_.path() + "/spool";
  const std::string rings_ = dir_.path() + "/rings";
  testing::FaultyDisk disk_;
  testing::ManualClock clock_;
  testing::FakeNetwork network_;
  LeftoverDriveOptions options_{"peer:1", /*hurry=*/true,
                                std::chrono::seconds(60)};
};

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_DRIVE_FIXTURE_H_
