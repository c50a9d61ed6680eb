// One process's way to the collector: a Transport over simulated calls.
//
// Also the place of the mutants that falsify what an agent sends or hears, and
// of the check that no batch goes beyond the credit.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_TRANSPORT_H_
#define GRADTAP_TESTS_SIM_SIM_TRANSPORT_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/delivery/transport.h"
#include "sim/call.h"
#include "sim/mutant.h"
#include "sim/world.h"

namespace gradtap::sim {

// Wait() does not wait. It must outlive its calls, and thus lives as long as
// the simulation; the code under test gets a Lend() of it.
class SimTransport : public agent::Transport,
                     public AgentEnd,
                     public std::enable_shared_from_this<SimTransport> {
 public:
  using ConnectFn = std::function<std::shared_ptr<Call>(SimTransport*)>;

  // `wake` is called when Wait() has something. `partitioned`: cut off from the
  // collector at the moment.
  SimTransport(World* world, std::string name, Mutant mutant, ConnectFn connect,
               std::function<void()> wake, const bool* partitioned)
      : world_(world),
        name_(std::move(name)),
        mutant_(mutant),
        connect_(std::move(connect)),
        wake_(std::move(wake)),
        partitioned_(partitioned) {}

  std::unique_ptr<agent::Transport> Lend();

  // ---- Transport
  void Connect() override;
  void Send(const v1::AgentMessage& message) override;
  void HalfClose() override { call_->HalfClose(); }
  void Cancel() override;
  std::optional<agent::TransportEvent> Wait(
      std::chrono::steady_clock::time_point) override;
  void Abandon(std::chrono::steady_clock::time_point) override { Close(); }

  // ---- AgentEnd
  void OnConnected(Call* call) override;
  void OnSent(Call* call) override;
  void OnMessage(Call* call, const v1::CollectorMessage& message) override;
  void OnClosed(Call* call, const absl::Status& status) override;

  // The process is gone, and its socket with it.
  void Close();

  bool has_event() const { return !events_.empty(); }
  bool closed() const { return closed_; }
  bool partitioned() const { return *partitioned_; }
  Call* call() const { return call_.get(); }

 private:
  struct Flight {
    std::uint64_t last_seq = 0;
    std::uint64_t bytes = 0;
  };

  bool Current(const Call* call) const {
    return !closed_ && call == call_.get();
  }
  void Post(Call* call, agent::TransportEvent event);
  void SendBatch(v1::AgentMessage message);
  void Falsify(v1::Batch* batch) const;
  void CheckCredit(const v1::Batch& batch);
  void NoteCredit(const v1::CollectorMessage& message);

  World* const world_;
  const std::string name_;
  const Mutant mutant_;
  const ConnectFn connect_;
  const std::function<void()> wake_;
  const bool* const partitioned_;
  bool closed_ = false;

  std::shared_ptr<Call> call_;
  std::uint64_t calls_ = 0;
  std::uint64_t batches_in_call_ = 0;
  struct Arrived {
    Call* call;
    agent::TransportEvent event;
  };
  std::deque<Arrived> events_;

  // What the collector allows, by what has been heard.
  std::uint64_t credit_ = 0;
  std::deque<Flight> flights_;
  std::uint64_t flying_bytes_ = 0;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_TRANSPORT_H_
