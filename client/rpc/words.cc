#include "client/rpc/words.h"

namespace gradtap::client {

std::string_view StateWord(v1::RunState state) {
  switch (state) {
    case v1::RUN_STATE_RUNNING:
      return "running";
    case v1::RUN_STATE_FINISHED:
      return "finished";
    case v1::RUN_STATE_STOPPED:
      return "stopped";
    case v1::RUN_STATE_LOST:
      return "lost";
    default:
      return "unknown";
  }
}

std::string_view CauseWord(v1::GapCause cause) {
  switch (cause) {
    case v1::GAP_CAUSE_INTERVAL:
      return "interval";
    case v1::GAP_CAUSE_BUDGET:
      return "budget";
    case v1::GAP_CAUSE_LOOP:
      return "loop";
    case v1::GAP_CAUSE_OPTIMIZER_THREW:
      return "optimizer_threw";
    case v1::GAP_CAUSE_AUDIT:
      return "audit";
    case v1::GAP_CAUSE_RING_FULL:
      return "ring_full";
    case v1::GAP_CAUSE_SPOOL_FULL:
      return "spool_full";
    case v1::GAP_CAUSE_THINNED:
      return "thinned";
    case v1::GAP_CAUSE_IO_ERROR:
      return "io_error";
    case v1::GAP_CAUSE_UNSUPPORTED:
      return "unsupported";
    case v1::GAP_CAUSE_CAPTURE_ERROR:
      return "capture_error";
    case v1::GAP_CAUSE_FORK:
      return "fork";
    case v1::GAP_CAUSE_REJECTED:
      return "rejected";
    case v1::GAP_CAUSE_SHUTDOWN:
      return "shutdown";
    case v1::GAP_CAUSE_PROCESS_DIED:
      return "process_died";
    case v1::GAP_CAUSE_RUN_DELETED:
      return "run_deleted";
    case v1::GAP_CAUSE_ROLLED_UP:
      return "rolled_up";
    default:
      return "unknown";
  }
}

std::string_view KindWord(v1::Kind kind) {
  switch (kind) {
    case v1::KIND_PARAMETER:
      return "parameter";
    case v1::KIND_BUFFER:
      return "buffer";
    default:
      return "unknown";
  }
}

std::string_view PlacementWord(v1::Placement placement) {
  switch (placement) {
    case v1::PLACEMENT_REPLICATED:
      return "replicated";
    case v1::PLACEMENT_SHARDED:
      return "sharded";
    default:
      return "unknown";
  }
}

std::string_view RoleWord(v1::Role role) {
  switch (role) {
    case v1::ROLE_WEIGHT:
      return "weight";
    case v1::ROLE_GRAD:
      return "grad";
    case v1::ROLE_GRAD_LOCAL:
      return "grad_local";
    case v1::ROLE_UPDATE:
      return "update";
    case v1::ROLE_BUFFER:
      return "buffer";
    default:
      return "unknown";
  }
}

std::optional<v1::Role> RoleOfWord(std::string_view word) {
  for (const v1::Role role :
       {v1::ROLE_WEIGHT, v1::ROLE_GRAD, v1::ROLE_GRAD_LOCAL, v1::ROLE_UPDATE,
        v1::ROLE_BUFFER}) {
    if (word == RoleWord(role)) return role;
  }
  return std::nullopt;
}

bool HasEnded(v1::RunState state) {
  return state == v1::RUN_STATE_FINISHED || state == v1::RUN_STATE_STOPPED;
}

}  // namespace gradtap::client
