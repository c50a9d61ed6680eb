// Answers of Prometheus's API as JSON.
//
// Layer: server/http. Pure.

#ifndef GRADTAP_SERVER_HTTP_PROMETHEUS_JSON_H_
#define GRADTAP_SERVER_HTTP_PROMETHEUS_JSON_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "server/promql/evaluator.h"

namespace gradtap::server {

// {"resultType":...,"result":...}: of one time, or of several.
std::string InstantJson(const promql::Result& result, std::int64_t time_ms);
std::string RangeJson(const promql::Result& result, const promql::Times& times);

std::string LabelsJson(const promql::Labels& labels);
std::string ListJson(const std::set<std::string>& values);

// {"status":"success","data":...}
std::string SuccessJson(std::string_view data);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_PROMETHEUS_JSON_H_
