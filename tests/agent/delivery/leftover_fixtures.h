// Spools as processes leave them that die.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_FIXTURES_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_FIXTURES_H_

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "agent/delivery/backlog.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/leftover.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/ring_file.h"
#include "agent/spool/spool_fixtures.h"
#include "core/clock.h"

namespace gradtap::testing {

// A process that records into its spool; its end is its death: no End record.
class DyingProcess {
 public:
  DyingProcess(const std::string& root, agent::SpoolIdentity identity,
               agent::Syscalls* disk, std::uint64_t segment_bytes = 4096,
               std::size_t places = 4)
      : places_(places),
        ring_(MakeRing(4 << 20, 8 * 1024)),
        recorder_(ring_.get(), &books_, &RealClock()),
        backlog_(ring_.get()) {
    agent::SpoolOptions options;
    options.segment_bytes = segment_bytes;
    auto spool = agent::Spool::Create(root, std::move(identity), options, disk);
    if (!spool.ok()) throw std::runtime_error(spool.status().ToString());
    backlog_.SetSpool(*std::move(spool));
    recorder_.PutSchema(MakeSchema(1, places_));
  }

  // The schema is record 1, step n record n + 2.
  void PutSteps(int count) {
    for (; count > 0; --count) {
      recorder_.PutStep(MakeStep(next_step_++, schema_id_, places_));
    }
  }
  // The same with another id: steps refer to it from now on.
  void PutSchemaAgain() {
    ++schema_id_;
    recorder_.PutSchema(MakeSchema(schema_id_, places_));
  }
  void End() { recorder_.PutEnd(EndReason::kFinished); }
  // To an earlier step, which is one more record.
  void GoBack(std::int64_t step) {
    next_step_ = step;
    recorder_.Rollback(step);
  }
  // What is before `seq` has been acknowledged.
  void FreeBefore(std::uint64_t seq) {
    agent::EntryView entry;
    for (std::uint64_t sent = backlog_.first_seq(); sent < seq; ++sent) {
      if (!backlog_.Read(sent, &entry)) throw std::runtime_error("read");
    }
    backlog_.FreeBefore(seq);
  }
  // All that is at hand goes to the spool, whose folder this is.
  std::string Spill() {
    if (!backlog_.Spill(0).ok()) throw std::runtime_error("spill");
    return backlog_.spool()->path();
  }

 private:
  const std::size_t places_;
  agent::Books books_;
  std::unique_ptr<agent::Ring> ring_;
  agent::Recorder recorder_;
  agent::Backlog backlog_;
  std::int64_t next_step_ = 0;
  std::uint32_t schema_id_ = 1;
};

// Steps 0 to `steps` - 1 of which those up to record `freed` are gone; returns
// the folder.
inline std::string LeaveSpool(const std::string& root, int steps,
                              agent::SpoolIdentity identity = MakeIdentity(),
                              std::uint64_t freed = 0) {
  static FaultyDisk quick;  // Its syncs cost nothing.
  DyingProcess process(root, std::move(identity), &quick);
  process.PutSteps(steps);
  process.FreeBefore(freed + 1);
  return process.Spill();
}

// Where that is.
inline agent::LeftoverPlace SpoolPlace(std::string folder) {
  agent::LeftoverPlace place;
  place.spool = std::move(folder);
  return place;
}

// The same in a ring's file, which is `folder`/NONCE.ring; records before
// `spooled` have gone to the spool below `spool_root`, those before `freed` are
// not in the ring any more.
inline void LeaveRing(const std::string& folder, const std::string& spool_root,
                      int steps, std::uint64_t spooled, std::uint64_t freed,
                      agent::SpoolIdentity identity = MakeIdentity()) {
  static FaultyDisk quick;
  agent::RingFileOptions options;
  options.folder = folder;
  options.capacity_bytes = 1 << 20;
  options.reserve_bytes = 1024;
  options.identity = identity;
  options.spool_root = spool_root;
  auto file = agent::RingFile::Create(options);
  if (!file.ok()) throw std::runtime_error(file.status().ToString());
  const auto ring = (*file)->TakeRing();
  agent::Books books;
  agent::Recorder recorder(ring.get(), &books, &RealClock());
  recorder.PutSchema(MakeSchema(1, 4));
  for (int step = 0; step < steps; ++step) {
    recorder.PutStep(MakeStep(step, 1, 4));
  }
  if (spooled > 1) {
    auto spool =
        agent::Spool::Create(spool_root, std::move(identity), {}, &quick);
    if (!spool.ok()) throw std::runtime_error(spool.status().ToString());
    agent::EntryView entry;
    for (std::uint64_t seq = 1; seq < spooled; ++seq) {
      if (!ring->Read(seq, &entry) ||
          !(*spool)->Append(seq, entry.meta, entry.bytes).ok()) {
        throw std::runtime_error("spill");
      }
    }
  }
  ring->FreeBefore(freed);
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_LEFTOVER_FIXTURES_H_
