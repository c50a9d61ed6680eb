#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/histogram_slots.h"
#include "agent/capture/recorder.h"
#include "core/histogram.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::AsDoubles;
using ::gradtap::testing::Recorder;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Bins = std::map<std::uint32_t, std::uint64_t>;

// `values` is of AsDoubles().
Bins BinsOf(const torch::Tensor& values) {
  Bins bins;
  const torch::Tensor x = values.contiguous();
  const double* const data = x.data_ptr<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) ++bins[BinOf(data[i])];
  return bins;
}

Bins BinsOf(const HistogramData& histogram) {
  EXPECT_TRUE(std::is_sorted(histogram.bin.begin(), histogram.bin.end()));
  EXPECT_EQ(histogram.bin.size(), histogram.count.size());
  Bins bins;
  for (std::size_t i = 0; i < histogram.bin.size(); ++i) {
    EXPECT_GT(histogram.count[i], 0u);
    bins[histogram.bin[i]] += histogram.count[i];
  }
  EXPECT_EQ(bins.size(), histogram.bin.size());
  return bins;
}

CaptureOptions Every(std::int64_t steps) {
  CaptureOptions options;
  options.histogram_interval_steps = steps;
  return options;
}

torch::Tensor Hard(torch::IntArrayRef shape) {
  torch::Tensor t = torch::randn(shape) * torch::randn(shape).exp();
  torch::Tensor flat = t.view({-1});
  const float special[] = {0.0f,        -0.0f,  1.0f / 0.0f, -1.0f / 0.0f,
                           0.0f / 0.0f, 1e-45f, -1e-40f,     3.4e38f,
                           -3.4e38f,    1e-38f};
  for (std::int64_t i = 0; i < std::min<std::int64_t>(10, t.numel()); ++i) {
    flat[i * t.numel() / 10] = special[i];
  }
  return t;
}

TEST(HistogramCaptureTest, EveryRecordHasTheBinsOfItsElements) {
  torch::manual_seed(3);
  for (const int threads : {1, 2}) {
    const gradtap::testing::Threads pool(threads);
    Recorder recorder(Every(1));
    const auto add = [&](const std::string& name, torch::Tensor weight,
                         torch::Tensor gradient) {
      recorder.Add(name, weight).mutable_grad() = gradient;
    };
    add("plain", Hard({50}), Hard({50}));
    add("large", Hard({200'000}), Hard({200'000}));
    add("sliced", Hard({400, 700}).slice(1, 0, 700, 3), Hard({400, 234}));
    add("expanded", Hard({1, 30}).expand({9, 30}), Hard({9, 30}));
    add("half", Hard({90'000}).to(torch::kFloat16),
        Hard({90'000}).to(torch::kFloat16));
    add("double", Hard({300}).to(torch::kFloat64) * 1e30,
        Hard({300}).to(torch::kFloat64));
    add("complex", torch::randn({80}, torch::kComplexFloat),
        torch::randn({80}, torch::kComplexFloat));
    add("scalar", torch::tensor(2.0f), torch::tensor(0.0f));
    add("empty", torch::zeros({0}), torch::zeros({0}));
    add("sparse", Hard({100, 3}),
        torch::sparse_coo_tensor(torch::tensor({{5, 7, 5}}), Hard({3, 3}),
                                 {100, 3}));
    recorder.Add("counts", torch::arange(70'000), /*buffer=*/true);
    std::map<std::string, torch::Tensor> before;
    for (std::int64_t step = 0; step < 3; ++step) {
      recorder.Step(step);
      std::size_t expected = 0;
      for (const Parameter& p : recorder.capture().schema().parameters) {
        const torch::Tensor& tensor = recorder.tensor(p.name);
        for (const Role role : p.roles) {
          const std::string what = p.name + " " +
                                   std::to_string(static_cast<int>(role)) +
                                   " step " + std::to_string(step);
          const auto all = recorder.Histograms(p.name, role);
          if (role == Role::kUpdate && step == 0) {
            EXPECT_THAT(all, IsEmpty()) << what;
            continue;
          }
          ++expected;
          ASSERT_THAT(all, SizeIs(1)) << what;
          torch::Tensor values = tensor;
          if (role == Role::kGrad) values = tensor.grad();
          if (values.is_sparse()) values = values.coalesce();
          if (role == Role::kUpdate) {
            const auto wide =
                tensor.is_complex() ? torch::kComplexDouble : torch::kFloat64;
            values = tensor.to(wide) - before.at(p.name).to(wide);
          }
          EXPECT_EQ(BinsOf(all[0]), BinsOf(AsDoubles(values))) << what;
        }
        before[p.name] = tensor.clone();
      }
      EXPECT_THAT(recorder.capture().step().histograms, SizeIs(expected));
      if (step == 0) {
        recorder.tensor("large").mul_(1.5);
        recorder.tensor("half").add_(0.25);
        recorder.tensor("double").mul_(-2);
        recorder.tensor("complex").mul_(3);
      }
    }
  }
}

TEST(HistogramCaptureTest, OnlyStepsOfTheIntervalHaveThem) {
  Recorder recorder(Every(10));
  recorder.Add("w", torch::ones({3}));
  for (const std::int64_t step : {0, 1, 9, 10, 11, 25, 30}) {
    recorder.Step(step);
    EXPECT_EQ(recorder.capture().step().histograms.empty(), step % 10 != 0);
  }
  Recorder none;
  none.Add("w", torch::ones({3}));
  none.Step(0);
  EXPECT_THAT(none.capture().step().histograms, IsEmpty());
}

TEST(HistogramCaptureTest, AbsentRecordsHaveNone) {
  Recorder recorder(Every(1));
  recorder.Add("w", torch::ones({3}));
  recorder.Step(0);
  EXPECT_THAT(recorder.Histograms("w", Role::kGrad), IsEmpty());
  EXPECT_THAT(recorder.Histograms("w", Role::kUpdate), IsEmpty());
  EXPECT_THAT(recorder.Histograms("w", Role::kWeight), SizeIs(1));
}

TEST(HistogramCaptureTest, GradientsReducedAgainReplaceTheirs) {
  Recorder recorder(Every(1));
  recorder.Add("w", torch::ones({3})).mutable_grad() = torch::ones({3});
  Capture& capture = recorder.capture();
  recorder.Step(0);
  GRADTAP_ASSERT_OK(capture.BeginStep(1));
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGradLocal));
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
  recorder.tensor("w").mutable_grad() = torch::full({3}, 4.0f);
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
  GRADTAP_ASSERT_OK(capture.ReduceWeights());
  const auto grad = recorder.Histograms("w", Role::kGrad);
  ASSERT_THAT(grad, SizeIs(1));
  EXPECT_EQ(BinsOf(grad[0]), (Bins{{BinOf(4), 3}}));
  const auto local = recorder.Histograms("w", Role::kGradLocal);
  ASSERT_THAT(local, SizeIs(1));
  EXPECT_EQ(BinsOf(local[0]), (Bins{{BinOf(1), 3}}));
}

TEST(HistogramCaptureTest, TheMultiplierIsInTheBins) {
  Recorder recorder(Every(1));
  recorder.Add("w", torch::ones({2})).mutable_grad() =
      torch::full({2}, 1024.0f);
  recorder.Add("s", torch::ones({9})).mutable_grad() = torch::sparse_coo_tensor(
      torch::tensor({{4, 4}}), torch::tensor({512.0f, 512.0f}), {9});
  recorder.capture().SetGradientMultiplier(1.0 / 1024);
  recorder.Step(0);
  EXPECT_EQ(BinsOf(recorder.Histograms("w", Role::kGrad).at(0)),
            (Bins{{BinOf(1), 2}}));
  EXPECT_EQ(BinsOf(recorder.Histograms("s", Role::kGrad).at(0)),
            (Bins{{kBinZero, 8}, {BinOf(1), 1}}));
}

TEST(HistogramSlotsTest, NoMoreThanTheLimitAreHandedOut) {
  std::vector<HistogramData> histograms;
  HistogramSlots slots(&histograms);
  slots.Begin(true);
  slots.MakeRoom(kMaxStepHistograms + 100);
  std::size_t taken = 0;
  for (std::size_t i = 0; i < kMaxStepHistograms + 100; ++i) {
    taken += slots.Take(Role::kGrad, static_cast<std::int32_t>(i)) != nullptr;
  }
  EXPECT_EQ(taken, kMaxStepHistograms);
  EXPECT_EQ(histograms.size(), kMaxStepHistograms);
}

TEST(HistogramSlotsTest, VectorsAreUsedAgainByTheSameRecord) {
  std::vector<HistogramData> histograms;
  HistogramSlots slots(&histograms);
  std::vector<const void*> where;
  for (int round = 0; round < 3; ++round) {
    slots.Begin(round != 1);
    slots.MakeRoom(10);
    EXPECT_EQ(slots.Take(Role::kGrad, 0) == nullptr, round == 1);
    if (round == 1) continue;
    HistogramData* const wide = slots.Take(Role::kGrad, 1);
    ASSERT_NE(wide, nullptr);
    wide->bin.resize(300);
    where.push_back(wide->bin.data());
  }
  EXPECT_EQ(where[0], where[1]);
}

}  // namespace
}  // namespace gradtap::agent
