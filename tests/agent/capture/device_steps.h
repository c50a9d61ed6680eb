// Steps of a DeviceReducer, in short.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_STEPS_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_STEPS_H_

#include <torch/types.h>

#include <cmath>
#include <vector>

#include "agent/capture/device_reduce.h"
#include "core/record.h"

namespace gradtap::testing {

using agent::DeviceCopy;
using agent::DeviceReducer;

// The moments of one tensor in a step of its own.
inline Moments MomentsOfOne(DeviceReducer& reducer, const torch::Tensor& tensor,
                            double multiplier = 1) {
  reducer.Begin();
  const DeviceReducer::Ticket ticket = reducer.Add(tensor, multiplier);
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  return reducer.Result(ticket);
}

struct Weight {
  torch::Tensor tensor;
  DeviceCopy copy;
};

// One step; the mean of each update, NaN where there is none.
inline std::vector<double> UpdateMeans(DeviceReducer& reducer,
                                       std::vector<Weight*> weights) {
  reducer.Begin();
  std::vector<DeviceReducer::WeightTickets> tickets;
  for (Weight* const w : weights) {
    tickets.push_back(reducer.AddWeight(w->tensor, &w->copy));
  }
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  std::vector<double> means;
  for (const auto& t : tickets) {
    means.push_back(t.update == DeviceReducer::kNone
                        ? std::nan("")
                        : reducer.Result(t.update).mean);
  }
  return means;
}
}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_DEVICE_STEPS_H_
