// Enumerators of the wire as people read them.
//
// Layer: client/rpc. Pure functions; any thread may call them. An enumerator
// that this build does not know reads "unknown".

#ifndef GRADTAP_CLIENT_RPC_WORDS_H_
#define GRADTAP_CLIENT_RPC_WORDS_H_

#include <optional>
#include <string_view>

#include "gradtap/v1/query.pb.h"
#include "gradtap/v1/record.pb.h"

namespace gradtap::client {

// "running", "finished", "stopped", "lost".
std::string_view StateWord(v1::RunState state);
// "interval", "budget", "ring_full", ...
std::string_view CauseWord(v1::GapCause cause);
// "parameter", "buffer".
std::string_view KindWord(v1::Kind kind);
// "replicated", "sharded".
std::string_view PlacementWord(v1::Placement placement);
// "weight", "grad", "grad_local", "update", "buffer".
std::string_view RoleWord(v1::Role role);
std::optional<v1::Role> RoleOfWord(std::string_view word);

// FINISHED or STOPPED: nothing more will come, unless a newer attempt begins.
bool HasEnded(v1::RunState state);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_RPC_WORDS_H_
