#include "sim/sim_command.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/spool/owned_file.h"

namespace gradtap::sim {
namespace {

using agent::SpoolUse;

constexpr Duration kLongestWait = milliseconds(100);
constexpr milliseconds kPatience{20'000};

std::deque<agent::LeftoverPlace> PlacesIn(const std::string& folder,
                                          const std::string& ring_folder) {
  const auto found = agent::FindLeftovers(folder, ring_folder, true);
  if (!found.ok()) return {};
  return {found->begin(), found->end()};
}

}  // namespace

SimCommand::SimCommand(World* world, SimHost* host, std::string name,
                       Mutant mutant, SimTransport::ConnectFn connect)
    : world_(world),
      name_(std::move(name)),
      mutant_(mutant),
      connect_(std::move(connect)),
      use_(SpoolUse::kTakeOver),
      disk_(host, world, mutant),
      clock_(world, false),
      places_(PlacesIn(host->spools(), host->rings())) {}

SimCommand::SimCommand(World* world, SimHost* host, std::string name,
                       Mutant mutant, SimTransport::ConnectFn connect,
                       const std::string& copy)
    : world_(world),
      name_(std::move(name)),
      mutant_(mutant),
      connect_(std::move(connect)),
      use_(SpoolUse::kCopy),
      disk_(host, world, mutant),
      clock_(world, false),
      places_(PlacesIn(copy, "")) {}

void SimCommand::WakeWithin(Duration most) {
  if (ended_) return;
  const Duration at =
      world_->now() + world_->random().Between(Duration(0), most);
  if (wake_at_ >= world_->now() && wake_at_ <= at) return;
  wake_at_ = at;
  const std::uint64_t wake = ++wake_;
  world_->After(at - world_->now(), [this, wake] {
    if (wake == wake_) Wake();
  });
}

void SimCommand::Wake() {
  wake_at_ = Duration(-1);
  if (ended_) return;
  try {
    TakeTurns();
    if (disk_.dead()) throw ProcessDies();
  } catch (const ProcessDies&) {
    return Kill();
  }
  WakeWithin(kLongestWait);
}

void SimCommand::TakeTurns() {
  if (drive_ == nullptr) {
    if (places_.empty()) return LetGo();
    Open();
    return;
  }
  if (drive_->Poll()) return;
  const agent::LeftoverOutcome outcome = drive_->outcome();
  world_->Trace(name_, ": ", outcome.status.ToString(), "; ",
                outcome.records_there, " records there, ", outcome.records_sent,
                " sent");
  succeeded_ &= outcome.status.ok();
  drive_.reset();
  leftover_.reset();
}

void SimCommand::Open() {
  const agent::LeftoverPlace place = std::move(places_.front());
  places_.pop_front();
  if (place.set_aside && use_ == SpoolUse::kTakeOver) return;
  auto leftover = agent::Leftover::Open(place, use_, &disk_);
  if (!leftover.ok()) {
    // Its process lives, another one is at it, or has been.
    const bool in_use = agent::LiveOwner(leftover.status()).has_value();
    world_->Trace(name_, " cannot open one: ",
                  absl::StatusCodeToString(leftover.status().code()));
    succeeded_ &= in_use || absl::IsNotFound(leftover.status());
    return;
  }
  leftover_ = *std::move(leftover);
  world_->Trace(name_, " has ", leftover_->Description(), ", seqs ",
                leftover_->backlog()->first_seq(), " to ",
                leftover_->backlog()->last_seq());
  agent::LeftoverDriveOptions options;
  options.collector = "sim";
  options.hurry = true;
  options.patience = kPatience;
  options.uniform = [world = world_] { return world->random().Uniform(); };
  transports_.push_back(std::make_shared<SimTransport>(
      world_, name_, mutant_, connect_, [this] { WakeWithin(milliseconds(1)); },
      &partitioned_));
  drive_ = std::make_unique<agent::LeftoverDrive>(
      leftover_.get(), std::move(options), transports_.back()->Lend(), &clock_);
}

void SimCommand::Kill() {
  if (ended_) return;
  world_->Trace(name_, " is killed");
  disk_.Die();
  succeeded_ = false;
  LetGo();
}

void SimCommand::LetGo() {
  ended_ = true;
  drive_.reset();
  leftover_.reset();
  for (const auto& transport : transports_) transport->Close();
}

}  // namespace gradtap::sim
