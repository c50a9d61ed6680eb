// Random models against LibTorch in float64.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/recorder.h"
#include "core/histogram.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::AsDoubles;
using ::gradtap::testing::ExpectRecordOf;
using ::gradtap::testing::Recorder;

const std::vector<torch::ScalarType> kTypes = {
    torch::kFloat32,  torch::kFloat64,      torch::kFloat16,
    torch::kBFloat16, torch::kInt8,         torch::kInt16,
    torch::kInt32,    torch::kInt64,        torch::kUInt8,
    torch::kBool,     torch::kComplexFloat, torch::kComplexDouble};

// Now and then large enough to be cut into chunks.
std::vector<std::int64_t> RandomShape() {
  if (*rc::gen::inRange(0, 10) == 0) {
    return {*rc::gen::inRange<std::int64_t>(150, 300),
            *rc::gen::inRange<std::int64_t>(200, 500)};
  }
  return *rc::gen::resize(6, rc::gen::container<std::vector<std::int64_t>>(
                                 rc::gen::inRange<std::int64_t>(0, 7)));
}

torch::Tensor Values(torch::IntArrayRef shape, torch::ScalarType type) {
  torch::Tensor t = torch::randn(shape, torch::kFloat64);
  const int kind = *rc::gen::inRange(0, 6);
  if (kind == 0) t = t * 1e-3 + 1000;  // A mean far from zero.
  if (kind == 1) t = torch::full_like(t, 0.25);
  if (kind == 2) t.mul_(torch::randn(shape, torch::kFloat64).mul_(9).exp_());
  if (kind == 3 && t.numel() > 0) {
    t.view({-1})[0] = 0.0 / 0.0;
    t.view({-1})[t.numel() - 1] = -1.0 / 0.0;
    t.view({-1})[t.numel() / 2] = 0.0;
  }
  const bool integral = c10::isIntegralType(type, /*includeBool=*/true);
  if (integral) t = torch::randint(0, 100, shape, torch::kFloat64);
  return t.to(type);
}

// The shape is the argument's; the strides are anyone's.
torch::Tensor Lay(const torch::Tensor& tensor) {
  const int how = *rc::gen::inRange(0, 5);
  const std::int64_t dims = tensor.dim();
  if (how == 1 && dims >= 2) {  // Permuted.
    std::vector<std::int64_t> order(static_cast<std::size_t>(dims));
    std::vector<std::int64_t> back(order.size());
    for (std::size_t d = 0; d < order.size(); ++d) {
      order[d] = static_cast<std::int64_t>(d);
    }
    const int turn = *rc::gen::inRange(1, static_cast<int>(dims));
    std::rotate(order.begin(), order.begin() + turn, order.end());
    for (std::size_t d = 0; d < order.size(); ++d) {
      back[static_cast<std::size_t>(order[d])] = static_cast<std::int64_t>(d);
    }
    return tensor.permute(order).contiguous().permute(back);
  }
  if (how == 2 && dims >= 1) {  // Every second or third, from an offset on.
    std::vector<std::int64_t> shape = tensor.sizes().vec();
    const std::int64_t step = *rc::gen::inRange(1, 4);
    shape.back() = shape.back() * step + 3;
    torch::Tensor wide = torch::ones(shape, tensor.options());
    torch::Tensor view =
        wide.slice(dims - 1, 2, 2 + tensor.size(dims - 1) * step, step);
    view.copy_(tensor);
    return view;
  }
  if (how == 3 && dims >= 1 && tensor.size(0) > 0) {  // Expanded.
    return tensor.slice(0, 0, 1).expand(tensor.sizes());
  }
  return tensor;
}

torch::Tensor Sparse(torch::IntArrayRef shape, torch::ScalarType type) {
  const std::int64_t entries = *rc::gen::inRange(0, 20);
  const std::vector<std::int64_t> value_shape = {entries, shape[1]};
  const torch::Tensor sparse = torch::sparse_coo_tensor(
      torch::randint(0, shape[0], {1, entries}, torch::kInt64),
      torch::randn(value_shape).to(type), shape);
  return *rc::gen::arbitrary<bool>() ? sparse.coalesce() : sparse;
}

torch::Tensor Wide(const torch::Tensor& tensor) {
  return tensor.detach()
      .to(tensor.is_complex() ? torch::kComplexDouble : torch::kFloat64)
      .clone();
}

struct Before {
  torch::Tensor values;
  std::vector<std::int64_t> strides;
};

void CheckHistogram(Recorder* recorder, const std::string& name, Role role,
                    const torch::Tensor& values, const std::string& what) {
  BinCounts want{};
  const torch::Tensor x = values.contiguous();
  const double* const data = x.data_ptr<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) ++want[BinOf(data[i])];
  const auto all = recorder->Histograms(name, role);
  ASSERT_EQ(all.size(), 1u) << what;
  BinCounts got{};
  for (std::size_t i = 0; i < all[0].bin.size(); ++i) {
    got[all[0].bin[i]] = all[0].count[i];
  }
  EXPECT_EQ(got, want) << what;
}

// One step of all that is in `recorder`, against LibTorch.
void CheckStep(Recorder* recorder, std::int64_t step, double multiplier,
               std::map<std::string, Before>* before) {
  for (const Parameter& p : recorder->capture().schema().parameters) {
    const torch::Tensor& tensor = recorder->tensor(p.name);
    for (const Role role : p.roles) {
      const std::string what = "step " + std::to_string(step) + " " + p.name +
                               " role " +
                               std::to_string(static_cast<int>(role));
      torch::Tensor values;
      if (role == Role::kGrad) {
        torch::Tensor gradient = tensor.grad();
        if (gradient.defined() && gradient.is_sparse()) {
          gradient = gradient.coalesce().to_dense();
        }
        if (gradient.defined()) {
          // Not of complex ones: infinity times (m + 0i) has a NaN part.
          values = AsDoubles(Wide(gradient)) *
                   (gradient.is_complex() ? std::abs(multiplier) : multiplier);
        }
      } else if (role == Role::kUpdate) {
        // A copy in another order is of no use.
        if (step > 0 && before->at(p.name).strides == tensor.strides()) {
          values = AsDoubles(Wide(tensor) - before->at(p.name).values);
        }
      } else {
        values = AsDoubles(tensor);
      }
      const auto record = recorder->Get(p.name, role);
      ASSERT_EQ(record.has_value(), values.defined()) << what;
      if (!record.has_value()) continue;
      ExpectRecordOf(values, *record, what);
      // Magnitudes of float parts are rounded in LibTorch as they are here,
      // but not always to the same side of a power of two.
      if (!tensor.is_complex() && step % 2 == 0) {
        CheckHistogram(recorder, p.name, role, values, what);
      }
    }
    (*before)[p.name] = {Wide(tensor), tensor.strides().vec()};
  }
}

void AddRandom(Recorder* recorder, int index) {
  const std::string name = "p" + std::to_string(index);
  const torch::ScalarType type = *rc::gen::elementOf(kTypes);
  const std::vector<std::int64_t> shape = RandomShape();
  torch::Tensor& tensor =
      recorder->Add(name, Lay(Values(shape, type)),
                    /*buffer=*/*rc::gen::inRange(0, 5) == 0);
  const bool differentiable =
      c10::isFloatingType(type) || c10::isComplexType(type);
  if (!differentiable || *rc::gen::inRange(0, 5) == 0) return;
  torch::Tensor gradient = Lay(Values(shape, type));
  if (shape.size() == 2 && shape[0] > 0 && *rc::gen::arbitrary<bool>()) {
    gradient = Sparse(shape, type);
  }
  tensor.unsafeGetTensorImpl()->mutable_grad() = gradient;
}

RC_GTEST_PROP(CaptureProperty, RecordsOfRandomModelsAreLibTorchs, ()) {
  torch::manual_seed(*rc::gen::arbitrary<std::uint32_t>());
  const gradtap::testing::Threads pool(*rc::gen::inRange(1, 5));
  CaptureOptions options;
  options.histogram_interval_steps = 2;
  Recorder recorder(std::move(options));
  const int count = *rc::gen::inRange(1, 12);
  for (int i = 0; i < count; ++i) AddRandom(&recorder, i);
  if (*rc::gen::inRange(0, 4) == 0) {  // Enough for the pool.
    recorder.Add("ballast", torch::randn({1 << 19}), /*buffer=*/true);
  }
  const double multiplier = *rc::gen::element(1.0, 0.125, -3.0);
  recorder.capture().SetGradientMultiplier(multiplier);
  std::map<std::string, Before> before;
  for (std::int64_t step = 0; step < 3; ++step) {
    recorder.Step(step);
    CheckStep(&recorder, step, multiplier, &before);
    if (::testing::Test::HasFailure()) RC_FAIL("see above");
    for (int i = 0; i < count; ++i) {
      torch::Tensor& t = recorder.tensor("p" + std::to_string(i));
      if (*rc::gen::arbitrary<bool>()) continue;
      // In place where a tensor may be written so; else another storage.
      t.set_data(t.is_floating_point() ? t * 1.01 : t.clone());
    }
  }
  RC_ASSERT(recorder.reports.empty());
}

}  // namespace
}  // namespace gradtap::agent
