// A step's named numbers, from what the loop handed over.
//
// Layer: agent. This file: std, core.

#ifndef GRADTAP_AGENT_SCALARS_H_
#define GRADTAP_AGENT_SCALARS_H_

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/include/gradtap/agent.h"
#include "core/limits.h"
#include "core/step_data.h"

namespace gradtap::agent {

// One thread at a time. Allocates only when names differ from the last step's.
class ScalarFiller {
 public:
  static constexpr std::size_t kMaxScalars = kMaxStepScalars - kAgentScalars;

  using Report = std::function<void(const std::string& message)>;
  // True if the tensor's value will be written to (*to)[index] later.
  using Later =
      std::function<bool(const at::Tensor& tensor, std::size_t index)>;

  // Sets `*to` to the scalars whose values can be had, with safe and unique
  // names. Reports those left out: a tensor that is not one element, or is on
  // another device and `later` (may be null) does not take it; a name that is
  // there already or begins with "agent.", one over kMaxScalars.
  void Fill(std::span<const Scalar> from, const Report& report,
            const Later& later, std::vector<ScalarValue>* to);

  // True if the last Fill() set one of this name.
  bool Has(std::string_view name, const std::vector<ScalarValue>& in) const;

  // Sets the scalar after those of Fill(), and after earlier ones. Names here
  // are literals of ours.
  void Append(const char* name, double value, std::vector<ScalarValue>* to);
  // Cuts what was there before Fill().
  void Finish(std::vector<ScalarValue>* to) { to->resize(size_); }

 private:
  struct Name {
    std::string given;
    std::string safe;
    std::string refusal;  // Empty: it is used.
  };

  bool SameNames(std::span<const Scalar> from) const;
  void TakeNames(std::span<const Scalar> from);
  ScalarValue* Next(std::vector<ScalarValue>* to);

  std::vector<Name> names_;
  std::size_t size_ = 0;  // Set so far.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SCALARS_H_
