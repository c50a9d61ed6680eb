// Entries of blocks of records: what Derive() says of each record, rolled up.

#include "server/store/rollup/summarizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

#include "core/statistic.h"
#include "core/targets.h"
#include "server/store/rollup/kernels.h"
#include "server/store/rollup/rollup_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ForEachTarget;
using ::gradtap::testing::StatusIs;
using rollup_testing::AllOf;
using rollup_testing::BitsOf;
using rollup_testing::DrawRandom;
using rollup_testing::ExpectEntry;
using rollup_testing::kInf;
using rollup_testing::kLargest;
using rollup_testing::kNaN;
using rollup_testing::kSmallest;
using rollup_testing::Random;
using rollup_testing::Series;
using rollup_testing::SlowEntry;
using ::testing::HasSubstr;

// Columns of records, with what points at them.
class Records {
 public:
  Records(std::uint32_t parameters, std::uint32_t steps) {
    for (FloatBlock* block : {&mean, &std, &abs_mean, &min, &max}) {
      *block = tile_testing::MakeBlock(parameters, steps,
                                       [](auto, auto) { return 0u; });
    }
    for (CountBlock* block : {&nan, &pos_inf, &neg_inf}) {
      block->parameters = parameters;
      block->steps = steps;
      block->values.resize(block->size());
    }
    numel.assign(parameters, 100);
  }

  void Set(std::size_t i, const Record& r) {
    mean.values[i] = r.mean;
    std.values[i] = r.std;
    abs_mean.values[i] = r.abs_mean;
    min.values[i] = r.min;
    max.values[i] = r.max;
    nan.values[i] = r.nan;
    pos_inf.values[i] = r.pos_inf;
    neg_inf.values[i] = r.neg_inf;
  }
  Record At(std::size_t i) const {
    return {mean.values[i], std.values[i],     abs_mean.values[i],
            min.values[i],  max.values[i],     0,
            nan.values[i],  pos_inf.values[i], neg_inf.values[i]};
  }
  RecordColumns columns() const {
    return {.mean = &mean,
            .std = &std,
            .abs_mean = &abs_mean,
            .min = &min,
            .max = &max,
            .nan = &nan,
            .pos_inf = &pos_inf,
            .neg_inf = &neg_inf,
            .numel = numel};
  }

  FloatBlock mean, std, abs_mean, min, max;
  CountBlock nan, pos_inf, neg_inf;
  std::vector<std::uint64_t> numel;
};

float AsFloat(double value) {
  if (std::isnan(value)) return kNaN;
  if (std::isinf(value)) return value > 0 ? kInf : -kInf;
  if (value > kLargest) return kLargest;
  if (value < -kLargest) return -kLargest;
  return static_cast<float>(value);
}

// The series of a statistic, record by record.
Series SeriesOf(RollupStatistic statistic, const Records& records,
                const Records& weights, std::size_t parameter) {
  const std::size_t steps = records.mean.steps;
  const std::uint64_t numel = records.numel[parameter];
  Series series;
  for (std::size_t t = 0; t < steps; ++t) {
    const std::size_t i = parameter * steps + t;
    bool present = records.mean.IsPresent(i);
    double value = 0;
    if (statistic == RollupStatistic::kRatio) {
      present = present && weights.mean.IsPresent(i);
      value = Derive(Field::kL2, records.At(i), numel) /
              Derive(Field::kL2, weights.At(i), numel);
    } else {
      value = Derive(FieldOf(statistic), records.At(i), numel);
    }
    series.values.push_back(AsFloat(value));
    series.present.push_back(present ? 1 : 0);
  }
  return series;
}

// Expects of every statistic the entries that its values give one by one.
void ExpectSummarised(const Records& records, const Records& weights,
                      std::uint32_t run) {
  const RecordColumns of = records.columns();
  const RecordColumns by = weights.columns();
  RollupSummarizer summarizer;
  GRADTAP_ASSERT_OK(summarizer.Start(of, &by));
  const std::uint32_t runs = RunsOf(records.mean.steps, run);
  for (const RollupStatistic statistic : kRollupStatistics) {
    std::vector<RollupEntry> entries;
    GRADTAP_ASSERT_OK(summarizer.Summarize(statistic, run, &entries));
    ASSERT_EQ(entries.size(), std::size_t{records.mean.parameters} * runs);
    for (std::size_t p = 0; p < records.mean.parameters; ++p) {
      const Series series = SeriesOf(statistic, records, weights, p);
      for (std::uint32_t e = 0; e < runs; ++e) {
        SCOPED_TRACE(std::string(FieldName(FieldOf(statistic))) + " of " +
                     std::to_string(p) + " in run " + std::to_string(e));
        ExpectEntry(entries[p * runs + e],
                    SlowEntry(series, std::size_t{e} * run,
                              std::min(run, records.mean.steps - e * run)));
      }
    }
  }
}

Record DrawRecord(Random& random, std::uint64_t numel, bool finite) {
  Record r;
  if (!finite) {
    r.nan = random.Below(2) * random.Below(5);
    r.pos_inf = random.Below(2) * random.Below(5);
    r.neg_inf = random.Below(3) == 0 ? numel : 0;
    if (r.nan + r.pos_inf + r.neg_inf >= numel) return r;
  }
  const float scale = std::ldexp(
      1.0f,
      random.Below(4) == 0 ? static_cast<int>(random.Below(270)) - 145 : 0);
  r.std = scale * std::fabs(random.Noise());
  r.mean = scale * random.Noise();
  r.abs_mean = scale * std::fabs(random.Noise());
  r.min = scale * (random.Noise() - 1);
  r.max = scale * (random.Noise() + 1);
  if (random.Below(20) == 0) r.std = r.mean = 0;
  return r;
}

Records DrawRecords(std::uint32_t parameters, std::uint32_t steps,
                    const std::vector<std::uint64_t>& numel, Random& random) {
  Records records(parameters, steps);
  records.numel = numel;
  const std::uint32_t one_in = random.Below(4);
  for (std::uint32_t p = 0; p < parameters; ++p) {
    const bool finite = random.Below(3) != 0;
    for (std::uint32_t t = 0; t < steps; ++t) {
      records.Set(std::size_t{p} * steps + t,
                  DrawRecord(random, numel[p], finite));
    }
  }
  if (one_in == 0) return records;
  for (std::size_t i = 0; i < records.mean.size(); ++i) {
    records.mean.present.push_back(random.Below(one_in * 30) == 0 ? 0 : 1);
    if (records.mean.present.back() == 0) records.Set(i, Record());
  }
  return records;
}

RC_GTEST_PROP(RollupSummarizerPropertyTest, GivesWhatDeriveSaysOfEachRecord,
              ()) {
  Random random = DrawRandom();
  const std::uint32_t parameters = 1 + random.Below(4);
  const std::uint32_t steps =
      random.Below(2) == 0 ? 128 : 1 + random.Below(200);
  std::vector<std::uint64_t> numel;
  for (std::uint32_t p = 0; p < parameters; ++p) {
    const std::uint64_t draw = random.Next();
    numel.push_back(random.Below(2) == 0 ? draw % 50
                                         : draw << random.Below(20));
  }
  const Records records = DrawRecords(parameters, steps, numel, random);
  const Records weights = DrawRecords(parameters, steps, numel, random);
  ExpectSummarised(records, weights,
                   random.Below(2) == 0 ? 64 : 1 + random.Below(100));
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(RollupSummarizerTest, EveryInstructionSetGivesTheSame) {
  Random random(1);
  const std::vector<std::uint64_t> numel = {1, 7, 1u << 20, 0, 64};
  const Records records = DrawRecords(5, 256, numel, random);
  const Records weights = DrawRecords(5, 256, numel, random);
  const RecordColumns of = records.columns();
  const RecordColumns by = weights.columns();
  std::vector<std::vector<std::vector<std::uint32_t>>> first;
  ForEachTarget([&](const char* target) {
    RollupSummarizer summarizer;
    GRADTAP_ASSERT_OK(summarizer.Start(of, &by));
    std::vector<std::vector<std::vector<std::uint32_t>>> got;
    for (const RollupStatistic statistic : kRollupStatistics) {
      std::vector<RollupEntry> entries;
      GRADTAP_ASSERT_OK(summarizer.Summarize(statistic, 64, &entries));
      got.push_back(AllOf(entries));
    }
    if (first.empty()) first = got;
    EXPECT_TRUE(got == first) << target;
  });
}

TEST(RollupKernelsTest, ARunIsWhatItsValuesGiveOneByOne) {
  Random random(2);
  std::vector<float> values(64);
  for (int round = 0; round < 500; ++round) {
    const auto kind = static_cast<rollup_testing::Values>(round % 4);
    bool finite = true;
    for (float& value : values) {
      value = rollup_testing::DrawValue(kind, random);
      if (kind == rollup_testing::Values::kBorders && round % 8 != 2) {
        value = std::isfinite(value) ? value : kLargest;
      }
      finite = finite && std::isfinite(value);
    }
    const RollupEntry expected = RollupOf(values.data(), nullptr, 64);
    ForEachTarget([&](const char* target) {
      RollupEntry entry;
      entry.absent = 9;
      ASSERT_EQ(rollup::SummarizeRun(values.data(), &entry), finite) << target;
      if (finite) {
        EXPECT_EQ(AllOf(entry), AllOf(expected)) << target;
      }
    });
  }
}

TEST(RollupKernelsTest, ANonFiniteValueAnywhereIsNoticed) {
  std::vector<float> values(64, 1);
  for (const float bad : {kNaN, -kNaN, kInf, -kInf}) {
    for (float& value : values) {
      value = bad;
      ForEachTarget([&](const char* target) {
        RollupEntry entry;
        EXPECT_FALSE(rollup::SummarizeRun(values.data(), &entry)) << target;
      });
      value = 1;
    }
  }
}

// Where the exact value lies between two float32, any way of computing it may
// fall on either side: those are left to Derive().
TEST(RollupKernelsTest, WhatCouldRoundEitherWayIsUnsure) {
  const std::vector<float> std(16, 0x1.000001p0f);
  const std::vector<float> zero(16, 0);
  std::vector<float> out(16);
  std::vector<std::uint32_t> unsure(16);
  ForEachTarget([&](const char* target) {
    // 1 + 2^-24 is as near to 1 as to the next float32.
    const std::vector<float> ones(16, 1);
    for (const double off : {0.0, 0x1p-50, -0x1p-50, 0x1p-40, -0x1p-40}) {
      const double between = (1 + 0x1p-24) * (1 + off);
      EXPECT_EQ(rollup::L2Column(ones.data(), zero.data(), between, 16,
                                 out.data(), unsure.data()),
                std::fabs(off) < 0x1p-47 ? 16u : 0u)
          << target << " " << off;
    }
    EXPECT_EQ(rollup::L2Column(std.data(), zero.data(), 1, 16, out.data(),
                               unsure.data()),
              0u)
        << target;
    EXPECT_EQ(out, std);
    // Beyond float32, and a division by zero.
    EXPECT_EQ(rollup::L2Column(std.data(), zero.data(), 0x1p200, 16, out.data(),
                               unsure.data()),
              16u)
        << target;
    EXPECT_EQ(rollup::RatioColumn(std.data(), zero.data(), zero.data(),
                                  zero.data(), 16, out.data(), unsure.data()),
              16u)
        << target;
    EXPECT_EQ(unsure[15], 15u);
  });
}

TEST(RollupSummarizerTest, AnL2BeyondFloat32IsItsLargest) {
  Records records(1, 64);
  records.numel = {1000};
  for (std::size_t t = 0; t < 64; ++t) {
    records.Set(t, {.mean = t == 5 ? kLargest : 1,
                    .std = 0,
                    .abs_mean = 1,
                    .min = 1,
                    .max = 1});
  }
  ExpectSummarised(records, records, 64);
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), nullptr));
  GRADTAP_ASSERT_OK(summarizer.Summarize(RollupStatistic::kL2, 64, &entries));
  EXPECT_EQ(entries[0].max, kLargest);
  EXPECT_EQ(entries[0].max_at, 5);
  EXPECT_EQ(entries[0].finite, 64);
}

TEST(RollupSummarizerTest, ARatioToNothingIsNotFinite) {
  Records records(2, 64);
  Records weights(2, 64);
  for (std::size_t i = 0; i < 128; ++i) {
    records.Set(i, {.mean = i < 64 ? 1.0f : 0.0f,
                    .std = 0,
                    .abs_mean = 1,
                    .min = 1,
                    .max = 1});
    weights.Set(i, {.mean = 0, .std = 0, .abs_mean = 0, .min = 0, .max = 0});
  }
  ExpectSummarised(records, weights, 64);
  const RecordColumns by = weights.columns();
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), &by));
  GRADTAP_ASSERT_OK(
      summarizer.Summarize(RollupStatistic::kRatio, 64, &entries));
  EXPECT_EQ(entries[0].nonfinite, 64);
  EXPECT_EQ(entries[0].first_nonfinite, kInf);
  EXPECT_EQ(BitsOf(entries[1].first_nonfinite), kAbsentBits);
}

TEST(RollupSummarizerTest, ARatioIsOfTheFiniteElementsOfEach) {
  const Record one = {.mean = 1, .std = 0, .abs_mean = 1, .min = 1, .max = 1};
  for (auto count : {&Record::nan, &Record::pos_inf, &Record::neg_inf}) {
    Record some = one;
    some.*count = 75;  // Of 100.
    for (const bool of_weights : {false, true}) {
      Records records(1, 64);
      Records weights(1, 64);
      for (std::size_t t = 0; t < 64; ++t) {
        records.Set(t, of_weights ? one : some);
        weights.Set(t, of_weights ? some : one);
      }
      const RecordColumns by = weights.columns();
      RollupSummarizer summarizer;
      std::vector<RollupEntry> entries;
      GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), &by));
      GRADTAP_ASSERT_OK(
          summarizer.Summarize(RollupStatistic::kRatio, 64, &entries));
      EXPECT_EQ(entries[0].max, of_weights ? 2 : 0.5f);
      GRADTAP_ASSERT_OK(
          summarizer.Summarize(RollupStatistic::kNonfinite, 64, &entries));
      EXPECT_EQ(entries[0].max, of_weights ? 0 : 75);
    }
  }
}

TEST(RollupSummarizerTest, WithoutAFiniteElementStoredFieldsAreNaN) {
  Records records(1, 2);
  records.numel = {3};
  const Record some = {.mean = 1, .std = 1, .abs_mean = 1, .min = 1, .max = 1};
  Record none = some;  // As no agent writes it.
  none.nan = 3;
  records.Set(0, some);
  records.Set(1, none);
  ExpectSummarised(records, records, 2);
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), nullptr));
  GRADTAP_ASSERT_OK(summarizer.Summarize(RollupStatistic::kMax, 2, &entries));
  EXPECT_EQ(entries[0].finite, 1);
  EXPECT_EQ(entries[0].nonfinite, 1);
}

TEST(RollupSummarizerTest, CountsThatAreNotGivenAreZero) {
  Random random(4);
  Records records = DrawRecords(3, 100, {5, 6, 7}, random);
  for (CountBlock* block : {&records.nan, &records.pos_inf, &records.neg_inf}) {
    block->values.assign(300, 0);
  }
  RecordColumns columns = records.columns();
  columns.nan = columns.pos_inf = columns.neg_inf = nullptr;
  RollupSummarizer with, without;
  GRADTAP_ASSERT_OK(with.Start(records.columns(), nullptr));
  GRADTAP_ASSERT_OK(without.Start(columns, nullptr));
  std::vector<RollupEntry> a, b;
  for (const RollupStatistic statistic : kRollupStatistics) {
    if (statistic == RollupStatistic::kRatio) continue;
    GRADTAP_ASSERT_OK(with.Summarize(statistic, 64, &a));
    GRADTAP_ASSERT_OK(without.Summarize(statistic, 64, &b));
    EXPECT_EQ(AllOf(a), AllOf(b));
  }
}

TEST(RollupSummarizerTest, ColumnsThatDoNotFitAreRefused) {
  const Records records(2, 10);
  const Records other(2, 11);
  RollupSummarizer summarizer;
  const auto refused = [&](const RecordColumns& of, const RecordColumns* by,
                           const std::string& why) {
    EXPECT_THAT(summarizer.Start(of, by),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  RecordColumns columns = records.columns();
  refused({}, nullptr, "records");
  columns.max = nullptr;
  refused(columns, nullptr, "records");
  columns.max = &other.max;
  refused(columns, nullptr, "records");
  columns = records.columns();
  columns.neg_inf = &other.neg_inf;
  refused(columns, nullptr, "records");
  columns = records.columns();
  columns.numel = columns.numel.first(1);
  refused(columns, nullptr, "records");
  const RecordColumns by = other.columns();
  refused(records.columns(), &by, "weights lacks or has another shape");
  Records larger = records;
  larger.numel[1] = 101;
  const RecordColumns by_larger = larger.columns();
  refused(records.columns(), &by_larger, "numel");
}

TEST(RollupSummarizerTest, WhatCannotBeSummarisedIsRefused) {
  const Records records(2, 10);
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), nullptr));
  EXPECT_THAT(summarizer.Summarize(RollupStatistic::kRatio, 64, &entries),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("without weights")));
  for (const std::uint32_t run : {0u, 65536u}) {
    EXPECT_THAT(summarizer.Summarize(RollupStatistic::kMean, run, &entries),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::to_string(run))));
  }
}

TEST(RollupSummarizerTest, ATensorWithoutElementsHasNoRatio) {
  Records records(1, 64);
  records.numel = {0};
  for (std::size_t t = 0; t < 64; ++t) {  // As no agent writes it.
    records.Set(t, {.mean = 1, .std = 1, .abs_mean = 1, .min = 1, .max = 1});
  }
  ExpectSummarised(records, records, 64);
  const RecordColumns by = records.columns();
  RollupSummarizer summarizer;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(summarizer.Start(records.columns(), &by));
  GRADTAP_ASSERT_OK(
      summarizer.Summarize(RollupStatistic::kRatio, 64, &entries));
  EXPECT_EQ(entries[0].nonfinite, 64);
}

// Counts that add up beyond 64 bits leave no finite element, as in core.
TEST(RollupSummarizerTest, CountsBeyondEverythingLeaveNoFiniteElement) {
  Records records(1, 3);
  Record r = {.mean = 1, .std = 1, .abs_mean = 1, .min = 1, .max = 1};
  r.nan = r.pos_inf = std::uint64_t{1} << 63;
  records.Set(0, r);
  r.pos_inf = (std::uint64_t{1} << 63) - 1;
  r.neg_inf = 2;
  records.Set(1, r);
  records.Set(2, r);
  ExpectSummarised(records, records, 3);
}

// Subnormal and tiny values, whose squares no float32 could hold.
TEST(RollupSummarizerTest, TheSmallestValuesHaveAnL2) {
  Records records(1, 64);
  records.numel = {4};
  for (std::size_t t = 0; t < 64; ++t) {
    const float value = kSmallest * static_cast<float>(t);
    records.Set(t, {.mean = value,
                    .std = 0,
                    .abs_mean = value,
                    .min = value,
                    .max = value});
  }
  ExpectSummarised(records, records, 64);
}

}  // namespace
}  // namespace gradtap::server
