// Which runs the agents of this process record.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_RUN_CLAIM_H_
#define GRADTAP_AGENT_RUN_CLAIM_H_

#include <string>

namespace gradtap::agent {

// That an agent records something, while this lives. Any thread; waits for the
// others that make or end one, no longer.
class RunClaim {
 public:
  // `what` tells a rank of a run at a collector from others.
  explicit RunClaim(std::string what);
  ~RunClaim();
  RunClaim(const RunClaim&) = delete;
  RunClaim& operator=(const RunClaim&) = delete;

  // Another one of the same lived when this one was made.
  bool shared() const { return shared_; }

 private:
  const std::string what_;
  bool shared_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_RUN_CLAIM_H_
