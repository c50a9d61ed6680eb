#include "server/store/commit_builder.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/keys.h"

namespace gradtap::server {

struct CommitBuilder::Target {
  RunChange& run;
  StreamEntry& stream;
  KeptParts& parts;
  std::set<std::uint32_t> touched;  // Branches to write.

  // The branch must exist; it takes in the steps from first to last.
  Branch& Touch(std::uint32_t number, std::int64_t first, std::int64_t last) {
    Branch& branch = stream.branches[number];
    if (branch.first_step < 0 || first < branch.first_step) {
      branch.first_step = first;
    }
    branch.last_step = std::max(branch.last_step, last);
    touched.insert(number);
    return branch;
  }
};

void CommitBuilder::SetStream(StreamId stream, StreamState state) {
  StreamChange& change = streams_[stream];
  if (state.run.run_id == 0) return;
  change.run = state.run.entry->run;
  change.parts = state.parts;
  if (runs_.count(change.run) == 0) {
    runs_[change.run] = {state.run.run_id, *state.run.entry, {}};
  }
}

namespace {

absl::Status CheckCommit(const StreamCommit& commit,
                         const StreamEntry& stream) {
  if (commit.first_seq != stream.durable_seq + 1 ||
      commit.last_seq < commit.first_seq) {
    return absl::FailedPreconditionError(absl::StrCat(
        "stream ", commit.stream, " is durable up to seq ", stream.durable_seq,
        "; a commit of seqs ", commit.first_seq, " to ", commit.last_seq,
        " does not follow it"));
  }
  std::uint64_t branches = stream.branches.size();
  for (const auto& added : commit.new_branches) {
    if (added.branch != branches++) {
      return absl::FailedPreconditionError(
          absl::StrCat("stream ", commit.stream, ": branch ", added.branch,
                       " does not follow branch ", branches - 2));
    }
  }
  const auto unknown = [&](std::uint32_t branch) { return branch >= branches; };
  for (const auto& step : commit.steps) {
    if (unknown(step.branch)) {
      return absl::FailedPreconditionError(
          absl::StrCat("stream ", commit.stream, " has no branch ", step.branch,
                       " for step ", step.step));
    }
  }
  for (const auto& gap : commit.gaps) {
    if (unknown(gap.branch)) {
      return absl::FailedPreconditionError(
          absl::StrCat("stream ", commit.stream, " has no branch ", gap.branch,
                       " for the gap at step ", gap.gap.first_step));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CommitBuilder::Add(const StreamCommit& commit) {
  StreamChange& change = streams_[commit.stream];
  if (change.run.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "stream ", commit.stream, " is gone: its run has been deleted"));
  }
  RunChange& run = runs_[change.run];
  StreamEntry& stream = run.entry.streams[IndexOf(run.entry, commit.stream)];
  if (const absl::Status s = CheckCommit(commit, stream); !s.ok()) return s;
  Target target{run, stream, change.parts, {}};

  for (const auto& added : commit.new_branches) {
    Branch& branch = stream.branches.emplace_back();
    branch.branch = added.branch;
    branch.rollback_step = added.rollback_step;
    target.touched.insert(added.branch);
  }
  for (const auto& schema : commit.schemas) {
    batch_.Put(engine_.index(),
               keys::Schema(run.run_id, stream.id, schema.schema_id),
               Slice(schema.body));
    stream.schema_id = std::max(stream.schema_id, schema.schema_id);
    stream.optimizers = schema.optimizers;
  }
  AddRows(commit, &target);
  AddParts(commit, &target);

  stream.durable_seq = commit.last_seq;
  stream.bytes += commit.bytes;
  stream.rejected_records += commit.rejected_records;
  stream.last_seen_unix_ns =
      std::max(stream.last_seen_unix_ns, commit.last_seen_unix_ns);
  if (commit.end.has_value()) stream.end = commit.end;
  for (const std::uint32_t number : target.touched) {
    batch_.Put(engine_.catalog(), keys::Branch(run.run_id, stream.id, number),
               EncodeBranch(stream.branches[number]));
  }
  batch_.Put(engine_.catalog(), keys::Cursor(run.run_id, stream.id),
             EncodeCursor(stream));
  counters_.stored_bytes += commit.bytes;
  counters_.rejected_records += commit.rejected_records;
  ++counters_.commits;
  return absl::OkStatus();
}

// Rows and gaps get their ordinals in the order of their steps.
void CommitBuilder::AddRows(const StreamCommit& commit, Target* target) {
  auto step = commit.steps.begin();
  for (const auto& gap : commit.gaps) {
    while (step != commit.steps.end() &&
           std::tie(step->branch, step->step) <
               std::tie(gap.branch, gap.gap.first_step)) {
      AddStep(*step++, target);
    }
    AddGap(gap, target);
  }
  while (step != commit.steps.end()) AddStep(*step++, target);
}

void CommitBuilder::AddStep(const StreamCommit::Step& step, Target* target) {
  RunChange& run = target->run;
  StreamEntry& stream = target->stream;
  const std::uint64_t ordinal = ++run.entry.ordinal;
  std::string head;
  PutU64(ordinal, &head);
  const std::string key =
      keys::Row(run.run_id, stream.id, step.branch, step.step);
  const rocksdb::Slice key_parts[] = {key};
  const rocksdb::Slice value_parts[] = {head, Slice(step.body)};
  batch_.Put(engine_.rows(), rocksdb::SliceParts(key_parts, 1),
             rocksdb::SliceParts(value_parts, 2));
  for (const HistogramBlock& block : step.histograms) {
    batch_.Put(
        engine_.histograms(),
        keys::Histogram(run.run_id, stream.id, step.branch, step.step,
                        static_cast<std::uint8_t>(block.role), block.block),
        Slice(block.body));
  }
  batch_.Put(
      engine_.index(), keys::Ordinal(run.run_id, ordinal),
      keys::EncodeOrdinalValue({false, stream.id, step.branch, step.step}));
  run.records.push_back(std::make_shared<const TailRecord>(
      TailRecord{ordinal, stream.id, step.branch, step.step,
                 std::string(step.body), std::nullopt}));
  ++target->Touch(step.branch, step.step, step.step).rows;
  if (step.has_statistics) {
    ++stream.stored_steps;
    ++counters_.stored_steps;
    counters_.stored_values += 9 * step.records;
  } else {
    ++stream.skipped_steps;
  }
}

void CommitBuilder::AddGap(const StreamCommit::Gap& gap, Target* target) {
  RunChange& run = target->run;
  StreamEntry& stream = target->stream;
  const std::uint64_t ordinal = ++run.entry.ordinal;
  batch_.Put(
      engine_.index(),
      keys::Gap(run.run_id, stream.id, gap.branch, gap.gap.first_step, ordinal),
      EncodeGapValue(gap.gap));
  batch_.Put(engine_.index(), keys::Ordinal(run.run_id, ordinal),
             keys::EncodeOrdinalValue(
                 {true, stream.id, gap.branch, gap.gap.first_step}));
  run.records.push_back(std::make_shared<const TailRecord>(
      TailRecord{ordinal, stream.id, gap.branch, gap.gap.first_step, "",
                 GapRow{stream.id, gap.branch, ordinal, gap.gap}}));
  target->Touch(gap.branch, gap.gap.first_step, gap.gap.last_step);
  if (IsLost(gap.gap.cause)) {
    stream.lost_steps += gap.gap.steps;
  } else {
    stream.skipped_steps += gap.gap.steps;
  }
}

void CommitBuilder::AddParts(const StreamCommit& commit, Target* target) {
  if (commit.drop_parts) DropParts(target);
  for (const auto& part : commit.parts) {
    batch_.Put(engine_.index(),
               keys::Part(target->run.run_id, target->stream.id, part.seq),
               Slice(part.data));
    target->parts.Add(part.seq, part.data.size());
  }
}

void CommitBuilder::DropParts(Target* target) {
  const KeptParts kept = std::exchange(target->parts, {});
  if (kept.parts == 0) return;
  const auto key = [target](std::uint64_t seq) {
    return keys::Part(target->run.run_id, target->stream.id, seq);
  };
  if (kept.whole()) {
    for (std::uint64_t seq = kept.first_seq; seq < kept.last_seq; ++seq) {
      batch_.Delete(engine_.index(), key(seq));
    }
  } else {  // Holes may be of any size.
    batch_.DeleteRange(engine_.index(), key(kept.first_seq),
                       key(kept.last_seq));
  }
  batch_.Delete(engine_.index(), key(kept.last_seq));
}

void CommitBuilder::Finish() {
  for (const auto& [name, run] : runs_) {
    batch_.Put(engine_.catalog(), keys::Run(name),
               EncodeRunHead(HeadOf(run.run_id, run.entry)));
  }
}

}  // namespace gradtap::server
