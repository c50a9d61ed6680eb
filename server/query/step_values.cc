#include "server/query/step_values.h"

#include <memory>
#include <system_error>
#include <thread>

#include "server/store/tile/tile.h"

namespace gradtap::server {
namespace {

// A thread costs as much as some two blocks take to decode.
constexpr std::size_t kWorthAThread = 32 * kTileParameters;

class Evaluation {
 public:
  Evaluation(const SchemaIndex& index,
             const std::vector<std::size_t>& parameters,
             const std::vector<const Statistic*>& statistics,
             const StepHistograms* histograms,
             std::vector<std::optional<Value>>* values)
      : index_(index),
        parameters_(parameters),
        statistics_(statistics),
        histograms_(histograms),
        values_(*values) {
    values_.resize(parameters.size() * statistics.size());
  }

  // Of parameters_[begin, end).
  void Fill(const StoredStep& step, std::size_t begin, std::size_t end) {
    std::size_t at = begin * statistics_.size();
    for (std::size_t i = begin; i < end; ++i) {
      for (const Statistic* statistic : statistics_) {
        values_[at++] = Evaluate(*statistic, step,
                                 index_.places()[parameters_[i]], histograms_);
      }
    }
  }

 private:
  const SchemaIndex& index_;
  const std::vector<std::size_t>& parameters_;
  const std::vector<const Statistic*>& statistics_;
  const StepHistograms* const histograms_;
  std::vector<std::optional<Value>>& values_;
};

}  // namespace

std::size_t MiddleOf(const std::vector<std::size_t>& parameters) {
  std::size_t i = parameters.size() / 2;
  while (i > 0 && i < parameters.size() &&
         parameters[i] / kTileParameters ==
             parameters[i - 1] / kTileParameters) {
    ++i;
  }
  return i;
}

absl::Status EvaluateStep(const StoredStep& step, const SchemaIndex& index,
                          const std::vector<std::size_t>& parameters,
                          const std::vector<const Statistic*>& statistics,
                          const StepHistograms* histograms,
                          std::vector<std::optional<Value>>* values) {
  Evaluation evaluation(index, parameters, statistics, histograms, values);
  const std::size_t all = parameters.size();
  const std::shared_ptr<const StoredStep> other =
      all < kWorthAThread || !step.in_window()
          ? nullptr
          : step.In(step.window()->Clone());
  if (other == nullptr) {
    evaluation.Fill(step, 0, all);
    return step.status();
  }
  const std::size_t middle = MiddleOf(parameters);
  std::thread thread;
  try {
    thread = std::thread([&] { evaluation.Fill(*other, middle, all); });
  } catch (const std::system_error&) {  // Too many threads: alone, then.
    evaluation.Fill(*other, middle, all);
  }
  evaluation.Fill(step, 0, middle);
  if (thread.joinable()) thread.join();
  return step.status().ok() ? other->status() : step.status();
}

}  // namespace gradtap::server
