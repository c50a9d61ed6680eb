// Beside the agent's own session: what dead processes have left on this host is
// delivered in their names, one after the other; but for what is for another
// collector.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_ADOPTER_H_
#define GRADTAP_AGENT_DELIVERY_ADOPTER_H_

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "agent/delivery/leftover.h"
#include "agent/delivery/leftover_drive.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/transport.h"
#include "agent/spool/syscalls.h"
#include "core/clock.h"

namespace gradtap::agent {

struct AdopterOptions {
  // Of the spools, and of the rings; each may be empty.
  std::string root;
  std::string ring_folder;
  std::string collector;  // What is for it, or for any, is delivered.
  TransportFactory make_transport;
  // Looks at once, and then so often.
  std::chrono::milliseconds interval = std::chrono::minutes(5);
  Syscalls* syscalls = RealSyscalls();
  std::function<double()> uniform = nullptr;  // In [0, 1); null: at random.
};

// [Threading] One thread, the delivery thread. Waits for the disk, not for the
// network.
class Adopter {
 public:
  Adopter(AdopterOptions options, OnceLog* log, const Clock* clock);

  // Does a little: of a large spool no more than a segment is read, some 10 ms.
  // `collector_is_there`: something may be begun. What is thrown below ends the
  // adopter, and not its caller.
  void Poll(bool collector_is_there);
  // At once, but for 0.1 s; what is not delivered stays where it is. Nothing is
  // begun any more.
  void LetGo();

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  void DoALittle(bool collector_is_there);
  void Look(TimePoint now);
  void Open();
  bool LeftToOthers(const SpoolIdentity& identity);
  void NotOpened(const absl::Status& status);
  void Finish();
  void Say(const std::string& key, const std::string& what);

  const AdopterOptions options_;
  OnceLog* const log_;
  const Clock* const clock_;
  TimePoint look_at_;
  std::deque<LeftoverPlace> places_;  // To be tried.
  // Folders and files that are not tried again: in vain, or for others.
  std::set<std::string> hopeless_;
  std::set<std::string> others_;  // Collectors; said.
  // Rings that are not tried before these spools of theirs can be seen.
  std::map<std::string, std::string> unseen_;
  std::string opening_path_;
  std::unique_ptr<Leftover::Opening> opening_;
  std::unique_ptr<Leftover> leftover_;
  std::unique_ptr<LeftoverDrive> drive_;  // Ends before it.
  int said_ = 0;
  bool let_go_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_ADOPTER_H_
