#include "server/store/rollup/summarizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/statistic.h"
#include "server/store/rollup/kernels.h"

namespace gradtap::server {
namespace {

// Of values in double: finite ones stay finite.
float RoundToFloat(double value) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (std::isnan(value)) return std::bit_cast<float>(kAbsentBits);
  if (std::isinf(value)) return static_cast<float>(value);
  return static_cast<float>(std::clamp(value, -kLargest, kLargest));
}

template <typename Block>
bool HasShape(const Block* block, const FloatBlock& of) {
  return block != nullptr && block->parameters == of.parameters &&
         block->steps == of.steps && block->values.size() == of.size();
}

bool IsWhole(const RecordColumns& columns, const FloatBlock& shape) {
  for (const FloatBlock* block : {columns.mean, columns.std, columns.abs_mean,
                                  columns.min, columns.max}) {
    if (!HasShape(block, shape)) return false;
  }
  for (const CountBlock* block :
       {columns.nan, columns.pos_inf, columns.neg_inf}) {
    if (block != nullptr && !HasShape(block, shape)) return false;
  }
  const std::size_t present = columns.mean->present.size();
  return (present == 0 || present == shape.size()) &&
         columns.numel.size() == shape.parameters;
}

bool AnyIn(const CountBlock* block, std::size_t from) {
  if (block == nullptr) return false;
  std::uint64_t any = 0;
  for (std::size_t t = 0; t < block->steps; ++t) any |= block->values[from + t];
  return any != 0;
}

std::uint64_t CountAt(const CountBlock* block, std::size_t i) {
  return block == nullptr ? 0 : block->values[i];
}

const FloatBlock* StoredColumn(const RecordColumns& columns,
                               RollupStatistic statistic) {
  switch (statistic) {
    case RollupStatistic::kMean:
      return columns.mean;
    case RollupStatistic::kStd:
      return columns.std;
    case RollupStatistic::kAbsMean:
      return columns.abs_mean;
    case RollupStatistic::kMin:
      return columns.min;
    case RollupStatistic::kMax:
      return columns.max;
    default:
      return nullptr;
  }
}

}  // namespace

void RollupSummarizer::Side::Set(const RecordColumns& records) {
  columns = records;
  plain.resize(columns.mean->parameters);
  for (std::size_t p = 0; p < plain.size(); ++p) {
    const std::size_t from = p * columns.mean->steps;
    plain[p] = columns.numel[p] != 0 && !AnyIn(columns.nan, from) &&
               !AnyIn(columns.pos_inf, from) && !AnyIn(columns.neg_inf, from);
  }
}

Record RollupSummarizer::Side::At(std::size_t i) const {
  return {.mean = columns.mean->values[i],
          .std = columns.std->values[i],
          .abs_mean = columns.abs_mean->values[i],
          .min = columns.min->values[i],
          .max = columns.max->values[i],
          .zero = 0,  // Nothing that is rolled up has to do with it.
          .nan = CountAt(columns.nan, i),
          .pos_inf = CountAt(columns.pos_inf, i),
          .neg_inf = CountAt(columns.neg_inf, i)};
}

// Of the record's elements; saturates, as in core.
std::uint64_t RollupSummarizer::Side::NonfiniteAt(std::size_t i) const {
  const std::uint64_t nan = CountAt(columns.nan, i);
  const std::uint64_t pos_inf = CountAt(columns.pos_inf, i);
  const std::uint64_t neg_inf = CountAt(columns.neg_inf, i);
  const std::uint64_t two = nan + pos_inf;
  const std::uint64_t all = two + neg_inf;
  return two < nan || all < two ? ~std::uint64_t{0} : all;
}

double RollupSummarizer::Side::Derived(Field field, std::size_t parameter,
                                       std::size_t i) const {
  return Derive(field, At(i), columns.numel[parameter]);
}

absl::Status RollupSummarizer::Start(const RecordColumns& records,
                                     const RecordColumns* weights) {
  if (records.mean == nullptr || !IsWhole(records, *records.mean)) {
    return absl::InvalidArgumentError(
        "roll-up: a column of the records lacks or has another shape");
  }
  if (weights != nullptr && !IsWhole(*weights, *records.mean)) {
    return absl::InvalidArgumentError(
        "roll-up: a column of the weights lacks or has another shape");
  }
  if (weights != nullptr &&
      !std::equal(records.numel.begin(), records.numel.end(),
                  weights->numel.begin(), weights->numel.end())) {
    return absl::InvalidArgumentError(
        "roll-up: the weights' numel is not that of the records");
  }
  records_.Set(records);
  has_weights_ = weights != nullptr;
  if (has_weights_) weights_.Set(*weights);
  steps_ = records.mean->steps;
  row_.resize(steps_);
  present_row_.resize(steps_);
  unsure_.resize(steps_);
  return absl::OkStatus();
}

float RollupSummarizer::ValueAt(RollupStatistic statistic,
                                std::size_t parameter, std::size_t i) const {
  if (statistic != RollupStatistic::kRatio) {
    return RoundToFloat(records_.Derived(FieldOf(statistic), parameter, i));
  }
  return RoundToFloat(records_.Derived(Field::kL2, parameter, i) /
                      weights_.Derived(Field::kL2, parameter, i));
}

void RollupSummarizer::MendRow(RollupStatistic statistic, std::size_t parameter,
                               const std::uint8_t* present,
                               std::size_t unsure) {
  for (std::size_t k = 0; k < unsure; ++k) {
    const std::size_t t = unsure_[k];
    if (present != nullptr && present[t] == 0) continue;
    row_[t] = ValueAt(statistic, parameter, parameter * steps_ + t);
  }
}

// The steps at which not all of the elements that the formulas count are
// finite, or there is none.
std::size_t RollupSummarizer::FindPartial(RollupStatistic statistic,
                                          std::size_t parameter) {
  const bool ratio = statistic == RollupStatistic::kRatio;
  const bool none = records_.columns.numel[parameter] == 0;
  std::size_t found = 0;
  for (std::size_t t = 0; t < steps_; ++t) {
    const std::size_t i = parameter * steps_ + t;
    if (none || records_.NonfiniteAt(i) != 0 ||
        (ratio && weights_.NonfiniteAt(i) != 0)) {
      unsure_[found++] = static_cast<std::uint32_t>(t);
    }
  }
  return found;
}

// NaN for the records without a finite element.
void RollupSummarizer::BlankRow(std::size_t parameter) {
  const std::uint64_t numel = records_.columns.numel[parameter];
  for (std::size_t t = 0; t < steps_; ++t) {
    if (records_.NonfiniteAt(parameter * steps_ + t) < numel) continue;
    row_[t] = std::bit_cast<float>(kAbsentBits);
  }
}

// l2 and ratio: of all elements by the kernels, then of the records that have
// others.
void RollupSummarizer::FillNormRow(RollupStatistic statistic,
                                   std::size_t parameter,
                                   const std::uint8_t* present) {
  const std::size_t from = parameter * steps_;
  const RecordColumns& of = records_.columns;
  const float* std = of.std->values.data() + from;
  const float* mean = of.mean->values.data() + from;
  bool plain = records_.plain[parameter] != 0;
  std::size_t unsure = 0;
  if (statistic == RollupStatistic::kL2) {
    const double n = static_cast<double>(of.numel[parameter]);
    unsure = rollup::L2Column(std, mean, std::sqrt(n), steps_, row_.data(),
                              unsure_.data());
  } else {
    const RecordColumns& by = weights_.columns;
    plain = plain && weights_.plain[parameter] != 0;
    unsure = rollup::RatioColumn(std, mean, by.std->values.data() + from,
                                 by.mean->values.data() + from, steps_,
                                 row_.data(), unsure_.data());
  }
  MendRow(statistic, parameter, present, unsure);
  if (plain) return;
  unsure = FindPartial(statistic, parameter);
  MendRow(statistic, parameter, present, unsure);
}

const float* RollupSummarizer::Row(RollupStatistic statistic,
                                   std::size_t parameter,
                                   const std::uint8_t* present) {
  const std::size_t from = parameter * steps_;
  const RecordColumns& of = records_.columns;
  const bool plain = records_.plain[parameter] != 0;
  switch (statistic) {
    case RollupStatistic::kL2:
    case RollupStatistic::kRatio:
      FillNormRow(statistic, parameter, present);
      return row_.data();
    case RollupStatistic::kNonfinite:
      std::fill(row_.begin(), row_.end(), 0.0f);
      if (!plain) {
        const std::size_t partial = FindPartial(statistic, parameter);
        MendRow(statistic, parameter, present, partial);
      }
      return row_.data();
    case RollupStatistic::kAbsMax:
      for (std::size_t t = 0; t < steps_; ++t) {
        row_[t] = std::max(std::fabs(of.min->values[from + t]),
                           std::fabs(of.max->values[from + t]));
      }
      break;
    default: {
      const auto stored = StoredColumn(of, statistic)->values.begin() +
                          static_cast<std::ptrdiff_t>(from);
      if (plain) return &*stored;
      std::copy_n(stored, steps_, row_.begin());
      break;
    }
  }
  if (!plain) BlankRow(parameter);
  return row_.data();
}

const std::uint8_t* RollupSummarizer::PresentRow(RollupStatistic statistic,
                                                 std::size_t parameter) {
  const auto row = [&](const Side& side) -> const std::uint8_t* {
    const auto& present = side.columns.mean->present;
    return present.empty() ? nullptr : present.data() + parameter * steps_;
  };
  const std::uint8_t* own = row(records_);
  if (statistic != RollupStatistic::kRatio) return own;
  const std::uint8_t* weight = row(weights_);
  if (own == nullptr || weight == nullptr) return own == nullptr ? weight : own;
  for (std::size_t t = 0; t < steps_; ++t) {
    present_row_[t] = own[t] != 0 && weight[t] != 0 ? 1 : 0;
  }
  return present_row_.data();
}

absl::Status RollupSummarizer::Summarize(RollupStatistic statistic,
                                         std::uint32_t run,
                                         std::vector<RollupEntry>* entries) {
  if (run == 0 || run > kMaxRollupRun) {
    return absl::InvalidArgumentError(absl::StrCat(
        "roll-up: runs of ", run, " steps; from 1 to ", kMaxRollupRun));
  }
  if (statistic == RollupStatistic::kRatio && !has_weights_) {
    return absl::InvalidArgumentError("roll-up: a ratio without weights");
  }
  const std::size_t runs = RunsOf(static_cast<std::uint32_t>(steps_), run);
  const std::size_t parameters = records_.plain.size();
  entries->resize(parameters * runs);
  for (std::size_t p = 0; p < parameters; ++p) {
    const std::uint8_t* present = PresentRow(statistic, p);
    const float* values = Row(statistic, p, present);
    for (std::size_t e = 0; e < runs; ++e) {
      const std::size_t from = e * run;
      const std::size_t count = std::min<std::size_t>(run, steps_ - from);
      const std::uint8_t* here = present == nullptr ? nullptr : present + from;
      if (here != nullptr && std::memchr(here, 0, count) == nullptr) {
        here = nullptr;
      }
      RollupEntry* entry = &(*entries)[p * runs + e];
      if (here == nullptr && count == rollup::kKernelRun &&
          rollup::SummarizeRun(values + from, entry)) {
        continue;
      }
      *entry = RollupOf(values + from, here, count);
    }
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
