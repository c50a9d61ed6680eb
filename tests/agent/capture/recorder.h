// A capture of hand-made tensors, and what it says about them.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_RECORDER_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_RECORDER_H_

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/capture/reference.h"
#include "support/status_matchers.h"

namespace gradtap::testing {

// Keeps the tensors, steps through them without an optimizer, finds records by
// name.
class Recorder {
 public:
  explicit Recorder(agent::CaptureOptions options = {})
      : options_(std::move(options)) {
    options_.report = [this](const std::string& m) { reports.push_back(m); };
  }

  // Before the first step. The tensor is used as it is, whatever its layout.
  torch::Tensor& Add(const std::string& name, torch::Tensor tensor,
                     bool buffer = false) {
    names_.push_back({name, buffer});
    return tensors_.emplace_back(std::move(tensor));
  }

  torch::Tensor& tensor(const std::string& name) {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (names_[i].first == name) return tensors_[i];
    }
    throw std::out_of_range(name);
  }

  agent::Capture& capture() {
    if (capture_ == nullptr) {
      std::vector<NamedTensor> named;
      for (std::size_t i = 0; i < tensors_.size(); ++i) {
        named.emplace_back(names_[i].first, tensors_[i], names_[i].second);
      }
      capture_ = agent::Capture::OfTensors(named, std::move(options_));
    }
    return *capture_;
  }

  void Step(std::int64_t step) {
    GRADTAP_ASSERT_OK(capture().BeginStep(step));
    GRADTAP_ASSERT_OK(capture().ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture().ReduceWeights());
  }

  const Parameter* Find(const std::string& name) {
    for (const Parameter& p : capture().schema().parameters) {
      if (p.name == name) return &p;
    }
    return nullptr;
  }

  // -1: it has no such role.
  std::int64_t PlaceOf(const std::string& name, Role role) {
    std::int64_t place = 0;
    for (const Parameter& p : capture().schema().parameters) {
      if (p.name == name) return p.HasRole(role) ? place : -1;
      place += p.HasRole(role);
    }
    return -1;
  }

  // Nothing: absent. It is a failure if there is no such role.
  std::optional<Record> Get(const std::string& name, Role role) {
    const std::int64_t place = PlaceOf(name, role);
    EXPECT_GE(place, 0) << name;
    for (const RoleColumns& columns : capture().step().roles) {
      if (columns.role != role || place < 0) continue;
      const auto p = static_cast<std::size_t>(place);
      if (columns.absent.at(p) != 0) return std::nullopt;
      return columns.Get(p);
    }
    return std::nullopt;
  }

  // All histograms of a record; one at most is right.
  std::vector<HistogramData> Histograms(const std::string& name, Role role) {
    std::vector<HistogramData> all;
    for (const HistogramData& h : capture().step().histograms) {
      if (h.role == role && PlaceOf(name, role) == std::int64_t{h.place}) {
        all.push_back(h);
      }
    }
    return all;
  }

  std::vector<std::string> reports;

 private:
  agent::CaptureOptions options_;
  std::deque<torch::Tensor> tensors_;  // Capture is given references.
  std::vector<std::pair<std::string, bool>> names_;
  std::unique_ptr<agent::Capture> capture_;
};

// Sets the pool's size while it lives.
class Threads {
 public:
  explicit Threads(int threads) : before_(at::get_num_threads()) {
    at::set_num_threads(threads);
  }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  const int before_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_RECORDER_H_
