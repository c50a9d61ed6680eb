#include "server/http/prometheus_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/json_text.h"

namespace gradtap::server {
namespace {

// Reads back bit for bit; spelled as Prometheus does.
void AppendNumber(double value, std::string* out) {
  if (std::isnan(value)) {
    out->append("NaN");
    return;
  }
  if (std::isinf(value)) {
    out->append(value > 0 ? "+Inf" : "-Inf");
    return;
  }
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  out->append(text.data(), end.ptr);
}

// [1700000000.123,"0.5"]
void AppendPoint(std::int64_t time_ms, double value, std::string* out) {
  std::array<char, 32> seconds;
  const auto end = std::to_chars(
      seconds.data(), seconds.data() + seconds.size(),
      static_cast<double>(time_ms) / 1000, std::chars_format::fixed);
  out->push_back('[');
  out->append(seconds.data(), end.ptr);
  out->append(",\"");
  AppendNumber(value, out);
  out->append("\"]");
}

void AppendComma(std::string* out) {
  if (!out->empty() && out->back() != '[' && out->back() != '{') {
    out->push_back(',');
  }
}

}  // namespace

std::string LabelsJson(const promql::Labels& labels) {
  std::string out = "{";
  for (const auto& [name, value] : labels) {
    AppendComma(&out);
    absl::StrAppend(&out, JsonString(name), ":", JsonString(value));
  }
  return out + "}";
}

std::string ListJson(const std::set<std::string>& values) {
  std::string out = "[";
  for (const std::string& value : values) {
    AppendComma(&out);
    out += JsonString(value);
  }
  return out + "]";
}

std::string InstantJson(const promql::Result& result, std::int64_t time_ms) {
  std::string out;
  if (result.type == promql::Type::kScalar) {
    out = "{\"resultType\":\"scalar\",\"result\":";
    AppendPoint(time_ms, result.columns.front().values.front(), &out);
    return out + "}";
  }
  const bool matrix = result.type == promql::Type::kMatrix;
  out = absl::StrCat("{\"resultType\":\"", matrix ? "matrix" : "vector",
                     "\",\"result\":[");
  for (const promql::SampledSeries& series : result.ranges) {
    AppendComma(&out);
    absl::StrAppend(&out, "{\"metric\":", LabelsJson(series.labels),
                    ",\"values\":[");
    for (const promql::Sample& sample : series.samples) {
      AppendComma(&out);
      AppendPoint(sample.time_ms, sample.value, &out);
    }
    out += "]}";
  }
  for (const promql::Column& column : result.columns) {
    AppendComma(&out);
    absl::StrAppend(&out, "{\"metric\":", LabelsJson(column.labels),
                    ",\"value\":");
    AppendPoint(time_ms, column.values.front(), &out);
    out += '}';
  }
  return out + "]}";
}

std::string RangeJson(const promql::Result& result,
                      const promql::Times& times) {
  std::string out = "{\"resultType\":\"matrix\",\"result\":[";
  for (const promql::Column& column : result.columns) {
    AppendComma(&out);
    absl::StrAppend(&out, "{\"metric\":", LabelsJson(column.labels),
                    ",\"values\":[");
    for (std::size_t t = 0; t < column.values.size(); ++t) {
      if (column.present[t] == 0) continue;
      AppendComma(&out);
      AppendPoint(times.at(t), column.values[t], &out);
    }
    out += "]}";
  }
  return out + "]}";
}

std::string SuccessJson(std::string_view data) {
  return absl::StrCat("{\"status\":\"success\",\"data\":", std::string(data),
                      "}");
}

}  // namespace gradtap::server
