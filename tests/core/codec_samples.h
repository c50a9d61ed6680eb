// Records that exercise every field, for the codec's tests.

#ifndef GRADTAP_TESTS_CORE_CODEC_SAMPLES_H_
#define GRADTAP_TESTS_CORE_CODEC_SAMPLES_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/histogram.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::testing {

inline std::string Encoded(const StepData& step) {
  std::string bytes(EncodedStepSize(step), '?');
  EncodeStep(step, {bytes.data(), bytes.size()});
  return bytes;
}

// A column with special values; the counts are sparse or dense.
inline RoleColumns SampleColumns(Role role, std::size_t size,
                                 std::mt19937_64& random) {
  using Limits = std::numeric_limits<float>;
  const std::vector<float> specials = {
      0.0f,
      -0.0f,
      Limits::infinity(),
      -Limits::infinity(),
      Limits::max(),
      Limits::lowest(),
      Limits::denorm_min(),
      std::bit_cast<float>(0x7fc01234u)};  // NaN with a payload.
  RoleColumns columns;
  columns.role = role;
  columns.Resize(size);
  const std::uint64_t density = random() % 3 == 0 ? 2 : 40;
  const auto number = [&] {
    return random() % 4 == 0 ? specials[random() % specials.size()]
                             : static_cast<float>(random()) * 1e-10f;
  };
  const auto count = [&]() -> std::uint64_t {
    if (random() % density != 0) return 0;
    return (random() >> (random() % 64)) | 1;
  };
  for (std::size_t i = 0; i < size; ++i) {
    if (random() % 5 == 0) {
      columns.SetAbsent(i);
      continue;
    }
    columns.Set(i, {number(), number(), number(), number(), number(), count(),
                    count(), count(), count()});
  }
  return columns;
}

inline StepData SampleStep(std::mt19937_64& random) {
  constexpr Role kRoles[] = {Role::kWeight, Role::kGrad, Role::kGradLocal,
                             Role::kUpdate, Role::kBuffer};
  StepData step;
  step.step = static_cast<std::int64_t>(random() >> (random() % 64));
  step.wall_time_unix_ns = static_cast<std::int64_t>(random());
  step.schema_id = static_cast<std::uint32_t>(random() >> (32 + random() % 32));
  step.interval_steps = static_cast<std::uint32_t>(random() % 3);
  for (const Role role : kRoles) {
    if (random() % 3 != 0) {
      step.roles.push_back(SampleColumns(role, random() % 70, random));
    }
  }
  for (std::uint64_t i = random() % 4; i > 0; --i) {
    step.scalars.push_back({"scalar-" + std::to_string(i) + "-\xc3\xa9",
                            std::bit_cast<double>(random())});
    if (random() % 3 == 0) step.scalars.back().value = 0;
  }
  for (const RoleColumns& columns : step.roles) {
    if (columns.size() == 0 || random() % 2 == 0) continue;
    HistogramData histogram;
    histogram.role = columns.role;
    histogram.place = static_cast<std::uint32_t>(random() % columns.size());
    for (std::uint32_t bin = 0; bin < 527; ++bin) {
      if (!IsBin(bin) || random() % 60 != 0) continue;
      histogram.bin.push_back(bin);
      // Together they fit 63 bits.
      histogram.count.push_back((random() >> (11 + random() % 53)) | 1);
    }
    step.histograms.push_back(histogram);
  }
  if (step.roles.empty()) {
    step.skipped = GapCause::kLoop;
    if (random() % 2 == 0) step.skipped_detail = "scaler: \xe2\x88\x9e";
  }
  return step;
}

inline Schema SampleSchema() {
  Schema schema;
  schema.schema_id = 3;
  Parameter a;
  a.name = "layers.0.weight";
  a.kind = Kind::kParameter;
  a.module_path = "layers.0";
  a.module_type = "Linear";
  a.dtype = "float32";
  a.shape = {128, 0, 1, std::int64_t{1} << 40};
  a.device = "cuda:0";
  a.layout = "strided";
  a.requires_grad = true;
  a.numel = ~std::uint64_t{0};
  a.bytes = std::uint64_t{1} << 63;
  a.aliases = {"head.weight", "tied.\xf0\x9f\x94\xa5"};
  a.placement = Placement::kSharded;
  a.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
  schema.parameters.push_back(a);
  Parameter b;
  b.name = "num_batches_tracked";
  b.kind = Kind::kBuffer;
  b.dtype = "int64";
  b.numel = 1;
  b.bytes = 8;
  b.roles = {Role::kBuffer};
  schema.parameters.push_back(b);
  Parameter c;
  c.name = "meta";
  c.unsupported_reason = "a meta tensor has no data";
  schema.parameters.push_back(c);
  schema.fingerprint = FingerprintOf(schema.parameters);
  schema.optimizers = {"torch::optim::AdamW", "Lion"};
  return schema;
}

// Equal bit for bit.
inline bool SameStep(const StepData& a, const StepData& b) {
  const auto same_floats = [](const std::vector<float>& x,
                              const std::vector<float>& y) {
    if (x.size() != y.size()) return false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::bit_cast<std::uint32_t>(x[i]) !=
          std::bit_cast<std::uint32_t>(y[i])) {
        return false;
      }
    }
    return true;
  };
  if (a.step != b.step || a.wall_time_unix_ns != b.wall_time_unix_ns ||
      a.schema_id != b.schema_id || a.interval_steps != b.interval_steps ||
      a.skipped != b.skipped || a.skipped_detail != b.skipped_detail ||
      a.roles.size() != b.roles.size() ||
      a.scalars.size() != b.scalars.size() ||
      a.histograms.size() != b.histograms.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.roles.size(); ++i) {
    const RoleColumns& x = a.roles[i];
    const RoleColumns& y = b.roles[i];
    if (x.role != y.role || !same_floats(x.mean, y.mean) ||
        !same_floats(x.std, y.std) || !same_floats(x.abs_mean, y.abs_mean) ||
        !same_floats(x.min, y.min) || !same_floats(x.max, y.max) ||
        x.zero != y.zero || x.nan != y.nan || x.pos_inf != y.pos_inf ||
        x.neg_inf != y.neg_inf || x.absent != y.absent) {
      return false;
    }
  }
  for (std::size_t i = 0; i < a.scalars.size(); ++i) {
    if (a.scalars[i].name != b.scalars[i].name ||
        std::bit_cast<std::uint64_t>(a.scalars[i].value) !=
            std::bit_cast<std::uint64_t>(b.scalars[i].value)) {
      return false;
    }
  }
  for (std::size_t i = 0; i < a.histograms.size(); ++i) {
    const HistogramData& x = a.histograms[i];
    const HistogramData& y = b.histograms[i];
    if (x.role != y.role || x.place != y.place || x.bin != y.bin ||
        x.count != y.count) {
      return false;
    }
  }
  return true;
}

inline bool SameParameter(const Parameter& a, const Parameter& b) {
  return a.name == b.name && a.kind == b.kind &&
         a.module_path == b.module_path && a.module_type == b.module_type &&
         a.dtype == b.dtype && a.shape == b.shape && a.device == b.device &&
         a.layout == b.layout && a.requires_grad == b.requires_grad &&
         a.numel == b.numel && a.bytes == b.bytes && a.aliases == b.aliases &&
         a.placement == b.placement && a.roles == b.roles &&
         a.unsupported_reason == b.unsupported_reason;
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_CORE_CODEC_SAMPLES_H_
