// Health rules for Prometheus: each run's alerts, and what evaluating takes.
//
// Layer: server/http. This file: std, health; no HTTP library. Any thread may
// call them, each with its own set.

#ifndef GRADTAP_SERVER_HTTP_HEALTH_METRICS_H_
#define GRADTAP_SERVER_HTTP_HEALTH_METRICS_H_

#include <string>

#include "server/health/health_watch.h"
#include "server/http/metric_set.h"

namespace gradtap::server {

void AddHealth(const HealthWatch& health, MetricSet* set);
// One sample for each rule that is switched on.
void AddRunAlerts(const HealthWatch& health, const std::string& run,
                  MetricSet* set);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HEALTH_METRICS_H_
