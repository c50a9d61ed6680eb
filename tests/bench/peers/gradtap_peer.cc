// gradtap itself: fed by `peers_feeder`, which is the agent without LibTorch,
// and asked through the query library.

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/peers/peer.h"
#include "gradtap/client.h"
#include "support/free_port.h"

namespace gradtap::bench {
namespace {

double ChildrenCpu() {
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  double seconds = 0;
  for (const timeval& t : {usage.ru_utime, usage.ru_stime}) {
    seconds +=
        static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  }
  return seconds;
}

std::string StatisticOf(std::size_t role, std::size_t field) {
  return std::string(kRoleNames[role]) + "." + kFieldNames[field];
}

// The number in "p12".
std::size_t ParameterOf(const std::string& name) {
  std::size_t p = 0;
  std::from_chars(name.data() + 1, name.data() + name.size(), p);
  return p;
}

class GradtapPeer : public Peer {
 public:
  explicit GradtapPeer(std::string bin) : bin_(std::move(bin)) {}

  std::string name() const override { return "gradtap"; }
  std::string Missing() const override {
    return ::access((bin_ + "/gradtapd").c_str(), X_OK) == 0 &&
                   ::access((bin_ + "/peers_feeder").c_str(), X_OK) == 0
               ? ""
               : "build gradtapd and peers_feeder; looked in " + bin_;
  }
  std::string Settings() const override {
    std::string version = RunTool(bin_ + "/gradtapd --version");
    version.erase(version.find_last_not_of('\n') + 1);
    return version +
           ", one rank through gRPC as an agent sends it, four counts a record "
           "with the five floats; synced before it acknowledges; defaults";
  }

  void Start(const std::string& folder) override {
    port_ = testing::FreePort();
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{bin_ + "/gradtapd", "--data-dir",
                                 folder + "/data", "--http-listen",
                                 "127.0.0.1:0", "--grpc-listen",
                                 "127.0.0.1:" + std::to_string(port_)},
        folder + "/log");
    server_->WaitForPort(port_);
    client::ClientOptions options;
    options.collector = "127.0.0.1:" + std::to_string(port_);
    options.deadline = std::chrono::minutes(10);
    options.max_answer_bytes = std::size_t{1} << 30;
    auto connected = Client::Connect(options);
    if (!connected) throw std::runtime_error(connected.error().message);
    client_.emplace(*std::move(connected));
  }
  void Stop() override {
    client_.reset();
    server_->Stop(SIGTERM);
  }

  // The feeder reads the data set's own file.
  void Prepare(const DataSet&, const std::string&) override {}
  double Load(const DataSet& data) override {
    const double cpu = ChildrenCpu();
    const auto start = std::chrono::steady_clock::now();
    const std::string said =
        RunTool(bin_ + "/peers_feeder 127.0.0.1:" + std::to_string(port_) +
                " " + data.shape().name + " " + data.path() + " " +
                std::to_string(data.shape().parameters));
    const std::chrono::duration<double> all =
        std::chrono::steady_clock::now() - start;
    client_cpu_ = ChildrenCpu() - cpu;
    return all.count() - std::stod(said);
  }
  double ClientCpuSeconds() const override { return client_cpu_; }
  // The run has ended: all of it is sealed, and then merged.
  void Settle() override {
    for (;;) {
      const auto status = client_->Status();
      if (!status) throw std::runtime_error(status.error().message);
      if (status->rows_due == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const auto compacted = client_->Compact();
    if (!compacted) throw std::runtime_error(compacted.error().message);
  }
  std::uint64_t DiskBytes(const std::string& folder) const override {
    return bench::DiskBytes(folder + "/data", "");
  }

  std::function<Answer()> Ask(const DataSet& data,
                              const Question& question) override {
    switch (question.kind) {
      case Question::Kind::kColumn:
      case Question::Kind::kStep:
        return AskSnapshot(data, question);
      case Question::Kind::kSeries:
        return AskSeries(data, question);
      case Question::Kind::kHeatMap:
        return AskHeatMap(data, question);
    }
    return {};
  }

 private:
  std::function<Answer()> AskSnapshot(const DataSet& data,
                                      const Question& question) {
    client::SnapshotQuery query;
    query.run = data.shape().name;
    query.step = question.step;
    if (question.kind == Question::Kind::kColumn) {
      query.statistics = {StatisticOf(question.role, question.field)};
    } else {
      for (std::size_t i = 0; i < kFloats; ++i) {
        query.statistics.push_back(StatisticOf(i / kFields, i % kFields));
      }
    }
    auto answered = client_->Snapshot(query);
    if (!answered) throw std::runtime_error(answered.error().message);
    return [snapshot = *std::move(answered), n = data.shape().parameters] {
      Answer answer;
      answer.values.resize(n * snapshot.statistics.size(), 1e300);
      for (const client::SnapshotEntry& row : snapshot.rows) {
        for (std::size_t i = 0; i < row.values.size(); ++i) {
          if (row.values[i]) {
            answer.values.at(i * n + ParameterOf(row.parameter)) =
                *row.values[i];
          }
        }
      }
      return answer;
    };
  }
  std::function<Answer()> AskSeries(const DataSet& data,
                                    const Question& question) {
    client::SeriesQuery query;
    query.runs = {data.shape().name};
    query.statistics = {question.l2
                            ? std::string(kRoleNames[question.role]) + ".l2"
                            : StatisticOf(question.role, question.field)};
    query.match = "^p" + std::to_string(question.parameter) + "$";
    query.max_points = static_cast<std::uint32_t>(2 * Buckets(data, question));
    auto answered = client_->Series(query);
    if (!answered) throw std::runtime_error(answered.error().message);
    return [series = *std::move(answered)] {
      Answer answer;
      for (const client::SeriesLine& line : series.series) {
        for (const client::SeriesPoint& point : line.points) {
          answer.points.push_back({ParameterOf(line.parameter), point.step,
                                   point.value.value_or(1e300)});
        }
      }
      return answer;
    };
  }
  std::function<Answer()> AskHeatMap(const DataSet& data,
                                     const Question& question) {
    client::HeatMapQuery query;
    query.run = data.shape().name;
    query.statistic = StatisticOf(question.role, question.field);
    query.max_buckets = static_cast<std::uint32_t>(Buckets(data, question));
    auto answered = client_->HeatMap(query);
    if (!answered) throw std::runtime_error(answered.error().message);
    return [map = *std::move(answered), n = data.shape().parameters,
            width = question.bucket_steps, buckets = Buckets(data, question)] {
      if (map.bucket_steps != width) {
        throw std::runtime_error("gradtap's heat map has columns of " +
                                 std::to_string(map.bucket_steps) +
                                 " steps in the place of " +
                                 std::to_string(width));
      }
      Answer answer;
      answer.values.resize(n * buckets, 1e300);
      for (const client::HeatMapRow& row : map.rows) {
        for (std::size_t b = 0; b < row.worst.size(); ++b) {
          if (row.nonfinite(b) || row.absent(b)) continue;  // None was sent.
          answer.values.at(ParameterOf(row.parameter) * buckets + b) =
              static_cast<double>(row.worst[b]);
        }
      }
      return answer;
    };
  }

  const std::string bin_;
  int port_ = 0;
  std::optional<Client> client_;
  double client_cpu_ = 0;
};

}  // namespace

std::unique_ptr<Peer> MakeGradtapPeer(const std::string& bin) {
  return std::make_unique<GradtapPeer>(bin);
}

}  // namespace gradtap::bench
