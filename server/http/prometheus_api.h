// Prometheus's query API, as much of it as Grafana's source for Prometheus
// asks: what stands behind /prometheus/api/v1/.
//
// Layer: server/http. This file: std, absl, service's backend; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_PROMETHEUS_API_H_
#define GRADTAP_SERVER_HTTP_PROMETHEUS_API_H_

#include <string>

#include "server/http/http_api.h"
#include "server/http/request_fields.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

struct PrometheusCall {
  std::string path;  // After /prometheus/api/v1/: "query", "label/run/values".
  UrlParameters parameters;  // Of the URL and of a form in the body.
  std::string client;        // These two as ApiCall has them.
  Cancelled gone = nullptr;
};

// Thread-safe.
class PrometheusApi {
 public:
  // `backend` must outlive it.
  explicit PrometheusApi(QueryBackend* backend) : backend_(backend) {}

  // Runs on the backend, and waits. Errors are Prometheus's: 400 "bad_data",
  // 422 "execution" for what is more than gradtap answers, 503 "unavailable".
  HttpAnswer Serve(const PrometheusCall& call) const;

 private:
  QueryBackend* const backend_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_PROMETHEUS_API_H_
