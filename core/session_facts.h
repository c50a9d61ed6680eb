// What a collector says of itself at the end of each Telemetry.Session that it
// has let in, and what it can be asked there, as gRPC's metadata: for `gradtap
// doctor`, which opens a session as an agent does, has nothing to say, and
// leaves nothing behind.
//
// Layer: core. This file: std. Its names are part of the protocol.

#ifndef GRADTAP_CORE_SESSION_FACTS_H_
#define GRADTAP_CORE_SESSION_FACTS_H_

namespace gradtap {

// The collector's, at the end of a call: "0.1.0", and its clock when it came.
inline constexpr char kVersionMetadata[] = "gradtap-version";
inline constexpr char kTimeMetadata[] = "gradtap-time-unix-ns";
// The caller's: PERMISSION_DENIED if its token may not write that run.
inline constexpr char kRunMetadata[] = "gradtap-run";

}  // namespace gradtap

#endif  // GRADTAP_CORE_SESSION_FACTS_H_
