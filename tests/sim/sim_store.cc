#include "sim/sim_store.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/codec.h"

namespace gradtap::sim {

using server::Branch;
using server::RunEntry;
using server::StreamCommit;
using server::StreamEntry;
using server::StreamHello;
using server::StreamId;

namespace {

// Points of a write at which the process may die.
constexpr int kBeforeWrite = 0;
constexpr int kBeforeSync = 1;
constexpr int kAfterSync = 2;
constexpr int kPoints = 3;

absl::Status Unused() { return absl::UnimplementedError("not simulated"); }

}  // namespace

void SimDisk::Crash(Random* random) {
  std::uint64_t unsynced = 0;
  for (std::size_t i = synced; i < log.size(); ++i) unsynced += log[i]->bytes;
  std::uint64_t kept = unsynced == 0 ? 0 : random->Below(unsynced + 1);
  std::size_t whole = synced;
  while (whole < log.size() && log[whole]->bytes <= kept) {
    kept -= log[whole++]->bytes;
  }
  if (whole < log.size() && kept > 0) {
    auto torn = std::make_shared<DiskWrite>(*log[whole]);
    torn->torn = true;
    log[whole++] = std::move(torn);
  }
  log.resize(whole);
}

SimStore::SimStore(SimDisk* disk, World* world, StoreObserver* observer,
                   Mutant mutant)
    : disk_(disk), world_(world), observer_(observer), mutant_(mutant) {
  Reopen();
}

void SimStore::Reopen() {
  streams_.clear();
  observer_->OnReopened();
  // A torn tail was never acknowledged.
  if (!disk_->log.empty() && disk_->log.back()->torn) {
    if (mutant_ == Mutant::kKeepTornWrite &&
        !disk_->log.back()->commits.empty()) {
      auto kept = std::make_shared<DiskWrite>(*disk_->log.back());
      kept->torn = false;
      auto& steps = kept->commits.back().stored.steps;
      if (!steps.empty()) steps.pop_back();
      disk_->log.back() = std::move(kept);
    } else {
      disk_->log.pop_back();
    }
  }
  for (const auto& write : disk_->log) Apply(*write, true);
  if (mutant_ == Mutant::kStoreTwice && !disk_->log.empty()) {
    Apply(*disk_->log.back(), true);
  }
  disk_->synced = disk_->log.size();
  observer_->OnSynced();
  if (mutant_ == Mutant::kForgetCursor) {
    for (auto& [id, stream] : streams_) stream.entry.durable_seq = 0;
  }
}

const StreamEntry* SimStore::FindStream(StreamId id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second.entry;
}

// ---- Writing. ----

absl::Status SimStore::Recover() {
  if (!failed_) return absl::OkStatus();
  if (disk_->state == SimDisk::State::kFull) {
    return absl::ResourceExhaustedError("no space left");
  }
  if (disk_->state != SimDisk::State::kGood) {
    return absl::UnavailableError("the disk fails");
  }
  world_->Trace("store opens again");
  // What a failed sync left may be there, whole, or not.
  disk_->Crash(&world_->random());
  Reopen();
  failed_ = false;
  return absl::OkStatus();
}

void SimStore::DieIfDue(int point) {
  if (die_in_ == 0 || die_in_ > 1 || die_at_ != point) return;
  world_->Trace("collector dies in a write, at point ", point);
  throw CollectorDies();
}

absl::Status SimStore::Write(DiskWrite write) {
  if (die_in_ > 1) {
    --die_in_;
  } else if (die_in_ == 1) {
    die_at_ = static_cast<int>(world_->random().Below(kPoints));
  }
  DieIfDue(kBeforeWrite);
  if (disk_->state == SimDisk::State::kFull) {
    if (mutant_ == Mutant::kAckFailedCommit && !write.created.has_value()) {
      return absl::OkStatus();
    }
    failed_ = true;
    return absl::ResourceExhaustedError("no space left");
  }
  const auto written = std::make_shared<const DiskWrite>(std::move(write));
  disk_->log.push_back(written);
  if (disk_->state == SimDisk::State::kFailsWrites) {
    auto torn = std::make_shared<DiskWrite>(*written);
    torn->torn = true;
    disk_->log.back() = std::move(torn);
    failed_ = true;
    return absl::UnavailableError("cannot write");
  }
  DieIfDue(kBeforeSync);
  if (disk_->state == SimDisk::State::kFailsSyncs) {
    failed_ = true;
    return absl::UnavailableError("cannot sync");
  }
  if (mutant_ == Mutant::kAckBeforeSync && !written->created.has_value()) {
    Apply(*written, false);
    return absl::OkStatus();
  }
  disk_->synced = disk_->log.size();
  DieIfDue(kAfterSync);
  Apply(*written, false);
  observer_->OnSynced();
  return absl::OkStatus();
}

absl::StatusOr<StreamEntry> SimStore::OpenStream(const StreamHello& hello,
                                                 std::int64_t now_unix_ns) {
  if (const absl::Status s = Recover(); !s.ok()) return s;
  StreamId next = 1;
  for (auto& [id, stream] : streams_) {
    next = id + 1;
    const StreamHello& known = stream.entry.hello;
    if (known.run == hello.run && known.rank == hello.rank &&
        known.process_nonce == hello.process_nonce) {
      stream.entry.last_seen_unix_ns =
          std::max(stream.entry.last_seen_unix_ns, now_unix_ns);
      return stream.entry;
    }
  }
  DiskWrite write;
  write.bytes = 200;
  StreamEntry& entry = write.created.emplace();
  entry.id = next;
  entry.hello = hello;
  entry.last_seen_unix_ns = now_unix_ns;
  entry.branches.emplace_back();
  if (const absl::Status s = Write(std::move(write)); !s.ok()) return s;
  return streams_.at(next).entry;
}

absl::Status SimStore::Check(std::span<const StreamCommit> commits) const {
  std::map<StreamId, std::uint64_t> cursors;
  for (const StreamCommit& commit : commits) {
    const StreamEntry* const entry = FindStream(commit.stream);
    if (entry == nullptr) return absl::NotFoundError("the stream is gone");
    const auto [cursor, added] =
        cursors.emplace(commit.stream, entry->durable_seq);
    if (commit.first_seq != cursor->second + 1) {
      return absl::FailedPreconditionError(
          absl::StrCat("stream ", commit.stream, " is at seq ", cursor->second,
                       ", not before ", commit.first_seq));
    }
    cursor->second = commit.last_seq;
  }
  return absl::OkStatus();
}

absl::Status SimStore::Commit(std::span<const StreamCommit> commits) {
  if (const absl::Status s = Recover(); !s.ok()) return s;
  if (const absl::Status s = Check(commits); !s.ok()) return s;
  DiskWrite write;
  for (const StreamCommit& commit : commits) {
    write.commits.push_back(Store(commit));
    write.bytes += 100 + commit.bytes;
  }
  return Write(std::move(write));
}

void SimStore::Touch(Branch range, std::vector<Branch>* ranges) {
  for (Branch& known : *ranges) {
    if (known.branch != range.branch) continue;
    if (known.first_step < 0 ||
        (range.first_step >= 0 && range.first_step < known.first_step)) {
      known.first_step = range.first_step;
    }
    known.last_step = std::max(known.last_step, range.last_step);
    known.rows += range.rows;
    return;
  }
  ranges->push_back(range);
}

DiskWrite::Commit SimStore::Store(const StreamCommit& commit) const {
  DiskWrite::Commit out;
  out.stored.stream = commit.stream;
  out.stored.first_seq = commit.first_seq;
  out.stored.last_seq = commit.last_seq;
  out.stored.rejected = commit.rejected_records;
  out.drop_parts = commit.drop_parts;
  out.end = commit.end;
  out.last_seen_unix_ns = commit.last_seen_unix_ns;
  for (const auto& schema : commit.schemas) {
    out.stored.schemas.push_back(EffectOf(schema));
    out.schemas[schema.schema_id] =
        std::make_shared<const Schema>(*DecodeSchema(schema.body));
  }
  for (const auto& added : commit.new_branches) {
    out.stored.branches.push_back(
        EffectOfBranch(added.branch, added.rollback_step));
  }
  for (const auto& step : commit.steps) {
    out.stored.steps.push_back(EffectOf(step));
    ++(step.has_statistics ? out.recorded : out.skipped);
    Touch({step.branch, step.step, step.step, 1}, &out.ranges);
  }
  for (const auto& gap : commit.gaps) {
    out.stored.gaps.push_back(EffectOf(gap.branch, gap.gap));
    const bool lost = IsLost(gap.gap.cause);
    (lost ? out.lost : out.skipped) += gap.gap.steps;
    if (lost && mutant_ == Mutant::kCountLostAsStored) {
      out.recorded += gap.gap.steps;
    }
    Touch({gap.branch, gap.gap.first_step, gap.gap.last_step, 0}, &out.ranges);
  }
  if (commit.end.has_value()) out.stored.ends.push_back(EffectOf(*commit.end));
  for (const auto& part : commit.parts) {
    out.parts.emplace_back(part.seq, std::string(part.data));
  }
  return out;
}

void SimStore::Apply(const DiskWrite& write, bool on_recovery) {
  if (write.created.has_value()) {
    streams_[write.created->id].entry = *write.created;
    observer_->OnStreamStored(*write.created);
  }
  for (const DiskWrite::Commit& commit : write.commits) {
    Stream& stream = streams_.at(commit.stored.stream);
    Require(on_recovery ||
                stream.entry.durable_seq + 1 == commit.stored.first_seq ||
                mutant_ != Mutant::kNone,
            "the simulated store is wrong");
    ApplyCommit(commit, &stream);
    observer_->OnCommitStored(commit.stored);
  }
}

void SimStore::ApplyCommit(const DiskWrite::Commit& commit, Stream* stream) {
  StreamEntry& entry = stream->entry;
  entry.durable_seq = commit.stored.last_seq;
  entry.stored_steps += commit.recorded;
  entry.skipped_steps += commit.skipped;
  entry.lost_steps += commit.lost;
  entry.rejected_records += commit.stored.rejected;
  entry.last_seen_unix_ns =
      std::max(entry.last_seen_unix_ns, commit.last_seen_unix_ns);
  if (commit.end.has_value()) entry.end = commit.end;
  for (const Effect& branch : commit.stored.branches) {
    entry.branches.push_back({branch.number, -1, -1, 0});
  }
  for (const Branch& range : commit.ranges) Touch(range, &entry.branches);
  for (const auto& [id, schema] : commit.schemas) {
    stream->schemas[id] = schema;
    entry.schema_id = std::max(entry.schema_id, id);
  }
  if (commit.drop_parts) stream->parts.clear();
  for (const auto& [seq, data] : commit.parts) stream->parts[seq] = data;
}

// ---- Reading. ----

server::KeptParts SimStore::PartsOf(StreamId stream) const {
  server::KeptParts kept;
  if (mutant_ == Mutant::kForgetParts) return kept;
  for (const auto& [seq, data] : streams_.at(stream).parts) {
    kept.Add(seq, data.size());
  }
  return kept;
}

absl::Status SimStore::ScanParts(
    StreamId stream, std::uint64_t begin, std::uint64_t end,
    const std::function<bool(std::string_view)>& visit) {
  const auto& parts = streams_.at(stream).parts;
  for (auto it = parts.lower_bound(begin); it != parts.end(); ++it) {
    if (it->first >= end || !visit(it->second)) break;
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const RunEntry>> SimStore::Runs() const {
  std::set<std::string> names;
  for (const auto& [id, stream] : streams_)
    names.insert(stream.entry.hello.run);
  std::vector<std::shared_ptr<const RunEntry>> runs;
  for (const std::string& name : names) runs.push_back(FindRun(name));
  return runs;
}

std::shared_ptr<const RunEntry> SimStore::FindRun(std::string_view run) const {
  std::shared_ptr<RunEntry> entry;
  for (const auto& [id, stream] : streams_) {
    if (stream.entry.hello.run != run) continue;
    if (entry == nullptr) entry = std::make_shared<RunEntry>();
    entry->run = std::string(run);
    entry->streams.push_back(stream.entry);
  }
  return entry;
}

absl::StatusOr<std::shared_ptr<const Schema>> SimStore::ReadSchema(
    StreamId stream, std::uint32_t schema_id) {
  const auto& schemas = streams_.at(stream).schemas;
  const auto found = schemas.find(schema_id);
  if (found == schemas.end()) return absl::NotFoundError("no such schema");
  return found->second;
}

absl::Status SimStore::ScanSteps(
    StreamId, std::uint32_t, std::int64_t, std::int64_t,
    const std::function<bool(const server::StepRow&)>&) {
  return Unused();
}
absl::StatusOr<std::optional<std::string>> SimStore::ReadHistogramBlock(
    StreamId, std::uint32_t, std::int64_t, Role, std::uint32_t) {
  return Unused();
}
absl::StatusOr<std::optional<std::int64_t>> SimStore::FindHistogramStep(
    StreamId, std::uint32_t, std::int64_t, std::int64_t, bool) {
  return Unused();
}
absl::StatusOr<std::vector<server::GapRow>> SimStore::ReadGaps(StreamId) {
  return Unused();
}
absl::Status SimStore::ScanByOrdinal(
    std::string_view, std::uint64_t,
    const std::function<bool(const server::StepRow*, const server::GapRow*)>&) {
  return Unused();
}
absl::Status SimStore::DeleteRun(std::string_view) { return Unused(); }
int SimStore::AddListener(std::function<void(const std::string&)>) { return 1; }

}  // namespace gradtap::sim
