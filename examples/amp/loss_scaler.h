// A dynamic loss scaler, as mixed precision training has one.
//
// Layer: examples. One thread.

#ifndef GRADTAP_EXAMPLES_AMP_LOSS_SCALER_H_
#define GRADTAP_EXAMPLES_AMP_LOSS_SCALER_H_

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace examples {

// The loss is multiplied by a scale, so that small gradients do not vanish in
// float16, and gradients are divided by it before the optimizer sees them. If
// one has overflowed, the step is to be skipped and the scale is halved; after
// `growth_interval` steps without that it is doubled.
class LossScaler {
 public:
  explicit LossScaler(double scale, std::int64_t growth_interval = 200)
      : scale_(scale), growth_interval_(growth_interval) {}

  double scale() const { return scale_; }

  // Divides the gradients by the scale. False if one is not finite.
  bool Unscale(const std::vector<torch::Tensor>& parameters);

  // The step is over: sets the next one's scale.
  void Update();

 private:
  double scale_;
  const std::int64_t growth_interval_;
  std::int64_t good_steps_ = 0;
  bool overflowed_ = false;
};

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_AMP_LOSS_SCALER_H_
