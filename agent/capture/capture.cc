#include "agent/capture/capture.h"

#include <torch/version.h>

#include <cmath>
#include <exception>
#include <limits>
#include <utility>

#include "agent/capture/module_walk.h"
#include "agent/capture/parameter_table.h"
#include "agent/capture/step_capture.h"
#include "agent/capture/tensor_view.h"
#include "core/kernel.h"

namespace gradtap::agent {

std::unique_ptr<Capture> Capture::OfModules(std::vector<NamedModule> modules,
                                            CaptureOptions options) {
  return std::make_unique<StepCapture>(
      [modules = std::move(modules)] {
        std::vector<FoundTensor> found;
        for (const NamedModule& m : modules) {
          WalkModule(m.prefix(), m.module(), &found);
        }
        return found;
      },
      std::move(options));
}

std::unique_ptr<Capture> Capture::OfTensors(
    const std::vector<NamedTensor>& tensors, CaptureOptions options) {
  std::vector<FoundTensor> found;
  found.reserve(tensors.size());
  for (const NamedTensor& t : tensors) {
    // "encoder.weight" of a script module belongs to "encoder".
    const std::size_t dot = t.name().rfind('.');
    found.push_back(
        {t.name(), dot == std::string::npos ? "" : t.name().substr(0, dot), "",
         t.buffer() ? Kind::kBuffer : Kind::kParameter, t.tensor()});
  }
  return std::make_unique<StepCapture>(
      [found = std::move(found)] { return found; }, std::move(options));
}

std::vector<Parameter> ListParameters(const torch::nn::Module& model,
                                      const NameFilter& filter) {
  std::vector<FoundTensor> found;
  WalkModule("", model, &found);
  TableRules rules;
  rules.filter = &filter;
  rules.roles = {false, false, false, false};
  return BuildTable(std::move(found), rules).parameters;
}

absl::StatusOr<double> ReadScalar(const at::Tensor& tensor) noexcept {
  try {
    const std::string reason = UnsupportedReason(tensor);
    if (!reason.empty()) return absl::InvalidArgumentError(reason);
    if (!tensor.unsafeGetTensorImpl()->is_cpu()) {
      return absl::InvalidArgumentError(
          "it is on device " + tensor.unsafeGetTensorImpl()->device().str());
    }
    if (tensor.layout() != c10::Layout::Strided) {
      return absl::InvalidArgumentError("it is sparse");
    }
    if (tensor.numel() != 1) {
      return absl::InvalidArgumentError(
          "it has " + std::to_string(tensor.numel()) + " elements, not one");
    }
    const Moments m = Reduce(ViewOf(tensor));
    constexpr double kInf = std::numeric_limits<double>::infinity();
    if (m.finite == 1) return m.mean;
    if (m.nan == 1) return std::numeric_limits<double>::quiet_NaN();
    return m.pos_inf == 1 ? kInf : -kInf;
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  } catch (...) {
    return absl::InternalError("an unknown exception");
  }
}

std::string TorchVersion() { return TORCH_VERSION; }

}  // namespace gradtap::agent
