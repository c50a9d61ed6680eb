#include "integration/reference.h"

#include <cmath>
#include <limits>

namespace gradtap::testing {

Statistics StatisticsOf(const torch::Tensor& tensor) {
  torch::NoGradGuard no_grad;
  const torch::Tensor all = tensor.detach().to(torch::kDouble).reshape({-1});
  const torch::Tensor x = all.masked_select(all.isfinite());
  const double n = static_cast<double>(x.numel());
  const double numel = static_cast<double>(all.numel());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto value = [](const torch::Tensor& t) { return t.item<double>(); };
  const auto count = [&](const torch::Tensor& mask) {
    return value(mask.sum().to(torch::kDouble));
  };
  Statistics s;
  const bool any = n > 0;
  s["mean"] = any ? value(x.mean()) : nan;
  s["std"] = any ? value(x.std(/*unbiased=*/false)) : nan;
  s["abs_mean"] = any ? value(x.abs().mean()) : nan;
  s["min"] = any ? value(x.min()) : nan;
  s["max"] = any ? value(x.max()) : nan;
  s["zero"] = count(all.eq(0));
  s["nan"] = count(all.isnan());
  s["pos_inf"] = count(all.isposinf());
  s["neg_inf"] = count(all.isneginf());
  s["l2"] = any ? value(x.norm(2)) : 0;
  s["l1"] = any ? value(x.norm(1)) : 0;
  s["sum"] = any ? value(x.sum()) : 0;
  s["rms"] = any ? std::sqrt(value(x.pow(2).mean())) : nan;
  s["abs_max"] = any ? value(x.abs().max()) : nan;
  s["variance"] = any ? value(x.var(/*unbiased=*/false)) : nan;
  s["zero_fraction"] = numel > 0 ? s["zero"] / numel : nan;
  s["nonfinite"] = numel - n;
  s["finite_fraction"] = numel > 0 ? n / numel : nan;
  return s;
}

double Tolerance(const std::string& field, const Statistics& s) {
  constexpr double kRelative = 1e-6;
  const double tiny = std::ldexp(1.0, -149);
  const double n = s.at("finite_fraction") > 0
                       ? s.at("l1") / std::max(s.at("abs_mean"), tiny)
                       : 1;
  const double std_bound =
      kRelative * s.at("std") + 1e-9 * std::abs(s.at("mean")) + tiny;
  if (field == "mean") return kRelative * s.at("abs_mean") + tiny;
  if (field == "sum") return kRelative * s.at("l1") + tiny * (n + 1);
  if (field == "std") return std_bound;
  if (field == "variance") {
    return std_bound * (2 * s.at("std") + std_bound);
  }
  if (field == "l1") return kRelative * s.at("l1") + tiny * (n + 1);
  if (field == "l2") return kRelative * s.at("l2") + tiny * std::sqrt(n + 1);
  if (field == "rms" || field == "abs_mean" || field == "min" ||
      field == "max" || field == "abs_max") {
    return kRelative * std::abs(s.at(field)) + tiny;
  }
  return 0;  // Counts and their quotients are exact.
}

}  // namespace gradtap::testing
