// A request of Prometheus's remote write.
//
//   request := 1: series*                  in the wire format of protobuf, then
//   series  := 1: label* 2: sample*        compressed with snappy
//   label   := 1: name 2: value            by rising name
//   sample  := 1: value:double 2: time_ms:int64
//
// Source: prometheus.io, "Prometheus Remote-Write 1.0 specification".
//
// Layer: server/forward. Pure.

#ifndef GRADTAP_SERVER_FORWARD_WRITE_REQUEST_H_
#define GRADTAP_SERVER_FORWARD_WRITE_REQUEST_H_

#include <cstddef>
#include <string>
#include <vector>

#include "server/promql/source.h"

namespace gradtap::server {

// The body. Series without a sample are left out.
std::string EncodeWriteRequest(
    const std::vector<promql::SampledSeries>& series);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_FORWARD_WRITE_REQUEST_H_
