#include "server/query/gaps.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "core/codec.h"

namespace gradtap::server {
namespace {

auto PlaceOf(const v1::GapInfo& info) {
  return std::make_tuple(info.attempt(), info.rank(), info.branch());
}

bool SameKind(const v1::GapInfo& a, const v1::GapInfo& b) {
  return PlaceOf(a) == PlaceOf(b) && a.gap().cause() == b.gap().cause();
}

void Absorb(const v1::GapInfo& later, v1::GapInfo* info) {
  v1::Gap& gap = *info->mutable_gap();
  gap.set_first_step(std::min(gap.first_step(), later.gap().first_step()));
  gap.set_last_step(std::max(gap.last_step(), later.gap().last_step()));
  gap.set_steps(gap.steps() + later.gap().steps());
  if (gap.detail() != later.gap().detail()) gap.clear_detail();
}

bool Touches(const GapData& gap, const StepWindow& window) {
  return gap.first_step < window.end && gap.last_step >= window.begin;
}

// Cuts a gap to [begin, end), which it touches.
GapData CutTo(GapData gap, std::int64_t begin, std::int64_t end) {
  gap.first_step = std::max(gap.first_step, begin);
  gap.last_step = std::min(gap.last_step, end - 1);
  const std::uint64_t length = static_cast<std::uint64_t>(gap.last_step) -
                               static_cast<std::uint64_t>(gap.first_step) + 1;
  gap.steps = std::min(gap.steps, length);
  return gap;
}

// Adds the scalars-only rows of a stream; reads it only if the books say that
// there are some.
absl::Status AddSkippedRows(const QueryEnvironment& environment,
                            const Attempt& attempt, const StreamEntry& stream,
                            const StepWindow& window,
                            const std::vector<GapRow>& stored,
                            ReadBudget* budget,
                            std::vector<v1::GapInfo>* gaps) {
  std::uint64_t in_gaps = 0;
  for (const GapRow& row : stored) {
    if (!IsLost(row.gap.cause)) in_gaps += row.gap.steps;
  }
  if (stream.skipped_steps <= in_gaps) return absl::OkStatus();
  for (const Branch& branch : stream.branches) {
    absl::Status failed;
    absl::Status status = environment.store->ScanSteps(
        stream.id, branch.branch, window.begin, window.end,
        [&](const StepRow& row) {
          failed = budget->Charge(row.body.size());
          if (!failed.ok()) return false;
          const auto step = OpenStep(row);
          if (!step.ok()) {
            failed = step.status();
            return false;
          }
          if ((*step)->skipped() == GapCause::kUnspecified ||
              (*step)->skipped() == GapCause::kRolledUp) {
            return true;
          }
          gaps->push_back(MakeGap(attempt.label, stream.hello.rank,
                                  branch.branch, GapOfSkippedRow(**step)));
          // Joined early, so that memory follows the answer.
          if (gaps->size() >= 2) {
            v1::GapInfo& last = (*gaps)[gaps->size() - 2];
            if (SameKind(last, gaps->back()) &&
                last.gap().detail() == gaps->back().gap().detail() &&
                last.gap().last_step() == row.step - 1) {
              Absorb(gaps->back(), &last);
              gaps->pop_back();
            }
          }
          return true;
        });
    if (!status.ok()) return status;
    if (!failed.ok()) return failed;
  }
  return absl::OkStatus();
}

absl::Status AddStream(const QueryEnvironment& environment, const RunView& run,
                       const Attempt& attempt, const StreamEntry& stream,
                       const v1::StepRange& steps, ReadBudget* budget,
                       std::vector<v1::GapInfo>* gaps) {
  const Line line = run.LineOf(stream.hello.rank, 0);
  const StepWindow window = ResolveSteps(steps, line.last_step());
  if (window.begin >= window.end) return absl::OkStatus();
  absl::StatusOr<std::vector<GapRow>> stored =
      environment.store->ReadGaps(stream.id);
  if (!stored.ok()) return stored.status();
  for (const GapRow& row : *stored) {
    if (!Touches(row.gap, window)) continue;
    gaps->push_back(
        MakeGap(attempt.label, stream.hello.rank, row.branch, row.gap));
  }
  for (const Branch& branch : stream.branches) {
    const auto gap = RolledUpGap(branch, window.begin, window.end);
    if (!gap.has_value()) continue;
    gaps->push_back(
        MakeGap(attempt.label, stream.hello.rank, branch.branch, *gap));
  }
  return AddSkippedRows(environment, attempt, stream, window, *stored, budget,
                        gaps);
}

}  // namespace

v1::GapInfo MakeGap(std::uint32_t attempt, std::uint32_t rank,
                    std::uint32_t branch, const GapData& gap) {
  v1::GapInfo info;
  info.set_attempt(attempt);
  info.set_rank(rank);
  info.set_branch(branch);
  info.set_lost(IsLost(gap.cause));
  info.mutable_gap()->set_cause(static_cast<v1::GapCause>(gap.cause));
  info.mutable_gap()->set_first_step(gap.first_step);
  info.mutable_gap()->set_last_step(gap.last_step);
  info.mutable_gap()->set_steps(gap.steps);
  info.mutable_gap()->set_detail(gap.detail);
  return info;
}

std::optional<GapData> RolledUpGap(const Branch& branch, std::int64_t begin,
                                   std::int64_t end) {
  GapData gap;
  gap.cause = GapCause::kRolledUp;
  gap.first_step = branch.first_step;
  gap.last_step = branch.rolled_up_end - 1;
  gap.steps = branch.rolled_up_steps;
  if (gap.steps == 0 || !Touches(gap, {begin, end})) return std::nullopt;
  return CutTo(gap, begin, end);
}

GapData GapOfSkippedRow(const StoredStep& step) {
  GapData gap;
  gap.cause = step.skipped();
  gap.first_step = gap.last_step = step.step();
  gap.steps = 1;
  gap.detail = std::string(step.skipped_detail());
  return gap;
}

std::vector<GapData> SkippedRowsOf(const TimelineView& window) {
  std::vector<GapData> gaps;
  if (window.recorded() == window.rows()) return gaps;
  for (std::uint32_t row = 0; row < window.rows(); ++row) {
    if (window.skipped(row) == GapCause::kUnspecified) continue;
    GapData& gap = gaps.emplace_back();
    gap.cause = window.skipped(row);
    gap.first_step = gap.last_step = window.step(row);
    gap.steps = 1;
    gap.detail = std::string(window.detail(row));
  }
  return gaps;
}

void SortAndJoin(std::vector<v1::GapInfo>* gaps) {
  std::stable_sort(
      gaps->begin(), gaps->end(),
      [](const v1::GapInfo& a, const v1::GapInfo& b) {
        return std::tuple_cat(PlaceOf(a),
                              std::make_tuple(a.gap().first_step())) <
               std::tuple_cat(PlaceOf(b),
                              std::make_tuple(b.gap().first_step()));
      });
  std::size_t out = 0;
  for (std::size_t i = 0; i < gaps->size(); ++i) {
    if (out > 0) {
      v1::GapInfo& last = (*gaps)[out - 1];
      const v1::GapInfo& next = (*gaps)[i];
      if (SameKind(last, next) && last.gap().detail() == next.gap().detail() &&
          last.gap().last_step() == next.gap().first_step() - 1) {
        Absorb(next, &last);
        continue;
      }
    }
    if (out != i) (*gaps)[out] = std::move((*gaps)[i]);
    ++out;
  }
  gaps->resize(out);
}

void Coalesce(std::size_t max_gaps, std::vector<v1::GapInfo>* gaps) {
  if (gaps->size() <= max_gaps) return;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, int>,
           std::vector<v1::GapInfo>>
      kinds;
  for (v1::GapInfo& info : *gaps) {
    kinds[{info.attempt(), info.rank(), info.branch(), info.gap().cause()}]
        .push_back(std::move(info));
  }
  const std::size_t share = std::max<std::size_t>(1, max_gaps / kinds.size());
  gaps->clear();
  for (auto& [kind, list] : kinds) {
    const std::size_t group = (list.size() + share - 1) / share;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (i % group == 0) {
        gaps->push_back(std::move(list[i]));
      } else {
        Absorb(list[i], &gaps->back());
      }
    }
  }
  SortAndJoin(gaps);
}

absl::Status AddStoredGaps(Store* store, const Line& line,
                           const StepWindow& window,
                           std::vector<v1::GapInfo>* gaps) {
  std::map<StreamId, std::vector<GapRow>> by_stream;
  for (const Segment& segment : line.segments) {
    // Most often.
    const StreamEntry& stream = *segment.stream;
    if (stream.lost_steps == 0 && stream.skipped_steps == 0) continue;
    auto [it, is_new] = by_stream.try_emplace(segment.stream->id);
    if (is_new) {
      absl::StatusOr<std::vector<GapRow>> rows =
          store->ReadGaps(segment.stream->id);
      if (!rows.ok()) return rows.status();
      it->second = *std::move(rows);
    }
    for (const GapRow& row : it->second) {
      if (row.branch != segment.branch || !Touches(row.gap, window) ||
          !Touches(row.gap, {segment.begin, segment.end})) {
        continue;
      }
      gaps->push_back(MakeGap(segment.attempt, line.rank, segment.branch,
                              CutTo(row.gap, segment.begin, segment.end)));
    }
  }
  return absl::OkStatus();
}

absl::Status ListGaps(const QueryEnvironment& environment,
                      const v1::ListGapsRequest& request,
                      const Cancelled& cancelled,
                      v1::ListGapsResponse* response) {
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = CheckAttempt(*run, request.attempt());
  if (!status.ok()) return status;
  std::set<std::uint32_t> ranks;
  for (const std::uint32_t rank : request.ranks()) {
    status = CheckRank(*run, request.attempt(), rank);
    if (!status.ok()) return status;
    ranks.insert(rank);
  }
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  std::vector<v1::GapInfo> gaps;
  for (const Attempt& attempt : run->attempts) {
    if (request.attempt() != 0 && attempt.label != request.attempt()) continue;
    for (const StreamEntry* stream : attempt.streams) {
      if (!ranks.empty() && ranks.count(stream->hello.rank) == 0) continue;
      status = AddStream(environment, *run, attempt, *stream, request.steps(),
                         &budget, &gaps);
      if (!status.ok()) return status;
    }
  }
  SortAndJoin(&gaps);
  if (gaps.size() > environment.limits.max_gaps) {
    return absl::ResourceExhaustedError(
        "the answer has " + std::to_string(gaps.size()) +
        " gaps; the limit of one query is " +
        std::to_string(environment.limits.max_gaps) +
        "; ask for fewer steps (--steps A:B)");
  }
  response->set_run(request.run());
  for (v1::GapInfo& info : gaps) {
    const std::uint64_t steps = info.gap().steps();
    if (info.gap().cause() == v1::GAP_CAUSE_ROLLED_UP) {
      response->set_rolled_up_steps(response->rolled_up_steps() + steps);
    } else if (info.lost()) {
      response->set_lost_steps(response->lost_steps() + steps);
    } else {
      response->set_skipped_steps(response->skipped_steps() + steps);
    }
    *response->add_gaps() = std::move(info);
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
