// Chooses how each series is predicted: the only place that tries things out.
// What it chooses changes how many bytes a tile has, never what it decodes to.
//
// Layer: server/store/tile. One thread at a time may use an object.

#ifndef GRADTAP_SERVER_STORE_TILE_PLANNER_H_
#define GRADTAP_SERVER_STORE_TILE_PLANNER_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "server/store/tile/series.h"

namespace gradtap::server::tile {

// The values that one series has, absent ones left out; of the references the
// same places, or nothing.
struct SeriesView {
  std::span<const std::uint32_t> bits;
  std::span<const std::uint32_t> scale;
  std::span<const std::uint32_t> increment;
  std::span<const std::uint32_t> twin;
};

// Series of a tile are much alike: a few are tried with every filter, the
// others with what was best for these.
class Planner {
 public:
  Planner();

  // Call it first for some series of the tile, between Begin and End.
  void BeginSurvey();
  void EndSurvey();
  SeriesPlan Choose(const SeriesView& series);

 private:
  // A candidate and its estimated bits a value.
  struct Candidate {
    SeriesPlan plan;
    double bits = 0;
  };
  // The filters that are tried of one kind, and what each cost in the survey.
  struct Choice {
    std::vector<std::uint8_t> filters;
    std::array<double, kFilters.size()> bits = {};
  };

  Choice& ChoiceOf(Kind kind);
  void TryIncrement(const SeriesView& series, Kind kind);
  void TryOrdered(const SeriesView& series);
  void TryScaled(const SeriesView& series);
  void TryFixed(const SeriesView& series);
  void TryGrid(const SeriesView& series);
  bool FillFixed(const SeriesView& series, int unit, double* finer);
  // The cheapest of the kind's filters on values_, for a candidate that costs
  // `beside` besides; `room` more bits are left out of a symbol.
  void TryFilters(SeriesPlan plan, double beside, double room);
  void Offer(const SeriesPlan& plan, double residual_bits, double beside,
             double room);
  void Filtered(std::uint8_t filter, std::span<const std::uint32_t> values,
                std::vector<std::uint32_t>* residuals) const;

  bool surveying_ = false;
  std::array<Choice, kKinds> choices_;
  Candidate best_;
  std::vector<std::uint32_t> values_;  // As the filter sees them.
  std::vector<std::uint32_t> scales_;  // Of `scale`, ordered.
  std::vector<std::uint32_t> residuals_;
  std::vector<std::uint32_t> scale_residuals_;
  std::vector<std::uint32_t> terms_;
};

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_PLANNER_H_
