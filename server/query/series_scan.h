// GetSeries while it runs: one request, one thread.
//
// series_query.cc has the request, what all ways share, and the ranks merged;
// series_rank.cc one rank's line, step by step or from roll-ups.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_SERIES_SCAN_H_
#define GRADTAP_SERVER_QUERY_SERIES_SCAN_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/line.h"
#include "server/query/merge.h"
#include "server/query/parameter_group.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"
#include "server/query/series_set.h"
#include "server/query/step_histograms.h"
#include "server/query/time_window.h"

namespace gradtap::server {

// Bytes of rows that a scan holds at a time.
inline constexpr std::size_t kSeriesBlockBytes = std::size_t{4} << 20;

class SeriesScan {
 public:
  SeriesScan(const QueryEnvironment& environment,
             const v1::GetSeriesRequest& request, const Cancelled& cancelled)
      : environment_(environment),
        request_(request),
        budget_(environment.limits.max_read_bytes, cancelled),
        schemas_(environment.store),
        series_(request.max_points(), environment.limits.max_values) {}

  absl::Status Run(v1::GetSeriesResponse* response);

 private:
  // One series and where its values stand in rows of one schema.
  struct Target {
    DownSampler* sampler;
    const Statistic* statistic;
    std::size_t parameter;
  };
  struct Plan {
    std::shared_ptr<const SchemaIndex> index;
    std::vector<Target> targets;
    BlockSet blocks;
  };
  using Plans = std::map<StreamId, std::map<std::uint32_t, Plan>>;
  struct MergedPlan {
    MergePlan merge;
    std::vector<PlannedSeries> series;
    std::vector<DownSampler*> samplers;  // One for each.
    std::vector<BlockSet> blocks;        // One for each rank's row.
  };
  using GroupKey = std::vector<std::pair<StreamId, std::uint32_t>>;

  absl::Status Prepare();
  absl::Status RunOne(const RunView& run);
  absl::Status ScanRank(const Line& line, const StepWindow& window);
  // The rows of one segment, within `window`.
  absl::Status ScanRows(const Line& line, const Segment& segment,
                        const StepWindow& window, Plans* plans);
  // The part of a segment that is rolled up.
  absl::Status ScanRolledUp(const Line& line, const Segment& segment,
                            const RolledSpan& span, Plans* plans);
  absl::Status NoteSkippedWithin(const Line& line, const Segment& segment,
                                 const RolledSpan& span);
  absl::Status ScanMerged(const RunView& run, const std::vector<Line>& lines,
                          const StepWindow& window);
  absl::StatusOr<bool> NextGroup(std::vector<RowReader>* readers,
                                 const std::vector<Line>& lines,
                                 Segment* segment, std::vector<RankRow>* rows);
  absl::Status AddGroup(const RunView& run, const Segment& segment,
                        const std::vector<RankRow>& rows,
                        std::map<GroupKey, MergedPlan>* plans);
  absl::Status PlanGroup(const RunView& run, const Segment& segment,
                         const std::vector<RankRow>& rows, MergedPlan* plan);
  absl::Status AddRecords(const Line& line, const Row& row, Point point,
                          const Plan& plan, std::uint64_t* added);
  // Only the parameters asked for are decoded.
  absl::Status FocusOn(const Segment& segment, SealedWindow* window);
  // Null: nothing wants them, or the step has none.
  absl::StatusOr<std::shared_ptr<const StepHistograms>> HistogramsOf(
      std::uint32_t rank, const Segment& segment, const StoredStep& step,
      const BlockSet& blocks);
  absl::Status AddRow(const Line& line, const Row& row, Plans* plans);
  absl::StatusOr<Plan*> PlanOf(StreamId stream, std::uint32_t schema_id,
                               Plans* plans);
  std::uint64_t AddScalars(const StoredStep& step, const Point& at);
  bool InTime(const StoredStep& step);
  void NoteInTime(std::int64_t step);
  TimeWindow Times() const;
  void NoteSkipped(const Line& line, const Segment& segment,
                   const StoredStep& step);
  void AddSkipped(v1::GapInfo gap);
  absl::Status AddGaps(const Line& line, StepWindow window);

  const QueryEnvironment& environment_;
  const v1::GetSeriesRequest& request_;
  ReadBudget budget_;
  SchemaCache schemas_;
  std::map<std::uint32_t, HistogramSteps> histogram_steps_;  // By rank.
  SeriesSet series_;
  StatisticSelection statistics_;
  NameFilter match_;
  std::vector<RunView> runs_;
  ParameterGroups groups_;
  std::vector<std::uint32_t> ranks_;         // Asked for, sorted; empty: all.
  std::vector<std::uint32_t> merged_ranks_;  // Of the scan; empty: all.
  std::set<std::string, std::less<>> scalar_names_;  // Seen in any row read.
  std::vector<v1::GapInfo> gaps_;
  // First and last parameter asked for, by stream and schema.
  std::map<std::pair<StreamId, std::uint32_t>,
           std::pair<std::uint32_t, std::uint32_t>>
      focus_;
  // About how many points a series of the line at hand has, if it is to come
  // from roll-ups; else 0.
  std::uint64_t expected_ = 0;
  // Steps of the rows of one line that were within the times asked for.
  std::int64_t first_in_time_ = 0;
  std::int64_t last_in_time_ = -1;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SERIES_SCAN_H_
