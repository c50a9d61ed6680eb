// What an alert says to people: one line, and where to look.
//
// Layer: server/health. This file: std, gradtap_proto. Pure functions; any
// thread may call them.

#ifndef GRADTAP_SERVER_HEALTH_ALERT_TEXT_H_
#define GRADTAP_SERVER_HEALTH_ALERT_TEXT_H_

#include <string>

#include "gradtap/v1/alert.pb.h"

namespace gradtap::server {

// "grad of conv1.weight became non-finite at step 812 on rank 2 (36 elements),
// and 14 more". Names are escaped and shortened. `first` is what broke the rule
// at the alert's first step.
std::string AlertSummary(const v1::Alert& alert, const v1::Offender& first);

// The page's address of the view, from "/" on: run, attempt, rank, the steps
// around the first, and the worst parameters, pinned.
std::string AlertLink(const v1::Alert& alert);

// "grad conv1.weight rank 2", "scalar loss rank 0", "rank 3". Escaped.
std::string OffenderText(const v1::Offender& offender);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_ALERT_TEXT_H_
