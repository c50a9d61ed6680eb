// Alerts as other programs take them.
//
// Layer: server/notify. This file: std, absl, gradtap_proto. Pure functions;
// any thread may call them.

#ifndef GRADTAP_SERVER_NOTIFY_ALERT_MESSAGES_H_
#define GRADTAP_SERVER_NOTIFY_ALERT_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gradtap/v1/alert.pb.h"

namespace gradtap::server {

// "GradtapNonfinite", "GradtapLostRank".
std::string AlertName(v1::HealthRule rule);

// The body of Alertmanager's POST /api/v2/alerts. Labels: alertname, run,
// severity; annotations: the rest. One that is active ends by itself
// `until_unix_ns`, unless it is sent again. `page` goes before each link:
// "http://127.0.0.1:7318".
absl::StatusOr<std::string> ToAlertmanager(const std::vector<v1::Alert>& alerts,
                                           std::int64_t until_unix_ns,
                                           const std::string& page);

// {"version": 1, "status": "firing" or "resolved", "url": ..., "alert": {...}},
// the alert as in ListAlerts.
absl::StatusOr<std::string> ToWebhook(const v1::Alert& alert,
                                      const std::string& page);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_NOTIFY_ALERT_MESSAGES_H_
