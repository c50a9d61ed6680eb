// Faults of the code, as switches of what stands around the code: each is done
// by a fake, or by a wrapper that falsifies what passes.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SIM_MUTANT_H_
#define GRADTAP_TESTS_SIM_MUTANT_H_

#include <array>
#include <ostream>
#include <string_view>

namespace gradtap::sim {

enum class Mutant {
  kNone,
  // Collector.
  kAckBeforeSync,
  kAckFailedCommit,
  kForgetCursor,
  kKeepTornWrite,
  kStoreTwice,
  kAcceptGap,
  kCountLostAsStored,
  kForgetParts,
  kHoldLiveSession,
  // Agent.
  kReuseSeq,
  kReuseNonce,
  kSkipAfterReconnect,
  kFreeOnSend,
  kIgnoreCredit,
  kCountTwice,
  kLoseGap,
  kTrustWallClock,
  kNeverReconnect,
  // Its host.
  kSpoolWritesNothing,
  kSpoolNeverSyncs,
  kSpoolNeverSyncsNames,
  kSpoolKeepsAll,
  kRingDiesToo,
};

struct MutantInfo {
  Mutant mutant;
  std::string_view name;
  std::string_view what;
  std::string_view caught_by;  // A regular expression for the violation.
};

// For GoogleTest.
inline void PrintTo(const MutantInfo& info, std::ostream* out) {
  *out << info.name;
}

inline constexpr std::array<MutantInfo, 23> kMutants = {{
    {Mutant::kAckBeforeSync, "ack-before-sync",
     "the store says OK before its sync", "survive a crash"},
    {Mutant::kAckFailedCommit, "ack-failed-commit",
     "the store says OK when the disk is full", "survive a crash"},
    {Mutant::kForgetCursor, "forget-cursor",
     "a restarted collector begins each stream at seq 1", "has its cursor at"},
    {Mutant::kKeepTornWrite, "keep-torn-write",
     "a write that a crash has torn is recovered without its last row",
     "is missing"},
    {Mutant::kStoreTwice, "store-twice",
     "recovery plays the newest write twice", "are stored after"},
    {Mutant::kAcceptGap, "accept-gap",
     "a batch is dropped, and the next one taken as if it followed",
     "is stored as"},
    {Mutant::kCountLostAsStored, "count-lost-as-stored",
     "steps that a gap declares lost count as stored", "steps stored, of"},
    {Mutant::kForgetParts, "forget-parts",
     "a session that resumes has lost the parts of unfinished records",
     "is missing"},
    {Mutant::kHoldLiveSession, "hold-live-session",
     "a stream whose call has ended stays taken",
     "not everything is delivered"},
    {Mutant::kReuseSeq, "reuse-seq", "two records get one seq", "is stored as"},
    {Mutant::kReuseNonce, "reuse-nonce",
     "a process that replaces a dead one takes its nonce",
     "is stored as|expects record"},
    {Mutant::kSkipAfterReconnect, "skip-after-reconnect",
     "the first record after a reconnect is left out",
     "is stored as|is missing"},
    {Mutant::kFreeOnSend, "free-on-send",
     "the ring is freed when a batch is sent", "survive a crash"},
    {Mutant::kIgnoreCredit, "ignore-credit",
     "the agent takes every credit for a gibibyte",
     "with a credit of|without credit"},
    {Mutant::kCountTwice, "count-twice",
     "a step that the full ring refused counts as recorded, too",
     "was offered"},
    {Mutant::kLoseGap, "lose-gap", "gaps are never told", "is missing"},
    {Mutant::kTrustWallClock, "trust-wall-clock",
     "the agent measures its delays with the wall clock",
     "not everything is delivered"},
    {Mutant::kNeverReconnect, "never-reconnect",
     "an agent connects at most three times", "not everything is delivered"},
    {Mutant::kSpoolWritesNothing, "spool-writes-nothing",
     "what is appended to a spool never reaches its disk",
     "not everything is delivered"},
    {Mutant::kSpoolNeverSyncs, "spool-never-syncs",
     "a segment is closed without a sync", "survive a loss of power"},
    {Mutant::kSpoolNeverSyncsNames, "spool-never-syncs-names",
     "a segment is made, and its folder not synced", "the name of the closed"},
    {Mutant::kSpoolKeepsAll, "spool-keeps-all",
     "segments that are delivered stay on disk", "is left behind"},
    {Mutant::kRingDiesToo, "ring-dies-too",
     "the ring's file goes with its process", "could still be delivered"},
}};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_MUTANT_H_
