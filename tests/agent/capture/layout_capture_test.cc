#include <ATen/ops/_neg_view.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/recorder.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::AsDoubles;
using ::gradtap::testing::ExpectRecordOf;
using ::gradtap::testing::Recorder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LayoutCaptureTest, AnUpdateAcrossOtherStridesIsAbsentAndTheNextIsRight) {
  torch::manual_seed(1);
  Recorder recorder;
  torch::Tensor& w = recorder.Add("w", torch::randn({300, 400}));
  recorder.Add("other", torch::randn({5}));
  recorder.Step(0);
  recorder.Step(1);
  ASSERT_TRUE(recorder.Get("w", Role::kUpdate).has_value());
  // The same elements at the same places, in another order of memory.
  w.set_data(w.t().contiguous().t());
  recorder.Step(2);
  EXPECT_FALSE(recorder.Get("w", Role::kUpdate).has_value());
  EXPECT_TRUE(recorder.Get("other", Role::kUpdate).has_value());
  ExpectRecordOf(AsDoubles(w), recorder.Get("w", Role::kWeight).value(), "w");
  w.add_(0.5);
  recorder.Step(3);
  EXPECT_NEAR(recorder.Get("w", Role::kUpdate).value().mean, 0.5, 1e-6);
}

TEST(LayoutCaptureTest, StridesThatChangeWithinTheStepCostTheUpdateAlone) {
  Recorder recorder;
  torch::Tensor& w = recorder.Add("w", torch::randn({30, 40}));
  Capture& capture = recorder.capture();
  recorder.Step(0);
  GRADTAP_ASSERT_OK(capture.BeginStep(1));
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
  w.set_data(w.t().contiguous().t() + 1);
  GRADTAP_ASSERT_OK(capture.ReduceWeights());
  EXPECT_FALSE(recorder.Get("w", Role::kUpdate).has_value());
  ExpectRecordOf(AsDoubles(w), recorder.Get("w", Role::kWeight).value(), "w");
  w.add_(1);
  recorder.Step(2);
  EXPECT_NEAR(recorder.Get("w", Role::kUpdate).value().mean, 1, 1e-6);
  // The same through KeepWeights().
  w.set_data(w.contiguous());
  capture.KeepWeights();
  w.add_(1);
  recorder.Step(3);
  EXPECT_NEAR(recorder.Get("w", Role::kUpdate).value().mean, 1, 1e-6);
}

TEST(LayoutCaptureTest, AnotherPlaceInTheSameStorageIsReadThere) {
  Recorder recorder;
  const torch::Tensor all = torch::arange(20, torch::kFloat32);
  torch::Tensor& w = recorder.Add("w", all.slice(0, 0, 4));
  recorder.Step(0);
  EXPECT_EQ(recorder.Get("w", Role::kWeight).value().max, 3);
  w.set_data(all.slice(0, 10, 14));
  recorder.Step(1);
  EXPECT_EQ(recorder.Get("w", Role::kWeight).value().max, 13);
  EXPECT_EQ(recorder.Get("w", Role::kUpdate).value().mean, 10);
}

TEST(LayoutCaptureTest, GradientsMayLieOtherwiseThanTheirParameter) {
  Recorder recorder;
  torch::Tensor& w = recorder.Add("w", torch::zeros({6, 50}));
  recorder.Add("v", torch::zeros({6, 50}).t());
  const torch::Tensor wide = torch::randn({6, 200});
  for (const torch::Tensor& gradient :
       {torch::randn({50, 6}).t(), wide.slice(1, 7, 157, 3),
        torch::randn({6, 1}).expand({6, 50}), torch::randn({6, 50}),
        torch::randn({1}).expand({6, 50}),
        torch::randn({6, 50}).to(torch::kFloat64)}) {
    w.unsafeGetTensorImpl()->mutable_grad() = gradient;
    recorder.Step(0);
    ExpectRecordOf(AsDoubles(gradient), recorder.Get("w", Role::kGrad).value(),
                   "gradient");
  }
}

TEST(LayoutCaptureTest, NegatedViewsAreUnsupportedAndNeverWrong) {
  Recorder recorder;
  recorder.Add("w", at::_neg_view(torch::ones({3})));
  recorder.Add("v", torch::ones({3})).mutable_grad() =
      at::_neg_view(torch::ones({3}));
  recorder.Step(0);
  EXPECT_THAT(recorder.Find("w")->unsupported_reason, HasSubstr("negation"));
  EXPECT_THAT(recorder.Find("v")->roles,
              ElementsAre(Role::kWeight, Role::kUpdate));
  EXPECT_THAT(recorder.reports, ElementsAre(HasSubstr("negation")));
}

TEST(LayoutCaptureTest, ConjugatesAreReadAndTheirCopyIsOfTheirKind) {
  Recorder recorder;
  const torch::Tensor plain = torch::randn({40}, torch::kComplexFloat);
  torch::Tensor& w = recorder.Add("w", plain.conj());
  ASSERT_TRUE(w.is_conj());
  w.mutable_grad() = torch::randn({40}, torch::kComplexFloat).conj();
  recorder.Step(0);
  recorder.Step(1);
  ExpectRecordOf(AsDoubles(plain.clone()),
                 recorder.Get("w", Role::kWeight).value(), "w");
  ExpectRecordOf(AsDoubles(w.grad().resolve_conj()),
                 recorder.Get("w", Role::kGrad).value(), "grad");
  EXPECT_EQ(recorder.Get("w", Role::kUpdate).value().zero, 40u);
  // The same memory, meant otherwise: the elements are not what they were.
  w.set_data(plain);
  ASSERT_FALSE(w.is_conj());
  recorder.Step(2);
  EXPECT_FALSE(recorder.Get("w", Role::kUpdate).has_value());
  recorder.Step(3);
  EXPECT_EQ(recorder.Get("w", Role::kUpdate).value().zero, 40u);
}

TEST(LayoutCaptureTest, MoreDimensionsThanFewAreRead) {
  Recorder recorder;
  torch::Tensor& w = recorder.Add(
      "w", torch::randn({2, 3, 2, 4, 3, 5, 2}).permute({6, 2, 0, 5, 1, 4, 3}));
  w.mutable_grad() = torch::randn({2, 2, 2, 5, 3, 3, 4});
  recorder.Step(0);
  w.add_(2);
  recorder.Step(1);
  ExpectRecordOf(AsDoubles(w), recorder.Get("w", Role::kWeight).value(), "w");
  ExpectRecordOf(AsDoubles(w.grad()), recorder.Get("w", Role::kGrad).value(),
                 "grad");
  EXPECT_NEAR(recorder.Get("w", Role::kUpdate).value().mean, 2, 1e-5);
  EXPECT_EQ(recorder.capture().schema().schema_id, 1u);
}

// Sparse gradients that cannot be read: said once, and nothing else is lost.
TEST(LayoutCaptureTest, ASparseGradientThatCannotBeReadCostsThatRoleOnly) {
  const torch::Tensor fine = torch::tensor({{1, 1}});
  const torch::Tensor values = torch::ones({2, 3});
  const std::vector<std::pair<std::string, torch::Tensor>> cases = {
      {"index 9 is out of range",
       at::_sparse_coo_tensor_unsafe(torch::tensor({{1, 9}}), values, {4, 3})},
      {"index -1 is out of range",
       at::_sparse_coo_tensor_unsafe(torch::tensor({{-1, 0}}), values, {4, 3})},
      {"complex_half",
       at::_sparse_coo_tensor_unsafe(
           fine, torch::zeros({2, 3}, torch::kComplexHalf), {4, 3})},
  };
  for (const auto& [why, gradient] : cases) {
    Recorder recorder;
    recorder.Add("w", torch::ones({4, 3})).mutable_grad() = gradient;
    recorder.Add("v", torch::ones({2})).mutable_grad() = torch::ones({2});
    for (std::int64_t step = 0; step < 3; ++step) {
      recorder.Step(step);
      EXPECT_THAT(recorder.Find("w")->roles,
                  ElementsAre(Role::kWeight, Role::kUpdate));
      EXPECT_EQ(recorder.Get("v", Role::kGrad).value().mean, 1) << why;
    }
    EXPECT_THAT(recorder.reports, ElementsAre(HasSubstr(why)));
  }
}

TEST(LayoutCaptureTest, SparseGradientsOfNegatedValuesAreRightIfRecorded) {
  Recorder recorder;
  recorder.Add("w", torch::ones({4, 3})).mutable_grad() =
      at::_sparse_coo_tensor_unsafe(torch::tensor({{1, 1}}),
                                    at::_neg_view(torch::ones({2, 3})), {4, 3});
  recorder.Step(0);
  if (recorder.PlaceOf("w", Role::kGrad) < 0) {
    EXPECT_THAT(recorder.reports, ElementsAre(HasSubstr("negation")));
    return;
  }
  EXPECT_EQ(recorder.Get("w", Role::kGrad).value().min, -2);
}

TEST(LayoutCaptureTest, AGradientLostAfterTheLocalOnesIsAbsentInThatStep) {
  Recorder recorder;
  torch::Tensor& w = recorder.Add("w", torch::ones({2, 2}));
  torch::Tensor& v = recorder.Add("v", torch::ones({2}));
  w.mutable_grad() = torch::full({2, 2}, 3.0f);
  v.mutable_grad() = torch::ones({2});
  Capture& capture = recorder.capture();
  GRADTAP_ASSERT_OK(capture.BeginStep(0));
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGradLocal));
  w.unsafeGetTensorImpl()->mutable_grad() = torch::eye(2).to_sparse_csr();
  recorder.Step(0);
  EXPECT_FALSE(recorder.Get("w", Role::kGrad).has_value());
  EXPECT_EQ(recorder.Get("w", Role::kGradLocal).value().mean, 3);
  EXPECT_EQ(recorder.Get("v", Role::kGrad).value().mean, 1);
  recorder.Step(1);
  EXPECT_EQ(recorder.PlaceOf("w", Role::kGrad), -1);
  EXPECT_EQ(recorder.Get("v", Role::kGrad).value().mean, 1);
  EXPECT_THAT(recorder.reports, ElementsAre(HasSubstr("sparse_csr")));
}

TEST(LayoutCaptureTest, SparseBooleansAtOnePlaceAreTrueIfOneIs) {
  Recorder recorder;
  recorder.Add(
      "mask",
      torch::sparse_coo_tensor(torch::tensor({{1, 1, 2}}),
                               torch::tensor({true, true, false}), {5}),
      /*buffer=*/true);
  recorder.Step(0);
  const Record record = recorder.Get("mask", Role::kBuffer).value();
  EXPECT_FLOAT_EQ(record.mean, 0.2f);
  EXPECT_EQ(record.zero, 4u);
}

TEST(LayoutCaptureTest, WhatIsRecordedOfGradientsIsMultiplied) {
  Recorder recorder;
  const torch::Tensor gradient = torch::randn({500}) * 65536;
  recorder.Add("w", torch::ones({500})).mutable_grad() = gradient;
  recorder.Add("half", torch::ones({500}))
      .unsafeGetTensorImpl()
      ->mutable_grad() = gradient.to(torch::kFloat16);
  const torch::Tensor sparse = torch::sparse_coo_tensor(
      torch::tensor({{3, 8, 3}}), torch::randn({3, 2}) * 65536, {90, 2});
  recorder.Add("sparse", torch::ones({90, 2})).mutable_grad() = sparse;
  recorder.capture().SetGradientMultiplier(-1.0 / 65536);
  Capture& capture = recorder.capture();
  GRADTAP_ASSERT_OK(capture.BeginStep(0));
  GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGradLocal));
  recorder.Step(0);
  for (const Role role : {Role::kGrad, Role::kGradLocal}) {
    const auto expect = [&](const char* name, const torch::Tensor& g) {
      ExpectRecordOf(AsDoubles(g) / -65536, recorder.Get(name, role).value(),
                     name);
    };
    expect("w", gradient);
    expect("half", gradient.to(torch::kFloat16));
    expect("sparse", sparse.coalesce());
  }
  EXPECT_EQ(recorder.Get("w", Role::kWeight).value().mean, 1);
  capture.SetGradientMultiplier(1);
  recorder.Step(1);
  ExpectRecordOf(AsDoubles(gradient), recorder.Get("w", Role::kGrad).value(),
                 "after");
}

void AddEveryLayout(Recorder& recorder) {
  const auto add = [&](const std::string& name, torch::Tensor weight,
                       torch::Tensor gradient) {
    recorder.Add(name, weight).mutable_grad() = gradient;
  };
  for (int i = 0; i < 20; ++i) {
    add("small" + std::to_string(i), torch::randn({64}), torch::randn({64}));
  }
  add("large", torch::randn({300'000}), torch::randn({300'000}));
  add("strided", torch::randn({40, 60}).t(), torch::randn({60, 40}));
  add("expanded", torch::randn({1, 60}).expand({9, 60}), torch::randn({9, 60}));
  add("half", torch::randn({70}).to(torch::kFloat16), {});
  add("empty", torch::zeros({0, 3}), torch::zeros({0, 3}));
  add("scalar", torch::tensor(3.0f), {});
  add("sparse", torch::zeros({50, 2}),
      torch::sparse_coo_tensor(torch::tensor({{4, 9, 4}}), torch::randn({3, 2}),
                               {50, 2}));
  recorder.Add("ticks", torch::arange(5), /*buffer=*/true);
}

// Each with whether it is absent.
using Records = std::vector<std::pair<Record, bool>>;

// Those of a step; of a histogram its place, sum and number of bins.
void AppendRecords(const StepData& step, Records* records) {
  for (const RoleColumns& columns : step.roles) {
    for (std::size_t p = 0; p < columns.size(); ++p) {
      records->emplace_back(columns.Get(p), columns.absent[p] != 0);
    }
  }
  for (const HistogramData& h : step.histograms) {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : h.count) sum += count;
    Record bins;
    bins.zero = sum;
    bins.nan = h.bin.size();
    bins.mean = bins.std = bins.abs_mean = bins.min = bins.max = h.place;
    records->emplace_back(bins, false);
  }
}

void ExpectNearRecords(const Records& all_got, const Records& all_want) {
  ASSERT_EQ(all_got.size(), all_want.size());
  for (std::size_t i = 0; i < all_got.size(); ++i) {
    const auto& [got, got_absent] = all_got[i];
    const auto& [want, want_absent] = all_want[i];
    EXPECT_EQ(got_absent, want_absent) << i;
    EXPECT_EQ(got.zero, want.zero) << i;
    EXPECT_EQ(got.nan, want.nan) << i;
    const auto near = [&](float a, float b, float scale) {
      gradtap::testing::ExpectNear(a, b, 2e-6 * scale, std::to_string(i));
    };
    near(got.abs_mean, want.abs_mean, want.abs_mean);
    near(got.mean, want.mean, want.abs_mean);
    near(got.std, want.std, want.std + want.abs_mean);
    near(got.min, want.min, std::abs(want.min));
    near(got.max, want.max, std::abs(want.max));
  }
}

TEST(LayoutCaptureTest, TheOtherDevicesPathAgreesWithTheKernels) {
  torch::manual_seed(9);
  std::map<bool, Records> found;
  for (const bool device : {false, true}) {
    torch::manual_seed(9);
    CaptureOptions options;
    options.force_device_path = device;
    options.histogram_interval_steps = 1;
    Recorder recorder(std::move(options));
    AddEveryLayout(recorder);
    Capture& capture = recorder.capture();
    for (std::int64_t step = 0; step < 3; ++step) {
      GRADTAP_ASSERT_OK(capture.BeginStep(step));
      GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
      capture.step().scalars.assign(2, {"x", -1});
      EXPECT_EQ(capture.LaterScalar(torch::tensor(2.5f), 1), device);
      EXPECT_FALSE(capture.LaterScalar(torch::ones({2}), 0));
      EXPECT_FALSE(capture.LaterScalar(torch::Tensor(), 0));
      GRADTAP_ASSERT_OK(capture.ReduceWeights());
      EXPECT_EQ(capture.deferred(), device);
      recorder.tensor("large").add_(0.25);  // Must not be seen any more.
      GRADTAP_ASSERT_OK(capture.FinishStep());
      EXPECT_FALSE(capture.deferred());
      EXPECT_EQ(capture.step().scalars[1].value, device ? 2.5 : -1);
      EXPECT_EQ(capture.step().scalars[0].value, -1);
      AppendRecords(capture.step(), &found[device]);
    }
    EXPECT_GT(capture.weight_copy_bytes(), 4u * 300'000);
    EXPECT_THAT(recorder.reports, IsEmpty());
    capture.ForgetWeights();
    recorder.Step(3);
    GRADTAP_ASSERT_OK(capture.FinishStep());
    EXPECT_FALSE(recorder.Get("large", Role::kUpdate).has_value());
    recorder.tensor("large").add_(1);
    capture.KeepWeights();
    recorder.Step(4);
    GRADTAP_ASSERT_OK(capture.FinishStep());
    EXPECT_EQ(recorder.Get("large", Role::kUpdate).value().zero, 300'000u);
  }
  ExpectNearRecords(found[true], found[false]);
}

TEST(LayoutCaptureTest, AnotherDevicesMalformedGradientCostsThatRoleOnly) {
  CaptureOptions options;
  options.force_device_path = true;
  Recorder recorder(std::move(options));
  recorder.Add("w", torch::ones({4, 3})).mutable_grad() =
      at::_sparse_coo_tensor_unsafe(torch::tensor({{1, 1}}, torch::kInt64),
                                    torch::ones({2, 3}), {4, 3});
  recorder.Add("v", torch::ones({2})).mutable_grad() = torch::ones({2});
  recorder.Add("csr", torch::ones({2, 2}))
      .unsafeGetTensorImpl()
      ->mutable_grad() = torch::eye(2).to_sparse_csr();
  for (std::int64_t step = 0; step < 2; ++step) {
    recorder.Step(step);
    GRADTAP_ASSERT_OK(recorder.capture().FinishStep());
    EXPECT_EQ(recorder.Get("v", Role::kGrad).value().mean, 1);
    EXPECT_EQ(recorder.Get("w", Role::kGrad).value().max, 2);
    EXPECT_EQ(recorder.PlaceOf("csr", Role::kGrad), -1);
  }
  EXPECT_THAT(recorder.reports, ElementsAre(HasSubstr("sparse_csr")));
}

}  // namespace
}  // namespace gradtap::agent
