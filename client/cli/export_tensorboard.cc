#include "client/cli/export_tensorboard.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/export_reader.h"
#include "client/cli/export_rows.h"
#include "client/cli/histogram_view.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "client/tensorboard/event_file.h"
#include "core/histogram.h"

namespace gradtap::client {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{2000};
constexpr std::chrono::milliseconds kBetweenInterrupts{50};

// What of a rank has been written, and what is to be now: [next_step, end).
struct RankFile {
  std::unique_ptr<EventFile> file;
  std::int64_t next_step = std::numeric_limits<std::int64_t>::min();
  // The collector may go away between a step's scalars and its histograms: each
  // is written once.
  std::int64_t next_scalars = std::numeric_limits<std::int64_t>::min();
  std::int64_t next_histograms = std::numeric_limits<std::int64_t>::min();
  std::int64_t end = std::numeric_limits<std::int64_t>::min();
  // Of its streams: when there are more, steps may come again.
  std::uint64_t branches = 0;
};

// The rank's newest stream that has steps, and what there is of all of them.
struct RankState {
  std::int64_t first_of_newest = 0;
  std::int64_t newest_start = std::numeric_limits<std::int64_t>::min();
  std::int64_t end = 0;
  std::uint64_t branches = 0;
};

EventHistogram ToEvent(const v1::ParameterHistogram& from) {
  const BinCounts bins = BinsOfAnswer(from);
  EventHistogram out;
  out.min = from.min();
  out.max = from.max();
  out.count = static_cast<double>(FiniteCount(bins));
  out.sum = from.sum();
  out.sum_of_squares = from.l2() * from.l2();
  for (std::size_t i = 0; i < kFiniteBins; ++i) {
    const std::uint32_t bin = FiniteBinAt(i);
    if (bins[bin] == 0) continue;
    const BinRange range = RangeOf(bin);
    // Nothing between the bin before and this one.
    if (!out.limits.empty() && out.limits.back() < range.lower &&
        range.lower < range.upper) {
      out.limits.push_back(range.lower);
      out.counts.push_back(0);
    }
    out.limits.push_back(range.upper);
    out.counts.push_back(static_cast<double>(bins[bin]));
  }
  return out;
}

class Exporter {
 public:
  Exporter(const TensorboardExport& what, QueryChannel& channel,
           Context& context)
      : what_(what),
        channel_(channel),
        context_(context),
        reader_(channel, what.request, ExportDefault::kNorms, context) {}

  absl::Status Run() {
    reader_.ShowProgress();
    for (;;) {
      absl::Status status = reader_.Plan(what_.steps);
      if (status.ok()) status = WriteNews();
      if (what_.follow && absl::IsUnavailable(status)) {  // It may come back.
        if (!std::exchange(told_, true)) {
          context_.Note(std::string(status.message()));
        }
        if (!Wait()) return absl::OkStatus();
        continue;
      }
      if (what_.follow && context_.interrupted()) return absl::OkStatus();
      if (!status.ok()) return status;
      told_ = false;
      const v1::RunState state = reader_.run().run().state();
      if (!what_.follow || state == v1::RUN_STATE_FINISHED ||
          state == v1::RUN_STATE_STOPPED || !Wait()) {
        return absl::OkStatus();
      }
    }
  }

  std::uint64_t values() const { return values_; }
  std::size_t files() const { return ranks_.size(); }

 private:
  // False: interrupted.
  bool Wait() const {
    for (auto left = kBetweenLooks; left.count() > 0;
         left -= kBetweenInterrupts) {
      if (context_.interrupted()) return false;
      std::this_thread::sleep_for(kBetweenInterrupts);
    }
    return !context_.interrupted();
  }

  bool Wanted(std::uint32_t rank) const {
    const auto& ranks = what_.request.ranks();
    return ranks.empty() ||
           std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
  }

  std::map<std::uint32_t, RankState> States() const {
    std::map<std::uint32_t, RankState> states;
    for (const v1::AttemptInfo& attempt : reader_.run().attempts()) {
      if (what_.request.attempt() != 0 &&
          attempt.attempt() != what_.request.attempt()) {
        continue;
      }
      for (const v1::StreamInfo& stream : attempt.streams()) {
        if (stream.last_step() < 0) continue;
        if (!what_.request.merged() && !Wanted(stream.rank())) continue;
        RankState& state =
            states[what_.request.merged() ? kMerged : stream.rank()];
        state.end = std::max(state.end, stream.last_step() + 1);
        state.branches += std::max(stream.branches(), 1u);
        if (stream.start_time_unix_ns() >= state.newest_start) {
          state.newest_start = stream.start_time_unix_ns();
          state.first_of_newest = stream.first_step();
        }
      }
    }
    return states;
  }

  absl::StatusOr<RankFile*> FileOf(std::uint32_t rank) {
    RankFile& of = ranks_[rank];
    if (of.file != nullptr) return &of;
    std::string folder = absl::StrCat(what_.folder, "/", what_.request.runs(0));
    const v1::RunInfo& run = reader_.run().run();
    if (rank != kMerged && std::max(run.world_size(), run.ranks()) > 1) {
      absl::StrAppend(&folder, "/rank-", rank);
    }
    auto made = EventFile::Create(folder, run.start_time_unix_ns());
    if (!made.ok()) return made.status();
    of.file = *std::move(made);
    return &of;
  }

  // Which steps of a rank come now; lower ones than before if they come again.
  void Aim(const RankState& state, RankFile* of) {
    const bool again = of->branches != 0 && of->branches != state.branches &&
                       state.first_of_newest < of->next_step;
    of->branches = state.branches;
    of->next_step = std::max(again ? state.first_of_newest : of->next_step,
                             reader_.begin_step());
    of->end = std::min(state.end, reader_.end_step());
    if (again) {
      of->next_scalars = of->next_histograms = of->next_step;
      of->file->records().AddRestart(of->next_step, state.newest_start);
    }
  }

  absl::Status WriteNews() {
    std::int64_t begin = std::numeric_limits<std::int64_t>::max();
    std::int64_t end = std::numeric_limits<std::int64_t>::min();
    for (const auto& [rank, state] : States()) {
      const auto of = FileOf(rank);
      if (!of.ok()) return of.status();
      Aim(state, *of);
      if ((*of)->next_step >= (*of)->end) continue;
      begin = std::min(begin, (*of)->next_step);
      end = std::max(end, (*of)->end);
    }
    absl::Status status = reader_.Read(
        begin, end,
        [this](const v1::GetSeriesResponse& chunk, std::int64_t from,
               std::int64_t to) { return WriteChunk(chunk, from, to); });
    for (auto& [rank, of] : ranks_) {
      const absl::Status flushed = of.file->Flush();
      if (status.ok()) status = flushed;
    }
    return status;
  }

  // The steps [begin, end).
  absl::Status WriteChunk(const v1::GetSeriesResponse& chunk,
                          std::int64_t begin, std::int64_t end) {
    absl::Status status = WriteScalars(chunk);
    if (!status.ok()) return status;
    for (auto& [rank, of] : ranks_) {
      of.next_scalars = std::max(of.next_scalars, std::min(end, of.end));
    }
    status = WriteHistograms(begin, end);
    if (!status.ok()) return status;
    for (auto& [rank, of] : ranks_) {
      of.next_step = std::max(of.next_step, std::min(end, of.end));
    }
    return absl::OkStatus();
  }

  absl::Status WriteScalars(const v1::GetSeriesResponse& chunk) {
    absl::Status status;
    RankFile* open = nullptr;
    std::int64_t step = 0;
    std::uint32_t rank = 0;
    const auto end_step = [&] {
      if (open == nullptr) return;
      open->file->records().End();
      status = open->file->WriteSome();
      open = nullptr;
    };
    ForEachRow(chunk, [&](const ExportRow& row) {
      if (open == nullptr || row.rank != rank || row.step != step) {
        end_step();
        const auto of = FileOf(row.rank);
        if (status.ok()) status = of.status();
        if (!status.ok()) return false;
        const std::int64_t next =
            std::max((*of)->next_step, (*of)->next_scalars);
        if (row.step < next || row.step >= (*of)->end) return true;
        open = *of;
        rank = row.rank;
        step = row.step;
        open->file->records().Begin(step, row.time_unix_ns);
      }
      for (const ExportRow::Entry& entry : row.entries) {
        if (!entry.value.has_value()) continue;
        open->file->records().AddScalar(
            TensorboardTag(entry.statistic, row.parameter), *entry.value);
        ++values_;
      }
      return true;
    });
    end_step();
    return status;
  }

  // Of the steps [begin, end) that have some and were not written before.
  absl::Status WriteHistograms(std::int64_t begin, std::int64_t end) {
    v1::GetSeriesRequest request = what_.request;
    request.clear_statistics();
    for (const v1::Role role : reader_.roles()) {
      request.add_statistics(absl::StrCat(std::string(RoleWord(role)), ".p50"));
    }
    if (request.statistics().empty()) return absl::OkStatus();
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(end);
    v1::GetSeriesResponse medians;
    absl::Status status =
        channel_.Call(&v1::Query::Stub::GetSeries, request, &medians);
    if (absl::IsNotFound(status)) return absl::OkStatus();  // None at all.
    if (!status.ok()) return status;
    std::set<std::pair<std::uint32_t, std::int64_t>> steps;
    for (const v1::Series& series : medians.series()) {
      for (const std::int64_t step : series.step()) {
        steps.insert({series.rank(), step});
      }
    }
    for (const auto& [rank, step] : steps) {
      const auto of = FileOf(rank);
      if (!of.ok()) return of.status();
      const std::int64_t next =
          std::max((*of)->next_step, (*of)->next_histograms);
      if (step < next || step >= (*of)->end) continue;
      status = WriteHistogramsOf(rank, step, (*of)->file.get());
      if (!status.ok()) return status;
      (*of)->next_histograms = step + 1;
    }
    return absl::OkStatus();
  }

  absl::Status WriteHistogramsOf(std::uint32_t rank, std::int64_t step,
                                 EventFile* file) {
    v1::GetHistogramsRequest request;
    request.set_run(what_.request.runs(0));
    request.set_step(step);
    request.set_match(what_.request.match());
    request.set_attempt(what_.request.attempt());
    request.set_merged(what_.request.merged());
    if (!what_.request.merged()) request.set_rank(rank);
    v1::GetHistogramsResponse answer;
    const absl::Status status =
        channel_.Call(&v1::Query::Stub::GetHistograms, request, &answer);
    if (!status.ok()) return status;
    file->records().Begin(step, answer.time_unix_ns());
    for (const v1::ParameterHistogram& one : answer.histograms()) {
      const EventHistogram event = ToEvent(one);
      if (event.count == 0) continue;
      file->records().AddHistogram(
          TensorboardTag(RoleWord(one.role()), one.parameter()), event);
    }
    file->records().End();
    return file->WriteSome();
  }

  static constexpr std::uint32_t kMerged =
      std::numeric_limits<std::uint32_t>::max();

  const TensorboardExport& what_;
  QueryChannel& channel_;
  Context& context_;
  ExportReader reader_;
  std::map<std::uint32_t, RankFile> ranks_;
  std::uint64_t values_ = 0;
  bool told_ = false;  // That the collector cannot be reached.
};

}  // namespace

std::string TensorboardTag(std::string_view statistic,
                           std::string_view parameter) {
  if (parameter.empty()) {  // A scalar's kind stands before the first dot.
    std::string tag(statistic);
    const std::size_t dot = tag.find('.');
    if (dot != std::string::npos) tag[dot] = '/';
    return tag;
  }
  std::string path(parameter);
  std::replace(path.begin(), path.end(), '.', '/');
  return absl::StrCat(std::string(statistic), "/", path);
}

absl::Status ExportTensorboard(const TensorboardExport& what,
                               QueryChannel& channel, Context& context) {
  Exporter exporter(what, channel, context);
  const absl::Status status = exporter.Run();
  if (!status.ok()) return status;
  context.Note(absl::StrCat(Plural(exporter.values(), "value"), " in ",
                            Plural(exporter.files(), "event file"),
                            " written under ", what.folder,
                            "; look with: tensorboard --logdir ", what.folder));
  return absl::OkStatus();
}

}  // namespace gradtap::client
