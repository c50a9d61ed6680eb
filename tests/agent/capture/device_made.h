// Tensors of every type and layout on any device, and what DeviceReducer must
// make of them.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_MADE_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_MADE_H_

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "agent/capture/device_reduce.h"
#include "core/histogram.h"
#include "core/record.h"
#include "core/reference.h"
#include "core/tensors.h"

namespace gradtap::testing {

template <typename T>
constexpr c10::ScalarType TorchType() {
  if (std::is_same_v<T, kernel::Half>) return torch::kHalf;
  if (std::is_same_v<T, kernel::Bfloat16>) return torch::kBFloat16;
  if (std::is_same_v<T, kernel::Bool>) return torch::kBool;
  if (std::is_same_v<T, std::complex<float>>) return torch::kComplexFloat;
  if (std::is_same_v<T, std::complex<double>>) return torch::kComplexDouble;
  if (std::is_same_v<T, double>) return torch::kDouble;
  if (std::is_same_v<T, std::int8_t>) return torch::kChar;
  if (std::is_same_v<T, std::int16_t>) return torch::kShort;
  if (std::is_same_v<T, std::int32_t>) return torch::kInt;
  if (std::is_same_v<T, std::int64_t>) return torch::kLong;
  if (std::is_same_v<T, std::uint8_t>) return torch::kByte;
  return torch::kFloat;
}

using EveryType =
    ::testing::Types<float, double, kernel::Half, kernel::Bfloat16, std::int8_t,
                     std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                     kernel::Bool, std::complex<float>, std::complex<double>>;

// The elements in index order.
template <typename T>
std::vector<T> ElementsOf(const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor dense =
      tensor.detach().to(torch::kCPU).resolve_conj().contiguous();
  std::vector<T> all(static_cast<std::size_t>(dense.numel()));
  if (!all.empty()) {
    std::memcpy(static_cast<void*>(all.data()), dense.data_ptr(),
                all.size() * sizeof(T));
  }
  return all;
}

template <typename T>
torch::Tensor Draw1d(std::int64_t n, Values values, std::mt19937_64& random) {
  std::vector<T> drawn;
  for (std::int64_t i = 0; i < n; ++i) {
    drawn.push_back(Draw<T>(values, static_cast<std::size_t>(i), random));
    // LibTorch promises bools of 0 and 1 alone.
    if constexpr (std::is_same_v<T, kernel::Bool>) {
      drawn.back().byte = drawn.back().byte != 0;
    }
  }
  torch::Tensor t = torch::empty({n}, TorchType<T>());
  if (n > 0) {
    std::memcpy(t.data_ptr(), drawn.data(), drawn.size() * sizeof(T));
  }
  return t;
}

// A tensor of a few dimensions in one of the layouts that models have.
template <typename T>
torch::Tensor MakeOn(c10::Device device, Values values,
                     std::mt19937_64& random) {
  const auto size = [&] { return static_cast<std::int64_t>(random() % 9); };
  const std::int64_t a = size() + 1;
  const std::int64_t b = size() + 1;
  const std::int64_t c = size();
  const auto draw = [&](std::int64_t n) {
    return Draw1d<T>(n, values, random).to(device);
  };
  switch (random() % 8) {
    case 0:
      return draw(1).squeeze();
    case 1:
      return draw(a * b * c).view({a, b, c});
    case 2:
      return draw(a * b).view({a, b}).t();
    case 3:
      return draw(a * b * c).view({a, b, c}).permute({1, 2, 0});
    case 4:
      return draw(a * b * 3).view({a, b * 3}).slice(1, 1, b * 3, 3);
    case 5:
      return draw(a).view({a, 1}).expand({a, b});
    case 6:
      return draw(a * b * 2).view({a, 2, b}).select(1, 1).t();
    default:
      return draw(a * b * 11);
  }
}

// "" if `got` is within the bounds of what `elements` have.
inline std::string OutOfBoundsOf(const Moments& got,
                                 const std::vector<long double>& elements) {
  return OutOfBounds(ToRecord(got), ReferenceOf(elements));
}

inline BinCounts BinsOf(const std::vector<long double>& elements) {
  BinCounts bins{};
  for (const long double x : elements) ++bins[BinOf(static_cast<double>(x))];
  return bins;
}

// Two ways to reduce the same elements. They add up in different orders:
// `bound` is how far that may take them apart, relative to the elements.
inline void ExpectNearMoments(const Moments& got, const Moments& want,
                              double bound, const std::string& what) {
  EXPECT_EQ(got.finite, want.finite) << what;
  EXPECT_EQ(got.zero, want.zero) << what;
  EXPECT_EQ(got.nan, want.nan) << what;
  EXPECT_EQ(got.pos_inf, want.pos_inf) << what;
  EXPECT_EQ(got.neg_inf, want.neg_inf) << what;
  if (want.finite == 0) return;
  EXPECT_NEAR(got.min, want.min, 1e-12 * std::abs(want.min)) << what;
  EXPECT_NEAR(got.max, want.max, 1e-12 * std::abs(want.max)) << what;
  const auto std_of = [](const Moments& m) {
    return std::sqrt(m.m2 / static_cast<double>(m.finite));
  };
  EXPECT_NEAR(got.mean, want.mean, bound * want.abs_mean) << what;
  EXPECT_NEAR(got.abs_mean, want.abs_mean, bound * want.abs_mean) << what;
  EXPECT_NEAR(std_of(got), std_of(want),
              bound * (std_of(want) + 1e-3 * want.abs_mean) + 1e-45)
      << what;
}

// Tensors of type T on `device`, all of them in one step, with histograms.
template <typename T>
void CheckMoments(c10::Device device, Values values, std::uint64_t seed,
                  agent::DeviceReducer& reducer) {
  std::mt19937_64 random(seed);
  std::vector<torch::Tensor> tensors;
  for (int i = 0; i < 12; ++i) {
    tensors.push_back(MakeOn<T>(device, values, random));
  }
  // Some of the same number of elements.
  for (int i = 0; i < 4; ++i) {
    tensors.push_back(Draw1d<T>(8, values, random).view({2, 4}).to(device));
  }
  std::vector<agent::DeviceReducer::Ticket> tickets;
  reducer.Begin(/*histograms=*/true);
  for (const auto& t : tensors) tickets.push_back(reducer.Add(t));
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto exact = ExactAll(ElementsOf<T>(tensors[i]));
    EXPECT_EQ(OutOfBoundsOf(reducer.Result(tickets[i]), exact), "")
        << tensors[i].toString() << " of " << tensors[i].sizes() << " seed "
        << seed << " values " << static_cast<int>(values);
    BinCounts bins{};
    ASSERT_TRUE(reducer.AddBins(tickets[i], &bins));
    EXPECT_EQ(bins, BinsOf(exact)) << tensors[i].toString() << " seed " << seed;
  }
}

// Weights that change from step to step, each compared with its copy.
template <typename T>
void CheckUpdates(c10::Device device, Values values, std::uint64_t seed,
                  agent::DeviceReducer& reducer) {
  std::mt19937_64 random(seed);
  std::vector<torch::Tensor> tensors;
  while (tensors.size() < 10) {
    torch::Tensor t = MakeOn<T>(device, values, random);
    if (t.is_non_overlapping_and_dense()) tensors.push_back(t);
  }
  torch::Tensor wide = Draw1d<T>(30, values, random).to(device);
  tensors.push_back(wide.view({5, 6}).slice(1, 0, 6, 2));
  std::vector<agent::DeviceCopy> copies(tensors.size());
  std::vector<std::vector<T>> before;
  for (int step = 0; step < 3; ++step) {
    std::vector<agent::DeviceReducer::WeightTickets> tickets;
    reducer.Begin(true);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tickets.push_back(reducer.AddWeight(tensors[i], &copies[i]));
    }
    reducer.Launch();
    ASSERT_FALSE(reducer.out_of_memory());
    reducer.Send();
    reducer.Wait();
    std::vector<std::vector<T>> now;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      now.push_back(ElementsOf<T>(tensors[i]));
      const std::string what =
          tensors[i].toString() + " seed " + std::to_string(seed);
      EXPECT_EQ(
          OutOfBoundsOf(reducer.Result(tickets[i].weight), ExactAll(now[i])),
          "")
          << what;
      EXPECT_TRUE(copies[i].valid);
      EXPECT_EQ(tickets[i].update != agent::DeviceReducer::kNone, step > 0);
      if (step == 0) continue;
      const auto exact = Differences(now[i], before[i]);
      EXPECT_EQ(OutOfBoundsOf(reducer.Result(tickets[i].update), exact), "")
          << what;
      BinCounts bins{};
      ASSERT_TRUE(reducer.AddBins(tickets[i].update, &bins));
      EXPECT_EQ(bins, BinsOf(exact)) << what;
    }
    before = std::move(now);
    for (torch::Tensor& t : tensors) {
      if (t.numel() == 0 || random() % 4 == 0) continue;  // As it is.
      t.copy_(Draw1d<T>(t.numel(), values, random).view(t.sizes()));
    }
  }
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_MADE_H_
