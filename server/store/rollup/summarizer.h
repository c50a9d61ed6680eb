// Entries of a block of records: every statistic that is rolled up, from the
// columns that tiles are made of.
//
// Stored fields are taken as they are. Derived ones (l2, ratio, nonfinite,
// abs_max) are what Derive() of core/statistic.h gives in double, and for ratio
// the quotient of two of those, each value rounded to float32: finite ones that
// exceed it to its largest, NaN to the quiet one. Entries are of the rounded
// values. A stored field of a record without a finite element is NaN, whatever
// its column says, as it is to Derive().
//
// Layer: server/store/rollup. std, absl, core, the blocks of server/store/tile.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_SUMMARIZER_H_
#define GRADTAP_SERVER_STORE_ROLLUP_SUMMARIZER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "core/record.h"
#include "server/store/rollup/entry.h"
#include "server/store/rollup/statistic.h"
#include "server/store/tile/tile.h"

namespace gradtap::server {

// The records of one role: its columns, of the same parameters and steps. Not
// owned. Which records are present is what `mean` says; the other columns'
// presence is not looked at.
struct RecordColumns {
  const FloatBlock* mean = nullptr;
  const FloatBlock* std = nullptr;
  const FloatBlock* abs_mean = nullptr;
  const FloatBlock* min = nullptr;
  const FloatBlock* max = nullptr;
  // Null: zero throughout.
  const CountBlock* nan = nullptr;
  const CountBlock* pos_inf = nullptr;
  const CountBlock* neg_inf = nullptr;
  std::span<const std::uint64_t> numel;  // One a parameter.
};

// Makes entries. Keeps its scratch memory: make one for each thread and keep
// it. A record takes 1 ns a statistic or less, one with a non-finite element up
// to 120 (README.md).
class RollupSummarizer {
 public:
  // What is to be summarised until the next Start(): the records of a role, and
  // for kRatio the weights of the same parameters and steps, or null. Both must
  // stay as they are until then. kInvalidArgument if a column lacks or has
  // another shape, or if the numel of a parameter is not the weight's.
  absl::Status Start(const RecordColumns& records,
                     const RecordColumns* weights);

  // The entries of one statistic for each `run` steps, the last run taking what
  // is left: run e of parameter p becomes entries[p * RunsOf(steps, run) + e].
  // A ratio is absent where the record or the weight's is. kInvalidArgument if
  // `run` is 0 or above kMaxRollupRun, or for kRatio without weights.
  absl::Status Summarize(RollupStatistic statistic, std::uint32_t run,
                         std::vector<RollupEntry>* entries);

 private:
  // A role's records, and of which parameters they are all finite.
  struct Side {
    RecordColumns columns;
    std::vector<std::uint8_t> plain;

    void Set(const RecordColumns& records);
    Record At(std::size_t i) const;
    std::uint64_t NonfiniteAt(std::size_t i) const;
    double Derived(Field field, std::size_t parameter, std::size_t i) const;
  };

  // Null if all values are present.
  const std::uint8_t* PresentRow(RollupStatistic statistic,
                                 std::size_t parameter);
  // The values of a parameter's series: a column's own, or in row_. Where one
  // is absent there is anything.
  const float* Row(RollupStatistic statistic, std::size_t parameter,
                   const std::uint8_t* present);
  void FillNormRow(RollupStatistic statistic, std::size_t parameter,
                   const std::uint8_t* present);
  void BlankRow(std::size_t parameter);
  // Puts steps into unsure_; returns how many.
  std::size_t FindPartial(RollupStatistic statistic, std::size_t parameter);
  // Derives the first `unsure` places of unsure_ one by one.
  void MendRow(RollupStatistic statistic, std::size_t parameter,
               const std::uint8_t* present, std::size_t unsure);
  float ValueAt(RollupStatistic statistic, std::size_t parameter,
                std::size_t i) const;

  Side records_, weights_;
  bool has_weights_ = false;
  std::size_t steps_ = 0;
  std::vector<float> row_;
  std::vector<std::uint8_t> present_row_;
  std::vector<std::uint32_t> unsure_;
};

// Runs that `steps` steps make, the last of which may be shorter.
inline std::uint32_t RunsOf(std::uint32_t steps, std::uint32_t run) {
  return steps / run + (steps % run != 0 ? 1 : 0);
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROLLUP_SUMMARIZER_H_
