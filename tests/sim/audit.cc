#include "sim/audit.h"

namespace gradtap::sim {

void Audit::OnReopened() {
  ++revision_;
  for (auto& [id, stream] : streams_) stream.visible_seq = 0;
}

void Audit::OnStreamStored(const server::StreamEntry& entry) {
  ++revision_;
  const auto process = processes_.find(entry.hello.process_nonce);
  Require(process != processes_.end(), "a stream of an unknown process");
  Stream& stream = streams_[entry.id];
  stream.agent = process->second;
  Require(stream.agent->plan().rank == entry.hello.rank,
          "a stream of another rank");
}

void Audit::OnCommitStored(const StoredCommit& commit) {
  ++revision_;
  Stream& stream = streams_.at(commit.stream);
  stream.agent->ledger().Check(commit, stream.visible_seq);
  stream.visible_seq = commit.last_seq;
  world_->Trace("stored: stream ", commit.stream, ", seqs ", commit.first_seq,
                " to ", commit.last_seq);
}

void Audit::OnSynced() {
  ++revision_;
  for (auto& [id, stream] : streams_) {
    Require(stream.visible_seq >= stream.durable_seq, "stream ", id,
            " was durable up to seq ", stream.durable_seq, " and has only seq ",
            stream.visible_seq, " left");
    stream.durable_seq = stream.visible_seq;
  }
}

const Audit::Stream* Audit::Find(const SimAgent& agent,
                                 server::StreamId* id) const {
  for (const auto& [key, stream] : streams_) {
    if (stream.agent != &agent) continue;
    *id = key;
    return &stream;
  }
  return nullptr;
}

std::uint64_t Audit::durable_seq(const SimAgent& agent) const {
  server::StreamId id = 0;
  const Stream* const stream = Find(agent, &id);
  return stream == nullptr ? 0 : stream->durable_seq;
}

void Audit::Check(const SimAgent& agent, const SimStore* store) const {
  server::StreamId id = 0;
  const Stream* const stream = Find(agent, &id);
  const std::uint64_t durable = stream == nullptr ? 0 : stream->durable_seq;
  Require(agent.acknowledged_seq() <= durable, "rank ", agent.plan().rank,
          " has freed its records up to seq ", agent.acknowledged_seq(),
          "; only those up to ", durable, " survive a crash");
  agent.CheckBooks();
  if (stream == nullptr || store == nullptr) return;
  const server::StreamEntry* const entry = store->FindStream(id);
  if (entry == nullptr) return;  // Its creation was never synced.
  Require(entry->durable_seq == stream->visible_seq, "stream ", id,
          " has its cursor at seq ", entry->durable_seq, ", its records at ",
          stream->visible_seq);
  const Ledger& ledger = agent.ledger();
  const Sums& stored = ledger.SumsThrough(stream->visible_seq);
  const Sums& made = ledger.SumsThrough(ledger.last_seq());
  Require(entry->stored_steps == stored.steps_recorded - stored.steps_rejected,
          "stream ", id, " counts ", entry->stored_steps, " steps stored, of ",
          stored.steps_recorded - stored.steps_rejected);
  Require(entry->skipped_steps == stored.steps_skipped, "stream ", id,
          " counts ", entry->skipped_steps, " steps skipped, of ",
          stored.steps_skipped);
  Require(entry->lost_steps == stored.steps_lost + stored.steps_rejected,
          "stream ", id, " counts ", entry->lost_steps, " steps lost, of ",
          stored.steps_lost, " and ", stored.steps_rejected, " rejected");
  // Seen = stored + skipped + declared lost + at hand.
  const agent::DeliveryCounters c = agent.books().Snapshot();
  const auto noted = c.by_cause.find(GapCause::kRejected);
  const std::uint64_t declared =
      c.steps_lost - (noted == c.by_cause.end() ? 0 : noted->second);
  const std::uint64_t at_hand = made.steps_recorded - stored.steps_recorded;
  Require(c.steps_seen == entry->stored_steps + stored.steps_rejected +
                              c.steps_skipped + declared + at_hand,
          "rank ", agent.plan().rank, " has seen ", c.steps_seen,
          " steps: ", entry->stored_steps, " stored, ", stored.steps_rejected,
          " rejected, ", c.steps_skipped, " skipped, ", declared, " lost, ",
          at_hand, " at hand");
}

}  // namespace gradtap::sim
