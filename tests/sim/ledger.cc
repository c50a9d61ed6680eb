#include "sim/ledger.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "sim/world.h"

namespace gradtap::sim {
namespace {

std::uint64_t Mix(std::uint64_t a, std::uint64_t b) {
  return Random(a ^ (b * 0x9e3779b97f4a7c15u)).Next();
}

const char* NameOf(Effect::Kind kind) {
  switch (kind) {
    case Effect::Kind::kNothing:
      return "nothing";
    case Effect::Kind::kRejected:
      return "rejected";
    case Effect::Kind::kSchema:
      return "schema";
    case Effect::Kind::kStep:
      return "step";
    case Effect::Kind::kGap:
      return "gap";
    case Effect::Kind::kBranch:
      return "branch";
    case Effect::Kind::kEnd:
      return "end";
  }
  return "?";
}

std::string ToText(const Effect& effect) {
  return absl::StrCat(NameOf(effect.kind), " of number ", effect.number,
                      ", step ", effect.step, ", content ", effect.content);
}

}  // namespace

std::uint64_t HashOf(std::string_view bytes) {
  return std::hash<std::string_view>()(bytes);
}

Effect EffectOf(const server::StreamCommit::Step& step) {
  return {Effect::Kind::kStep, step.branch, step.step,
          Mix(HashOf(step.body), step.has_statistics ? 1 : 0)};
}

Effect EffectOf(const server::StreamCommit::SchemaBody& schema) {
  return {Effect::Kind::kSchema, schema.schema_id, 0, HashOf(schema.body)};
}

Effect EffectOf(std::uint32_t branch, const GapData& gap) {
  const std::uint64_t numbers =
      Mix(Mix(static_cast<std::uint64_t>(gap.cause), gap.steps),
          static_cast<std::uint64_t>(gap.last_step));
  // In which words the collector says why it refuses a step is its own affair.
  const bool refused = gap.cause == GapCause::kRejected;
  return {Effect::Kind::kGap, branch, gap.first_step,
          Mix(numbers, refused ? 0 : HashOf(gap.detail))};
}

Effect EffectOf(const EndData& end) {
  return {Effect::Kind::kEnd, 0, static_cast<std::int64_t>(end.steps_seen),
          Mix(Mix(end.steps_recorded, end.steps_skipped), end.steps_lost)};
}

Effect EffectOfBranch(std::uint32_t branch, std::int64_t rollback_step) {
  return {Effect::Kind::kBranch, branch, rollback_step, 0};
}

void Ledger::Note(const agent::EntryView& entry, bool refused) {
  Require(entry.seq == last_seq() + 1, "the ring gave seq ", entry.seq,
          " after seq ", last_seq());
  Sums sums = sums_.back();
  const auto record = ParseRecord(entry.bytes);
  Require(record.ok(), "a record in the ring is malformed");
  if (record->kind == RecordKind::kPart) {
    const auto part = DecodePart(record->body);
    Require(part.ok(), "a part in the ring is malformed");
    joined_.append(part->data);
    if (part->index + 1 < part->count) {
      effects_.push_back({});
    } else {
      NoteWhole(std::exchange(joined_, {}), refused, &sums);
    }
  } else {
    NoteWhole(entry.bytes, refused, &sums);
  }
  sums_.push_back(sums);
}

void Ledger::NoteWhole(std::string_view record_bytes, bool refused,
                       Sums* sums) {
  const auto record = ParseRecord(record_bytes);
  Require(record.ok(), "a record in the ring is malformed");
  switch (record->kind) {
    case RecordKind::kSchema: {
      const std::uint32_t id = DecodeSchema(record->body)->schema_id;
      effects_.push_back(
          EffectOf(server::StreamCommit::SchemaBody{id, record->body}));
      return;
    }
    case RecordKind::kStep:
      return NoteStep(record->body, refused, sums);
    case RecordKind::kGap: {
      const GapData gap = *DecodeGap(record->body);
      told_[gap.cause] += gap.steps;
      (IsLost(gap.cause) ? sums->steps_lost : sums->steps_skipped) += gap.steps;
      effects_.push_back(EffectOf(branch_, gap));
      return;
    }
    case RecordKind::kRollback: {
      const RollbackData rollback = *DecodeRollback(record->body);
      branch_ = rollback.branch;
      effects_.push_back(EffectOfBranch(branch_, rollback.step));
      return;
    }
    case RecordKind::kEnd:
      end_ = *DecodeEnd(record->body);
      effects_.push_back(EffectOf(*end_));
      return;
    case RecordKind::kPart:
    case RecordKind::kUnknown:
      break;
  }
  throw Violation("a record of no known kind stands in the ring");
}

void Ledger::NoteStep(std::string_view body, bool refused, Sums* sums) {
  const auto view = StepView::Parse(body);
  Require(view.ok(), "a step in the ring is malformed");
  const bool recorded = view->skipped() == GapCause::kUnspecified;
  if (recorded) {
    ++sums->steps_recorded;
    if (refused) ++sums->steps_rejected;
  } else {
    ++sums->steps_skipped;
    ++told_[view->skipped()];
  }
  if (refused) {
    effects_.push_back({Effect::Kind::kRejected, branch_, view->step(), 0});
    return;
  }
  effects_.push_back(EffectOf(server::StreamCommit::Step{
      branch_, view->step(), recorded, 0, body, {}}));
}

std::vector<Effect> Ledger::GapsOf(std::uint64_t first_seq,
                                   std::uint64_t last_seq) const {
  std::vector<Effect> gaps;
  GapData refused;  // In a row; of no step: there are none.
  std::uint32_t branch = 0;
  const auto end_row = [&] {
    if (refused.steps > 0) gaps.push_back(EffectOf(branch, refused));
    refused.steps = 0;
  };
  for (std::uint64_t seq = first_seq; seq <= last_seq; ++seq) {
    const Effect& made = effects_[seq - 1];
    if (made.kind == Effect::Kind::kRejected) {
      branch = made.number;
      refused.cause = GapCause::kRejected;
      if (refused.steps == 0) refused.first_step = made.step;
      refused.last_step = made.step;
      ++refused.steps;
    } else if (made.kind == Effect::Kind::kStep ||
               made.kind == Effect::Kind::kGap ||
               made.kind == Effect::Kind::kBranch) {
      end_row();
      if (made.kind == Effect::Kind::kGap) gaps.push_back(made);
    }
  }
  end_row();
  return gaps;
}

void Ledger::Check(const StoredCommit& commit, std::uint64_t cursor) const {
  Require(commit.first_seq == cursor + 1, "stream ", commit.stream,
          ": seqs from ", commit.first_seq, " are stored after seq ", cursor);
  Require(commit.last_seq >= commit.first_seq && commit.last_seq <= last_seq(),
          "stream ", commit.stream, ": seqs ", commit.first_seq, " to ",
          commit.last_seq, " are stored; the process made ", last_seq());
  std::map<Effect::Kind, std::size_t> used;
  std::uint64_t rejected = 0;
  for (std::uint64_t seq = commit.first_seq; seq <= commit.last_seq; ++seq) {
    const Effect& made = effects_[seq - 1];
    const std::vector<Effect>* stored = nullptr;
    switch (made.kind) {
      case Effect::Kind::kNothing:
        continue;
      case Effect::Kind::kRejected:
        ++rejected;
        continue;
      case Effect::Kind::kSchema:
        stored = &commit.schemas;
        break;
      case Effect::Kind::kStep:
        stored = &commit.steps;
        break;
      case Effect::Kind::kGap:
        continue;  // All at once, below.
      case Effect::Kind::kBranch:
        stored = &commit.branches;
        break;
      case Effect::Kind::kEnd:
        stored = &commit.ends;
        break;
    }
    const std::size_t i = used[made.kind]++;
    Require(i < stored->size(), "stream ", commit.stream, ": seq ", seq,
            " is missing: ", ToText(made));
    Require((*stored)[i] == made, "stream ", commit.stream, ": seq ", seq,
            " was ", ToText(made), " and is stored as ", ToText((*stored)[i]));
  }
  const std::vector<Effect> gaps = GapsOf(commit.first_seq, commit.last_seq);
  for (std::size_t i = 0; i < std::max(gaps.size(), commit.gaps.size()); ++i) {
    Require(i < commit.gaps.size(), "stream ", commit.stream, ": of seqs ",
            commit.first_seq, " to ", commit.last_seq,
            " is missing: ", ToText(gaps[i]));
    const Effect made = i < gaps.size() ? gaps[i] : Effect{};
    Require(commit.gaps[i] == made, "stream ", commit.stream, ": of seqs ",
            commit.first_seq, " to ", commit.last_seq, ": ", ToText(made),
            " is stored as ", ToText(commit.gaps[i]));
  }
  for (const auto& [kind, stored] :
       {std::pair{Effect::Kind::kSchema, &commit.schemas},
        std::pair{Effect::Kind::kStep, &commit.steps},
        std::pair{Effect::Kind::kBranch, &commit.branches},
        std::pair{Effect::Kind::kEnd, &commit.ends}}) {
    Require(used[kind] == stored->size(), "stream ", commit.stream, ": seqs ",
            commit.first_seq, " to ", commit.last_seq, " hold ", used[kind],
            " of kind ", NameOf(kind), " and are stored as ", stored->size());
  }
  Require(rejected == commit.rejected, "stream ", commit.stream, ": of seqs ",
          commit.first_seq, " to ", commit.last_seq, " ", commit.rejected,
          " were rejected; ", rejected, " should have been");
}

}  // namespace gradtap::sim
