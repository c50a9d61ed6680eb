#include "server/ingest/validate.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/limits.h"
#include "core/names.h"
#include "core/statistic.h"
#include "server/ingest/record_step.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxReasonBytes = 512;
// Of one batch are told, in its Ack.
constexpr std::size_t kMaxReasons = 500;

absl::Status Bad(std::string reason) {
  return absl::InvalidArgumentError(std::move(reason));
}

std::string TextOf(const absl::Status& status) {
  return std::string(status.message());
}

std::string SafeReason(std::string reason) {
  if (reason.size() > kMaxReasonBytes) reason.resize(kMaxReasonBytes);
  return SafeName(EscapeForTerminal(reason));
}

// `what` it is, with what stands before the number.
absl::Status CheckNumber(std::int64_t step, std::string_view what) {
  if (step >= 0 && step <= kMaxStep) return absl::OkStatus();
  return Bad(absl::StrCat(
      std::string(what), step,
      step < 0 ? " is negative" : " is beyond 2^62, the last there may be"));
}

}  // namespace

StreamValidator::StreamValidator(const IngestLimits& limits,
                                 const OpenedStream& opened)
    : limits_(limits),
      stream_(opened.entry.id),
      run_(opened.entry.hello.run),
      room_(opened.room),
      accepted_seq_(opened.entry.durable_seq),
      schema_id_(opened.entry.schema_id),
      ended_(opened.entry.end.has_value()),
      assembly_(limits, opened.unfinished, opened.scan_parts) {
  if (opened.schema != nullptr) UseSchema(*opened.schema);
  if (!opened.entry.branches.empty()) {
    branch_ = opened.entry.branches.back().branch;
    last_step_ = opened.entry.branches.back().last_step;
  }
}

void StreamValidator::UseSchema(const Schema& schema) {
  places_.fill(0);
  for (const Parameter& parameter : schema.parameters) {
    for (const Role role : parameter.roles) {
      ++places_[static_cast<std::size_t>(role)];
    }
  }
}

absl::StatusOr<std::unique_ptr<ValidatedBatch>> StreamValidator::Accept(
    std::uint64_t first_seq, std::uint32_t record_count,
    std::string_view frame_untrusted) {
  if (frame_untrusted.size() > limits_.max_batch_bytes) {
    limits_.guards.Refused(Limit::kBatchBytes);
    return Bad(absl::StrCat("a batch of ", frame_untrusted.size(),
                            " bytes; at most ", limits_.max_batch_bytes,
                            " are allowed"));
  }
  auto content = DecompressFrame(frame_untrusted, limits_.max_batch_bytes);
  if (!content.ok()) {
    if (absl::IsResourceExhausted(content.status())) {
      limits_.guards.Refused(Limit::kBatchBytes);
    }
    return Bad(absl::StrCat("a batch's frame: ", TextOf(content.status())));
  }
  auto batch = std::make_unique<ValidatedBatch>();
  batch->content = std::make_shared<const std::string>(*std::move(content));
  const auto records = SplitRecordList(*batch->content);
  if (!records.ok()) {
    return Bad(absl::StrCat("a batch's content: ", TextOf(records.status())));
  }
  if (records->size() != record_count) {
    return Bad(absl::StrCat("a batch that says it has ", record_count,
                            " records has ", records->size()));
  }
  const auto telling = records->size() - static_cast<std::size_t>(std::count(
                                             records->begin(), records->end(),
                                             std::string_view()));
  if (telling > kMaxBatchRecords) {
    limits_.guards.Refused(Limit::kBatchRecords);
    return Bad(absl::StrCat("a batch of ", telling, " records; at most ",
                            kMaxBatchRecords, " are allowed"));
  }
  const std::size_t known = accepted_seq_ + 1 - first_seq;
  const absl::Status begun =
      assembly_.Begin(std::span(*records).subspan(known));
  if (!begun.ok()) return begun;
  StreamCommit& commit = batch->commit;
  commit.stream = stream_;
  commit.first_seq = accepted_seq_ + 1;
  commit.last_seq = first_seq + record_count - 1;
  for (std::size_t i = known; i < records->size(); ++i) {
    commit.bytes += (*records)[i].size();
    AcceptRecord(first_seq + i, (*records)[i], batch.get());
  }
  accepted_seq_ = commit.last_seq;
  commit.parts = assembly_.End(accepted_seq_, batch->content);
  return batch;
}

void StreamValidator::Reject(std::uint64_t seq, std::string reason, bool counts,
                             ValidatedBatch* batch) {
  if (counts) ++batch->commit.rejected_records;
  std::vector<RejectedRecord>& rejected = batch->rejected;
  if (!rejected.empty() && rejected.back().seq + rejected.back().count == seq) {
    ++rejected.back().count;
    return;
  }
  const bool told = rejected.size() < kMaxReasons;
  rejected.push_back(
      {seq, 1, told ? SafeReason(std::move(reason)) : std::string()});
}

void StreamValidator::RejectWhole(std::uint64_t seq,
                                  std::string_view head_untrusted,
                                  const absl::Status& why,
                                  ValidatedBatch* batch) {
  Reject(seq, TextOf(why), true, batch);
  const std::optional<std::int64_t> step = StepOfRecord(head_untrusted);
  if (!step.has_value() || ended_ || *step <= last_step_ || *step > kMaxStep) {
    return;
  }
  last_step_ = *step;
  const std::vector<StreamCommit::Step>& steps = batch->commit.steps;
  if (!batch->commit.gaps.empty()) {
    StreamCommit::Gap& last = batch->commit.gaps.back();
    const bool in_a_row = last.branch == branch_ &&
                          last.gap.cause == GapCause::kRejected &&
                          (steps.empty() || steps.back().branch != branch_ ||
                           steps.back().step < last.gap.first_step);
    if (in_a_row) {
      last.gap.last_step = *step;
      ++last.gap.steps;
      return;
    }
  }
  batch->commit.gaps.push_back(
      {branch_,
       {GapCause::kRejected, *step, *step, 1, SafeReason(TextOf(why))}});
}

void StreamValidator::AcceptRecord(std::uint64_t seq,
                                   std::string_view record_untrusted,
                                   ValidatedBatch* batch) {
  // A record of no kind stands where an agent has nothing to tell any more.
  if (record_untrusted.empty()) return AbandonAssembly(seq, batch);
  const auto record = ParseRecord(record_untrusted);
  if (record.ok() && record->kind == RecordKind::kPart) {
    return AcceptPart(seq, record->body, batch);
  }
  AbandonAssembly(seq, batch);
  const absl::Status accepted =
      record.ok() ? AcceptWhole(record_untrusted, false, batch)
                  : record.status();
  if (!accepted.ok()) RejectWhole(seq, record_untrusted, accepted, batch);
}

absl::Status StreamValidator::AcceptWhole(std::string_view record_untrusted,
                                          bool from_parts,
                                          ValidatedBatch* batch) {
  const auto record = ParseRecord(record_untrusted);
  if (!record.ok()) return record.status();
  if (ended_) return Bad("a record after the stream's End");
  switch (record->kind) {
    case RecordKind::kSchema:
      return AcceptSchema(record->body, batch);
    case RecordKind::kStep:
      return AcceptStep(record->body, batch);
    case RecordKind::kGap:
      return AcceptGap(record->body, batch);
    case RecordKind::kRollback:
      return AcceptRollback(record->body, batch);
    case RecordKind::kEnd:
      return AcceptEnd(record->body, batch);
    case RecordKind::kPart:
      return Bad(from_parts ? "a part within parts" : "a part out of place");
    case RecordKind::kUnknown:
      break;
  }
  return Bad("a record of a kind that this collector does not know");
}

absl::Status StreamValidator::CheckNames(const Schema& schema) const {
  const auto check = [this](const std::string& name) {
    if (name.size() <= limits_.max_name_bytes) return absl::OkStatus();
    limits_.guards.Refused(Limit::kNameBytes);
    return Bad(
        absl::StrCat("the parameter '", EscapeForTerminal(name.substr(0, 64)),
                     "...' has a name of ", name.size(), " bytes; at most ",
                     limits_.max_name_bytes, " are allowed"));
  };
  for (const Parameter& parameter : schema.parameters) {
    if (const auto s = check(parameter.name); !s.ok()) return s;
    for (const std::string& alias : parameter.aliases) {
      if (const auto s = check(alias); !s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

absl::Status StreamValidator::AcceptSchema(std::string_view body_untrusted,
                                           ValidatedBatch* batch) {
  if (body_untrusted.size() > limits_.max_schema_bytes) {
    limits_.guards.Refused(Limit::kSchemaBytes);
    return Bad(absl::StrCat("a schema of ", body_untrusted.size(),
                            " bytes; at most ", limits_.max_schema_bytes,
                            " are allowed"));
  }
  const auto schema = DecodeSchema(body_untrusted, limits_.max_parameters);
  if (absl::IsResourceExhausted(schema.status())) {
    limits_.guards.Refused(Limit::kParameters);
  }
  if (!schema.ok()) return schema.status();
  if (const auto s = CheckNames(*schema); !s.ok()) return s;
  // An agent whose collector has lost its data has only its newest one left:
  // ids rise, with holes.
  if (schema->schema_id <= schema_id_) {
    return Bad(absl::StrCat("schema ", schema->schema_id,
                            " does not come after schema ", schema_id_));
  }
  if (schema->fingerprint == 0) return Bad("a schema without a fingerprint");
  schema_id_ = schema->schema_id;
  UseSchema(*schema);
  batch->commit.schemas.push_back(
      {schema_id_, body_untrusted, schema->optimizers});
  return absl::OkStatus();
}

absl::Status StreamValidator::CheckColumns(const StepView& step,
                                           std::uint64_t* records) const {
  *records = 0;
  for (const StepView::Columns& columns : step.columns()) {
    const std::uint32_t places =
        places_[static_cast<std::size_t>(columns.role)];
    if (columns.size != places) {
      return Bad(absl::StrCat("step ", step.step(), " has ", columns.size,
                              " places of role ",
                              std::string(RoleName(columns.role)),
                              "; its schema ", schema_id_, " has ", places));
    }
    *records += columns.size;
  }
  return absl::OkStatus();
}

absl::Status StreamValidator::AcceptStep(std::string_view body_untrusted,
                                         ValidatedBatch* batch) {
  if (body_untrusted.size() > limits_.max_step_bytes) {
    limits_.guards.Refused(Limit::kStepBytes);
    return Bad(absl::StrCat("a step of ", body_untrusted.size(),
                            " bytes; at most ", limits_.max_step_bytes,
                            " are allowed"));
  }
  const auto step = StepView::Parse(body_untrusted);
  if (!step.ok()) return step.status();
  if (absl::Status s = CheckNumber(step->step(), "step "); !s.ok()) return s;
  if (step->step() <= last_step_) {
    return Bad(absl::StrCat("step ", step->step(), " comes after step ",
                            last_step_, " without a rollback between"));
  }
  if (step->skipped() == GapCause::kRolledUp) {
    return Bad(
        absl::StrCat("step ", step->step(),
                     " says that it is rolled up, which only a collector "
                     "says"));
  }
  const bool skipped = step->skipped() != GapCause::kUnspecified;
  // A skipped step has no columns and needs no schema.
  if (!skipped && (schema_id_ == 0 || step->schema_id() != schema_id_)) {
    return Bad(absl::StrCat("step ", step->step(), " refers to schema ",
                            step->schema_id(), "; the newest is ", schema_id_));
  }
  std::uint64_t records = 0;
  if (const auto s = CheckColumns(*step, &records); !s.ok()) return s;
  last_step_ = step->step();
  StreamCommit::Step& accepted = batch->commit.steps.emplace_back();
  accepted.branch = branch_;
  accepted.step = step->step();
  accepted.has_statistics = !skipped;
  accepted.records = records;
  accepted.body = body_untrusted;
  if (step->has_histograms()) {
    const SplitStep& split =
        batch->split.emplace_back(SplitHistograms(body_untrusted, *step));
    accepted.body = split.row;
    accepted.histograms = split.blocks;
  }
  return absl::OkStatus();
}

absl::Status StreamValidator::AcceptGap(std::string_view body_untrusted,
                                        ValidatedBatch* batch) {
  auto gap = DecodeGap(body_untrusted);
  if (!gap.ok()) return gap.status();
  absl::Status s = CheckNumber(gap->first_step, "a gap from step ");
  if (s.ok()) s = CheckNumber(gap->last_step, "a gap up to step ");
  if (!s.ok()) return s;
  if (gap->cause == GapCause::kRolledUp) {
    return Bad(
        absl::StrCat("a gap from step ", gap->first_step,
                     " says that it is rolled up, which only a collector "
                     "says"));
  }
  // Of a refused step that was told when it was refused.
  if (gap->cause == GapCause::kRejected && gap->last_step <= last_step_) {
    return absl::OkStatus();
  }
  // It may tell of steps before the last one: what was skipped here and there
  // is told in one piece.
  last_step_ = std::max(last_step_, gap->last_step);
  batch->commit.gaps.push_back({branch_, *std::move(gap)});
  return absl::OkStatus();
}

absl::Status StreamValidator::AcceptRollback(std::string_view body_untrusted,
                                             ValidatedBatch* batch) {
  const auto rollback = DecodeRollback(body_untrusted);
  if (!rollback.ok()) return rollback.status();
  // Of a hole in what a process has left, which does not know what is here.
  if (rollback->branch <= branch_) return absl::OkStatus();
  if (rollback->branch != branch_ + 1) {
    return Bad(absl::StrCat("a rollback to branch ", rollback->branch,
                            "; the next one is ", branch_ + 1));
  }
  absl::Status s = CheckNumber(rollback->step, "a rollback to step ");
  if (!s.ok()) return s;
  if (rollback->branch >= kMaxBranches) {
    limits_.guards.Refused(Limit::kBranches);
    return Bad(absl::StrCat("a rollback to branch ", rollback->branch,
                            "; a stream has at most ", kMaxBranches));
  }
  if (room_ != nullptr) {
    s = room_->Take(run_, StreamRoom::kBranchBytes);
    if (!s.ok()) {
      limits_.guards.Refused(Limit::kStreamBytes);
      return Bad(absl::StrCat("a rollback to branch ", rollback->branch, ": ",
                              TextOf(s)));
    }
    batch->run = run_;
  }
  // Whether the step is really an earlier one is not asked: the steps above it
  // may have been lost, and their gap come later.
  branch_ = rollback->branch;
  last_step_ = -1;
  batch->commit.new_branches.push_back({branch_, rollback->step});
  return absl::OkStatus();
}

absl::Status StreamValidator::AcceptEnd(std::string_view body_untrusted,
                                        ValidatedBatch* batch) {
  const auto end = DecodeEnd(body_untrusted);
  if (!end.ok()) return end.status();
  ended_ = true;
  batch->commit.end = *end;
  return absl::OkStatus();
}

// ---- Parts. ----

void StreamValidator::AcceptPart(std::uint64_t seq,
                                 std::string_view body_untrusted,
                                 ValidatedBatch* batch) {
  const auto part = DecodePart(body_untrusted);
  if (!part.ok()) {
    AbandonAssembly(seq, batch);
    return Reject(seq, TextOf(part.status()), true, batch);
  }
  if (part->index == 0) {
    AbandonAssembly(seq, batch);
  } else if (rest_refused_) {
    return Reject(seq, "a part of a record that has been rejected", false,
                  batch);
  }
  if (const absl::Status s = assembly_.Check(*part); !s.ok()) {
    const std::string head(part->index > 0
                               ? assembly_.head()
                               : part->data.substr(0, kRecordHeadBytes));
    DropAssembly(batch);
    rest_refused_ = true;
    return RejectWhole(seq, head, s, batch);
  }
  if (assembly_.Add(seq, body_untrusted, *part)) AcceptJoined(seq, batch);
}

void StreamValidator::AcceptJoined(std::uint64_t seq, ValidatedBatch* batch) {
  const std::string head = assembly_.head();
  auto whole = assembly_.Join(&batch->commit.drop_parts);
  absl::Status accepted = whole.status();
  if (accepted.ok()) {
    batch->joined.push_back(*std::move(whole));
    accepted = AcceptWhole(batch->joined.back(), true, batch);
    if (!accepted.ok()) batch->joined.pop_back();
  }
  if (!accepted.ok()) RejectWhole(seq, head, accepted, batch);
}

void StreamValidator::DropAssembly(ValidatedBatch* batch) {
  rest_refused_ = false;
  assembly_.Drop(&batch->commit.drop_parts);
}

void StreamValidator::AbandonAssembly(std::uint64_t seq,
                                      ValidatedBatch* batch) {
  const bool unfinished = assembly_.unfinished();
  DropAssembly(batch);
  if (unfinished) {
    Reject(seq - 1, "the last part of a record that was not finished", true,
           batch);
  }
}

}  // namespace gradtap::server
