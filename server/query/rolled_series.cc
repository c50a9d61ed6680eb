#include "server/query/rolled_series.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "server/store/rollup/entry.h"
#include "server/store/rollup/statistic.h"

namespace gradtap::server {
namespace {

struct Piece {
  std::int64_t first_step = 0;
  std::uint32_t recorded = 0;
  std::uint32_t run = 0;
  RollupSource source;
  std::vector<RollupEntry> entries;
};

absl::Status ScanPieces(Store* store, const Segment& segment,
                        const RolledSpan& span,
                        const RollupSelection& selection, ReadBudget* budget,
                        absl::FunctionRef<void(const RollupPiece&)> visit) {
  absl::Status charged;
  const absl::Status s =
      store->ScanRollups(segment.stream->id, segment.branch, span, selection,
                         [&](const RollupPiece& piece) {
                           charged = budget->Charge(piece.entries.size_bytes());
                           if (charged.ok()) visit(piece);
                           return charged.ok();
                         });
  return s.ok() ? charged : s;
}

absl::Status ReadPieces(Store* store, const Segment& segment,
                        const RolledSpan& span,
                        const RollupSelection& selection,
                        const RollupSource& source, ReadBudget* budget,
                        std::vector<Piece>* pieces) {
  return ScanPieces(
      store, segment, span, selection, budget, [&](const RollupPiece& piece) {
        pieces->push_back({piece.first_step,
                           piece.recorded,
                           piece.run,
                           source,
                           {piece.entries.begin(), piece.entries.end()}});
      });
}

bool AllHold(const std::vector<Piece>& pieces,
             const std::vector<Piece>& nonfinite) {
  if (pieces.size() != nonfinite.size()) return false;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].first_step != nonfinite[i].first_step ||
        pieces[i].entries.size() != nonfinite[i].entries.size()) {
      return false;
    }
    for (std::size_t e = 0; e < pieces[i].entries.size(); ++e) {
      if (!pieces[i].source.HoldsFor(pieces[i].entries[e],
                                     &nonfinite[i].entries[e])) {
        return false;
      }
    }
  }
  return true;
}

// None if the part has no roll-ups of it.
std::optional<RollupSource> SourceOf(const Statistic& statistic,
                                     const RolledPart& part) {
  if (part.places->at(statistic.role) < 0) return std::nullopt;
  return RollupSourceOf(statistic.role, statistic.field, part.places->numel);
}

RollupSelection SelectionOf(const Statistic& statistic, const RolledPart& part,
                            const RollupSource& source) {
  RollupSelection selection;
  selection.role = statistic.role;
  selection.statistic = source.statistic;
  selection.schema_id = part.schema_id;
  selection.place = static_cast<std::uint32_t>(part.places->at(statistic.role));
  return selection;
}

// Nothing is added to `*pieces` if steps have to be read instead.
absl::StatusOr<bool> ReadPart(Store* store, const Segment& segment,
                              const RolledSpan& span,
                              const Statistic& statistic,
                              const RolledPart& part, ReadBudget* budget,
                              std::vector<Piece>* pieces) {
  const std::optional<RollupSource> source = SourceOf(statistic, part);
  if (!source.has_value()) return false;
  RollupSelection selection = SelectionOf(statistic, part, *source);
  std::vector<Piece> read;
  absl::Status s =
      ReadPieces(store, segment, span, selection, *source, budget, &read);
  if (!s.ok()) return s;
  if (source->if_all_finite) {
    std::vector<Piece> nonfinite;
    selection.statistic = RollupStatistic::kNonfinite;
    s = ReadPieces(store, segment, span, selection, *source, budget,
                   &nonfinite);
    if (!s.ok()) return s;
    if (!AllHold(read, nonfinite)) return false;
  }
  std::move(read.begin(), read.end(), std::back_inserter(*pieces));
  return true;
}

PointSummary SummaryOf(const RollupEntry& entry, const RollupSource& source) {
  PointSummary summary;
  summary.count = entry.steps();
  if (entry.finite > 0) {
    summary.has_finite = true;
    summary.min = {entry.min_at, source.Apply(entry.min)};
    summary.max = {entry.max_at, source.Apply(entry.max)};
    if (source.falls()) std::swap(summary.min, summary.max);
  }
  if (entry.nonfinite > 0) {
    summary.has_nonfinite = true;
    summary.nonfinite = {entry.nonfinite_at, entry.first_nonfinite};
  }
  if (entry.absent > 0) {
    summary.has_absent = true;
    summary.absent = {entry.absent_at,
                      std::numeric_limits<double>::quiet_NaN()};
  }
  return summary;
}

void AddPiece(const Segment& segment, const RollupPiece& piece,
              const RollupSource& source, SeriesSet* series,
              DownSampler* sampler) {
  Point first;
  first.attempt = segment.attempt;
  first.piece = series->PieceOf(segment.stream->id, segment.branch,
                                piece.first_step, piece.recorded);
  // Those of a bucket at once.
  for (std::size_t i = 0, end = 0; i < piece.entries.size(); i = end) {
    const std::uint64_t room = sampler->RoomOfSummaries();
    for (std::uint64_t steps = 0; end < piece.entries.size() && steps < room;
         ++end) {
      steps += piece.entries[end].steps();
    }
    const auto entries = piece.entries.subspan(i, end - i);
    sampler->Add(SummaryOf(MergeRollups(entries), source), first);
    first.step += static_cast<std::int64_t>(entries.size()) * piece.run;
  }
}

}  // namespace

bool CanBeRolledUp(const Statistic& statistic) {
  return statistic.source == Statistic::Source::kRecord &&
         RollupSourceOf(statistic.role, statistic.field, 1).has_value();
}

bool RollsUpAlways(const Statistic& statistic) {
  if (statistic.source != Statistic::Source::kRecord) return false;
  const std::optional<RollupSource> source =
      RollupSourceOf(statistic.role, statistic.field, 1);
  return source.has_value() && !source->if_all_finite &&
         (source->map == RollupMap::kSame || source->map == RollupMap::kSquare);
}

absl::StatusOr<bool> AddRolledUp(Store* store, const Segment& segment,
                                 const RolledSpan& span,
                                 const Statistic& statistic,
                                 const std::vector<RolledPart>& parts,
                                 ReadBudget* budget, SeriesSet* series,
                                 DownSampler* sampler) {
  // Most often there is one, that needs no other statistic to be sure of.
  const auto only =
      parts.size() == 1 ? SourceOf(statistic, parts.front()) : std::nullopt;
  if (only.has_value() && !only->if_all_finite) {
    const absl::Status s = ScanPieces(
        store, segment, span, SelectionOf(statistic, parts.front(), *only),
        budget, [&](const RollupPiece& piece) {
          AddPiece(segment, piece, *only, series, sampler);
        });
    if (!s.ok()) return s;
    return true;
  }
  std::vector<Piece> pieces;
  for (const RolledPart& part : parts) {
    const absl::StatusOr<bool> read =
        ReadPart(store, segment, span, statistic, part, budget, &pieces);
    if (!read.ok() || !*read) return read;
  }
  if (parts.size() > 1) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return a.first_step < b.first_step;
    });
  }
  for (const Piece& piece : pieces) {
    AddPiece(segment,
             {piece.first_step, piece.recorded, piece.run, piece.entries},
             piece.source, series, sampler);
  }
  return true;
}

}  // namespace gradtap::server
