#include "agent/capture/device_step.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {

void DeviceStep::Begin(bool histograms) {
  reducer_.Begin(histograms);
  arrived_ = false;
  Drop();
  scalars_.clear();
}

void DeviceStep::Drop() {
  for (std::vector<Ticket>& tickets : tickets_) tickets.clear();
}

void DeviceStep::Drop(Role role) {
  tickets_[static_cast<std::size_t>(role)].clear();
}

void DeviceStep::Drop(Role role, const std::vector<std::uint8_t>& places) {
  std::vector<Ticket>& tickets = tickets_[static_cast<std::size_t>(role)];
  const std::size_t n = std::min(tickets.size(), places.size());
  for (std::size_t p = 0; p < n; ++p) {
    if (places[p] != 0) tickets[p] = DeviceReducer::kNone;
  }
}

void DeviceStep::Put(Role role, std::int32_t place, Ticket ticket) {
  if (place < 0) return;
  std::vector<Ticket>& tickets = tickets_[static_cast<std::size_t>(role)];
  const auto p = static_cast<std::size_t>(place);
  if (p >= tickets.size()) tickets.resize(p + 1, DeviceReducer::kNone);
  tickets[p] = ticket;
}

DeviceStep::Ticket DeviceStep::TicketAt(Role role, std::size_t place) const {
  const std::vector<Ticket>& tickets = tickets_[static_cast<std::size_t>(role)];
  return place < tickets.size() ? tickets[place] : DeviceReducer::kNone;
}

void DeviceStep::Add(Role role, std::int32_t place, const at::Tensor& tensor,
                     double multiplier) {
  Put(role, place, reducer_.Add(tensor, multiplier));
}

bool DeviceStep::AddWeight(std::int32_t weight_place, std::int32_t update_place,
                           const at::Tensor& tensor, DeviceCopy* copy) {
  const DeviceReducer::WeightTickets tickets = reducer_.AddWeight(tensor, copy);
  Put(Role::kWeight, weight_place, tickets.weight);
  if (tickets.update == DeviceReducer::kNone) return false;
  Put(Role::kUpdate, update_place, tickets.update);
  return true;
}

void DeviceStep::AddScalar(const at::Tensor& tensor, std::size_t index) {
  scalars_.emplace_back(index, reducer_.AddScalar(tensor));
}

bool DeviceStep::Launch() {
  reducer_.Launch();
  if (!reducer_.out_of_memory()) return true;
  Drop(Role::kUpdate);
  return false;
}

void DeviceStep::FillBins(HistogramData* histogram, Ticket ticket) {
  bins_.fill(0);
  if (!reducer_.AddBins(ticket, &bins_)) return;
  histogram->bin.clear();
  histogram->count.clear();
  for (std::uint32_t bin = 0; bin < kBinCount; ++bin) {
    if (bins_[bin] == 0) continue;
    histogram->bin.push_back(bin);
    histogram->count.push_back(bins_[bin]);
  }
}

void DeviceStep::Wait() {
  if (!reducer_.pending()) return;
  reducer_.Wait();
  arrived_ = true;
}

void DeviceStep::Finish(StepData* step) {
  Wait();
  if (!std::exchange(arrived_, false)) return;
  for (RoleColumns& columns : step->roles) {
    for (std::size_t p = 0; p < columns.size(); ++p) {
      const Ticket ticket = TicketAt(columns.role, p);
      if (ticket == DeviceReducer::kNone) continue;
      columns.Set(p, ToRecord(reducer_.Result(ticket)));
    }
  }
  for (HistogramData& histogram : step->histograms) {
    const Ticket ticket = TicketAt(histogram.role, histogram.place);
    if (ticket != DeviceReducer::kNone) FillBins(&histogram, ticket);
  }
  for (const auto& [index, ticket] : scalars_) {
    if (index < step->scalars.size()) {
      step->scalars[index].value = reducer_.Scalar(ticket);
    }
  }
}

}  // namespace gradtap::agent
