// VictoriaMetrics: a series for each parameter, role and field; a step is a
// second. Loaded by the line protocol, a line for each parameter, role and step
// as an agent would send it; or by JSON lines, a line for each series, which
// takes a job that has ended.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bench/peers/http.h"
#include "bench/peers/payload.h"
#include "bench/peers/peer.h"
#include "bench/peers/send.h"
#include "support/free_port.h"

namespace gradtap::bench {
namespace {

constexpr std::int64_t kEpochSeconds = 1'600'000'000;
constexpr std::size_t kPieceBytes = 4u << 20;

std::string MetricOf(std::size_t role, std::size_t field) {
  return std::string(kRoleNames[role]) + "_" + kFieldNames[field];
}

void WriteLines(const DataSet& data, Payload* payload) {
  const std::string& run = data.shape().name;
  std::string buffer;
  for (std::int64_t step = 0; step < data.shape().steps; ++step) {
    for (std::size_t role = 0; role < kRoles; ++role) {
      for (std::size_t p = 0; p < data.shape().parameters; ++p) {
        buffer += std::string(kRoleNames[role]) + ",run=" + run + ",p=";
        AppendNumber(&buffer, p);
        for (std::size_t field = 0; field < kFields; ++field) {
          buffer += field == 0 ? ' ' : ',';
          buffer += std::string(kFieldNames[field]) + "=";
          AppendNumber(&buffer, data.At(step, role, field, p));
        }
        buffer += ' ';
        AppendNumber(&buffer, kEpochSeconds + step);
        buffer += '\n';
        payload->Add(&buffer, kPieceBytes);
      }
    }
  }
  payload->Cut(&buffer);
}

// `steps` of one series.
void WriteJson(const DataSet& data, std::size_t role, std::size_t field,
               std::size_t p, std::int64_t from, std::int64_t to,
               std::string* out) {
  *out += R"({"metric":{"__name__":")" + MetricOf(role, field) +
          R"(","run":")" + data.shape().name + R"(","p":")";
  AppendNumber(out, p);
  *out += R"("},"values":[)";
  for (std::int64_t step = from; step < to; ++step) {
    if (step > from) *out += ',';
    AppendNumber(out, data.At(step, role, field, p));
  }
  *out += R"(],"timestamps":[)";
  for (std::int64_t step = from; step < to; ++step) {
    if (step > from) *out += ',';
    AppendNumber(out, (kEpochSeconds + step) * 1000);
  }
  *out += "]}\n";
}

void WriteAllJson(const DataSet& data, Payload* payload) {
  constexpr std::int64_t kWindow = 1000;
  std::string buffer;
  for (std::int64_t from = 0; from < data.shape().steps; from += kWindow) {
    const std::int64_t to = std::min(data.shape().steps, from + kWindow);
    for (std::size_t role = 0; role < kRoles; ++role) {
      for (std::size_t field = 0; field < kFields; ++field) {
        for (std::size_t p = 0; p < data.shape().parameters; ++p) {
          WriteJson(data, role, field, p, from, to, &buffer);
          payload->Add(&buffer, kPieceBytes);
        }
      }
    }
  }
  payload->Cut(&buffer);
}

// The labels and the samples of a Prometheus answer, without a JSON parser: its
// form is fixed, and no label here has a quote in it.
struct Sample {
  std::string name, rollup;
  std::size_t parameter = 0;
  std::vector<std::pair<std::int64_t, double>> values;  // Seconds.
};

std::string LabelOf(std::string_view labels, const std::string& label) {
  const std::string key = "\"" + label + "\":\"";
  const std::size_t at = labels.find(key);
  if (at == std::string_view::npos) return "";
  const std::size_t begin = at + key.size();
  return std::string(labels.substr(begin, labels.find('"', begin) - begin));
}

std::vector<Sample> Parse(const std::string& text) {
  static const std::string kMetric = "{\"metric\":{";
  std::vector<Sample> samples;
  std::size_t at = text.find(kMetric);
  while (at != std::string::npos) {
    const std::size_t labels_end = text.find('}', at + kMetric.size());
    std::size_t next = text.find(kMetric, labels_end);
    const std::size_t end = std::min(next, text.size());
    Sample sample;
    const auto labels = std::string_view(text).substr(at, labels_end - at);
    sample.name = LabelOf(labels, "__name__");
    sample.rollup = LabelOf(labels, "rollup");
    const std::string p = LabelOf(labels, "p");
    sample.parameter = p.empty() ? 0 : std::stoull(p);
    // [SECONDS,"VALUE"] each, in "value":[...] or "values":[[...],...].
    for (std::size_t i = text.find(",\"", labels_end + 9);
         i < end && text[i - 1] >= '0' && text[i - 1] <= '9';
         i = text.find(",\"", i + 2)) {
      const std::size_t open = text.rfind('[', i);
      const char* const value = text.c_str() + i + 2;
      sample.values.emplace_back(std::atoll(text.c_str() + open + 1),
                                 std::strtod(value, nullptr));
    }
    samples.push_back(std::move(sample));
    at = next;
  }
  return samples;
}

Answer DecodeInstant(const std::string& text, const Question& question,
                     std::size_t n) {
  const bool all = question.kind == Question::Kind::kStep;
  Answer answer;
  answer.values.resize(n * (all ? kFloats : 1), 1e300);
  std::map<std::string, std::size_t> columns;
  for (std::size_t i = 0; i < kFloats; ++i) {
    columns[MetricOf(i / kFields, i % kFields)] = i;
  }
  for (const Sample& sample : Parse(text)) {
    const std::size_t column = all ? columns.at(sample.name) : 0;
    answer.values.at(column * n + sample.parameter) =
        sample.values.at(0).second;
  }
  return answer;
}

// A heat map's worst is chosen here where it takes both ends: MetricsQL has no
// function for the value of largest magnitude that keeps its sign.
Answer DecodeRange(const std::string& text, const Question& question,
                   std::size_t n, std::size_t buckets) {
  const bool map = question.kind == Question::Kind::kHeatMap;
  const bool both = !map || WorstIsByMagnitude(question);
  std::vector<Extremes> cells((map ? n : 1) * buckets, {1e300, 1e300});
  for (const Sample& sample : Parse(text)) {
    for (const auto& [seconds, value] : sample.values) {
      const auto bucket = static_cast<std::size_t>((seconds - kEpochSeconds) /
                                                   question.bucket_steps);
      Extremes& cell =
          cells.at((map ? sample.parameter : 0) * buckets + bucket);
      if (!both || sample.rollup == "min_over_time") cell.min = value;
      if (!both || sample.rollup == "max_over_time") cell.max = value;
    }
  }
  Answer answer;
  if (!map) {
    answer.cells = std::move(cells);
    return answer;
  }
  for (const Extremes& cell : cells) {
    answer.values.push_back(both ? WorstOf(question, cell.min, cell.max)
                                 : cell.max);
  }
  return answer;
}

class VictoriaPeer : public Peer {
 public:
  explicit VictoriaPeer(VictoriaPath path) : path_(path) {}

  std::string name() const override {
    return path_ == VictoriaPath::kLines ? "victoria" : "victoria-json";
  }
  bool ingest_only() const override { return path_ == VictoriaPath::kJson; }
  std::string Missing() const override {
    return ::access("/usr/bin/victoria-metrics", X_OK) == 0
               ? ""
               : "apt-get install victoria-metrics";
  }
  std::string Settings() const override {
    const std::string version =
        RunTool("dpkg-query -W -f '${Version}' victoria-metrics");
    return "VictoriaMetrics " + version + ", " +
           (path_ == VictoriaPath::kLines
                ? "InfluxDB line protocol (/write)"
                : "JSON lines (/api/v1/import), whole series") +
           ", 2 connections, pieces of 4 MiB; series name, run and p (a "
           "number); "
           "defaults but for search limits; no fsync before it answers; "
           "range queries with nocache=1";
  }

  void Start(const std::string& folder) override {
    port_ = testing::FreePort();
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{
            "/usr/bin/victoria-metrics", "-storageDataPath=" + folder + "/data",
            "-httpListenAddr=127.0.0.1:" + std::to_string(port_),
            "-retentionPeriod=100y", "-loggerLevel=WARN",
            "-search.maxUniqueTimeseries=10000000",
            "-search.maxSeries=10000000",
            "-search.maxSamplesPerQuery=100000000000",
            "-search.maxQueryDuration=600s", "-search.latencyOffset=0s",
            "-search.maxPointsPerTimeseries=100000000"},
        folder + "/log");
    server_->WaitForPort(port_);
    http_ = std::make_unique<HttpConnection>(port_);
  }
  void Stop() override {
    http_.reset();
    server_->Stop(SIGINT);
  }

  void Prepare(const DataSet& data, const std::string& scratch) override {
    auto payload = std::make_unique<Payload>(scratch + "/" + name() + "." +
                                             data.shape().name);
    if (path_ == VictoriaPath::kLines) {
      WriteLines(data, payload.get());
    } else {
      WriteAllJson(data, payload.get());
    }
    payload->Close();
    payloads_[data.shape().name] = std::move(payload);
  }
  double Load(const DataSet& data) override {
    PostAll(
        port_,
        path_ == VictoriaPath::kLines ? "/write?precision=s" : "/api/v1/import",
        *payloads_.at(data.shape().name), 2);
    return 0;
  }
  void Settle() override {
    http_->Get("/internal/force_flush");
    http_->Get("/internal/force_merge");
    // It merges in the background and does not say when it is done.
    for (double before = -1, now = CpuSeconds(); now - before > 0.02;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      before = std::exchange(now, CpuSeconds());
    }
    http_->Get("/internal/force_flush");
  }
  std::uint64_t DiskBytes(const std::string& folder) const override {
    return bench::DiskBytes(folder + "/data", "");
  }

  std::function<Answer()> Ask(const DataSet& data,
                              const Question& question) override;

 private:
  std::string Instant(const DataSet& data, const std::string& metric,
                      std::int64_t step) {
    return http_->Get(
        "/api/v1/query?query=" +
        UrlEncoded(metric + "{run=\"" + data.shape().name + "\"}") +
        "&step=1s&nocache=1&time=" + std::to_string(kEpochSeconds + step));
  }
  // The samples of all steps of a bucket: a range of the series, or of the
  // seconds of an expression.
  static std::string Bucket(const Question& question, const std::string& labels,
                            const std::string& width) {
    const auto series = [&](std::size_t field) {
      return MetricOf(question.role, field) + labels;
    };
    if (!question.l2) return series(question.field) + "[" + width + "]";
    return "sqrt(" + std::to_string(kNumel) + "*(" + series(0) + "^2+" +
           series(1) + "^2))[" + width + ":1s]";
  }
  std::string Range(const DataSet& data, const Question& question,
                    const std::string& labels) {
    const std::int64_t w = question.bucket_steps;
    const std::string width = std::to_string(w) + "s";
    const auto buckets = static_cast<std::int64_t>(Buckets(data, question));
    const std::string bucket = Bucket(
        question, "{run=\"" + data.shape().name + "\"" + labels + "}", width);
    const bool largest = question.kind == Question::Kind::kHeatMap &&
                         !WorstIsByMagnitude(question);
    const std::string query =
        largest ? "max_over_time(" + bucket + ")"
                : "aggr_over_time((\"min_over_time\", \"max_over_time\"), " +
                      bucket + ")";
    return http_->Get(
        "/api/v1/query_range?query=" + UrlEncoded(query) + "&nocache=1&step=" +
        width + "&start=" + std::to_string(kEpochSeconds + w - 1) +
        "&end=" + std::to_string(kEpochSeconds + buckets * w - 1));
  }

  const VictoriaPath path_;
  int port_ = 0;
  std::unique_ptr<HttpConnection> http_;
  std::map<std::string, std::unique_ptr<Payload>> payloads_;
};

std::function<Answer()> VictoriaPeer::Ask(const DataSet& data,
                                          const Question& question) {
  std::string text;
  const std::size_t n = data.shape().parameters;
  switch (question.kind) {
    case Question::Kind::kColumn:
      text =
          Instant(data, MetricOf(question.role, question.field), question.step);
      break;
    case Question::Kind::kStep:
      text = Instant(data, "", question.step);
      break;
    case Question::Kind::kSeries:
      text = Range(data, question,
                   ",p=\"" + std::to_string(question.parameter) + "\"");
      break;
    case Question::Kind::kHeatMap:
      text = Range(data, question, "");
      break;
  }
  return
      [text = std::move(text), question, n, buckets = Buckets(data, question)] {
        return question.kind == Question::Kind::kSeries ||
                       question.kind == Question::Kind::kHeatMap
                   ? DecodeRange(text, question, n, buckets)
                   : DecodeInstant(text, question, n);
      };
}

}  // namespace

std::unique_ptr<Peer> MakeVictoriaPeer(VictoriaPath path) {
  return std::make_unique<VictoriaPeer>(path);
}

}  // namespace gradtap::bench
