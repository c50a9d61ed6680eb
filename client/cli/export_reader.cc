#include "client/cli/export_reader.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

// What one answer may hold, about; the rest follows in the next one.
constexpr std::int64_t kValuesPerChunk = 200'000;
constexpr std::int64_t kMostStepsPerChunk = std::int64_t{1} << 40;

}  // namespace

absl::Status ExportReader::Plan(const std::optional<v1::StepRange>& wanted) {
  v1::GetRunRequest request;
  request.set_run(request_.runs(0));
  absl::Status status = channel_.Call(&v1::Query::Stub::GetRun, request, &run_);
  if (!status.ok()) return status;
  FindSteps(wanted.value_or(v1::StepRange()));
  std::int64_t parameters = 1;
  std::set<std::uint32_t> ranks;
  for (const v1::AttemptInfo& attempt : run_.attempts()) {
    std::uint32_t lowest = std::numeric_limits<std::uint32_t>::max();
    for (const v1::StreamInfo& stream : attempt.streams()) {
      ranks.insert(stream.rank());
      lowest = std::min(lowest, stream.rank());
    }
    if (attempt.streams().empty()) continue;
    status = AddRoles(attempt.attempt(), lowest, &parameters);
    if (!status.ok()) return status;
  }
  if (all_statistics_) SetStatistics();
  const std::int64_t a_step =
      parameters * request_.statistics_size() *
      static_cast<std::int64_t>(std::max<std::size_t>(ranks.size(), 1));
  chunk_ = std::max<std::int64_t>(1, kValuesPerChunk / a_step);
  // A pattern that matches nothing anywhere is more likely a slip than a wish
  // for scalars alone.
  if (roles_.empty() && !request_.match().empty()) {
    if (!no_match_.ok()) return no_match_;
    return absl::NotFoundError(absl::StrCat(
        "run '", request_.runs(0), "' has no parameter that matches '",
        EscapeForTerminal(request_.match()), "'"));
  }
  return absl::OkStatus();
}

absl::Status ExportReader::Read(std::int64_t begin, std::int64_t end,
                                const OnChunk& on_chunk) {
  absl::Status status;
  const std::int64_t first = begin;
  while (status.ok() && begin < end) {
    const std::int64_t size = std::min(chunk_, end - begin);
    v1::GetSeriesResponse chunk;
    status = Ask(begin, begin + size, &chunk);
    if (status.code() == absl::StatusCode::kResourceExhausted && size > 1) {
      chunk_ = size / 2;
      status = absl::OkStatus();
      continue;
    }
    if (status.ok()) status = on_chunk(chunk, begin, begin + size);
    // Wide ranges in which little is stored.
    if (chunk.series().empty()) {
      chunk_ = std::min(chunk_ * 2, kMostStepsPerChunk);
    }
    begin += size;
    Progress(begin - first, end - first);
  }
  EndProgress();
  return status;
}

// Over all streams: a rank may have steps that the others lack.
void ExportReader::FindSteps(const v1::StepRange& wanted) {
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  std::int64_t last = 0;
  for (const v1::AttemptInfo& attempt : run_.attempts()) {
    if (request_.attempt() != 0 && attempt.attempt() != request_.attempt()) {
      continue;
    }
    for (const v1::StreamInfo& stream : attempt.streams()) {
      if (stream.last_step() < 0) continue;
      first = std::min(first, stream.first_step());
      last = std::max(last, stream.last_step() + 1);
    }
  }
  const auto place = [&](std::int64_t step) {
    return step < 0
               ? std::max<std::int64_t>(run_.run().last_step() + 1 + step, 0)
               : step;
  };
  begin_ = first;
  end_ = last;
  if (wanted.has_begin()) begin_ = std::max(first, place(wanted.begin()));
  if (wanted.has_end()) end_ = std::min(last, place(wanted.end()));
}

absl::Status ExportReader::AddRoles(std::uint32_t attempt, std::uint32_t rank,
                                    std::int64_t* parameters) {
  v1::ListParametersRequest request;
  request.set_run(request_.runs(0));
  request.set_match(request_.match());
  request.set_attempt(attempt);
  request.set_rank(rank);
  v1::ListParametersResponse answer;
  absl::Status status =
      channel_.Call(&v1::Query::Stub::ListParameters, request, &answer);
  // Nothing but scalars so far.
  if (absl::IsNotFound(status)) {
    no_match_ = status;
    return absl::OkStatus();
  }
  *parameters = std::max<std::int64_t>(*parameters, answer.parameters_size());
  for (const v1::Parameter& parameter : answer.parameters()) {
    for (const int role : parameter.roles()) {
      roles_.insert(static_cast<v1::Role>(role));
    }
  }
  return status;
}

void ExportReader::SetStatistics() {
  static constexpr const char* kStored[] = {"mean", "std",     "abs_mean",
                                            "min",  "max",     "zero",
                                            "nan",  "pos_inf", "neg_inf"};
  static constexpr const char* kNorms[] = {"l2"};
  const absl::Span<const char* const> fields =
      what_ == ExportDefault::kStored ? absl::MakeConstSpan(kStored)
                                      : absl::MakeConstSpan(kNorms);
  request_.clear_statistics();
  for (const v1::Role role : roles_) {
    for (const char* field : fields) {
      request_.add_statistics(
          absl::StrCat(std::string(RoleWord(role)), ".", field));
    }
  }
  if (what_ == ExportDefault::kNorms && roles_.count(v1::ROLE_UPDATE) > 0) {
    request_.add_statistics("update.ratio");
  }
  request_.add_statistics("scalar.*");
  request_.add_statistics("agent.*");
}

absl::Status ExportReader::Ask(std::int64_t begin, std::int64_t end,
                               v1::GetSeriesResponse* chunk) {
  if (context_.interrupted()) {
    return absl::FailedPreconditionError("interrupted: not all is exported");
  }
  request_.mutable_steps()->set_begin(begin);
  request_.mutable_steps()->set_end(end);
  return channel_.Call(&v1::Query::Stub::GetSeries, request_, chunk);
}

// On a terminal.
void ExportReader::Progress(std::int64_t done, std::int64_t steps) {
  if (!shows_progress_ || !context_.io().err_is_terminal) return;
  context_.io().err.Write(absl::StrCat("\r", HumanCount(done), " of ",
                                       Plural(steps, "step"), "  "));
  context_.io().err.Flush();
  drew_progress_ = true;
}

void ExportReader::EndProgress() {
  if (drew_progress_) context_.io().err.Write("\n");
  drew_progress_ = false;
}

}  // namespace gradtap::client
