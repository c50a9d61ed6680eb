// ClickHouse: a row of five floats for each parameter, role and step, by
// RowBinary over HTTP. The order of a table's rows is what its questions want:
// the data set that is asked for steps goes by step first, the one that is
// asked for series by parameter first.

#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/http.h"
#include "bench/peers/payload.h"
#include "bench/peers/peer.h"
#include "bench/peers/send.h"
#include "support/free_port.h"

namespace gradtap::bench {
namespace {

// A piece is a query, and a part of a table: about 550,000 rows.
constexpr std::size_t kPieceBytes = 16u << 20;
constexpr std::size_t kRowBytes = 4 + 1 + 4 + kFields * 4;

void WriteRows(const DataSet& data, Payload* payload) {
  std::string buffer;
  buffer.reserve(kPieceBytes + kRowBytes);
  for (std::int64_t step = 0; step < data.shape().steps; ++step) {
    for (std::size_t role = 0; role < kRoles; ++role) {
      for (std::size_t p = 0; p < data.shape().parameters; ++p) {
        AppendLittleEndian(&buffer, static_cast<std::uint32_t>(step));
        AppendLittleEndian(&buffer, static_cast<std::uint8_t>(role));
        AppendLittleEndian(&buffer, static_cast<std::uint32_t>(p));
        for (std::size_t field = 0; field < kFields; ++field) {
          AppendLittleEndian(&buffer, data.At(step, role, field, p));
        }
        payload->Add(&buffer, kPieceBytes);
      }
    }
  }
  payload->Cut(&buffer);
}

const char* const kConfig = R"(<yandex>
<logger><level>warning</level><console>1</console></logger>
<http_port>@H</http_port><tcp_port>@T</tcp_port>
<listen_host>127.0.0.1</listen_host>
<path>@F/data/</path><tmp_path>@F/tmp/</tmp_path>
<users_config>@F/users.xml</users_config>
<default_profile>default</default_profile>
<default_database>default</default_database>
<mark_cache_size>5368709120</mark_cache_size>
<timezone>UTC</timezone>
@C
</yandex>
)";

const char* const kUsers = R"(<yandex>
<profiles><default></default></profiles>
<users><default><password></password>
<networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default></users>
<quotas><default></default></quotas>
</yandex>
)";

const char* const kZstd =
    "<compression><case><min_part_size>0</min_part_size>"
    "<min_part_size_ratio>0</min_part_size_ratio>"
    "<method>zstd</method></case></compression>";

void Replace(std::string* text, const std::string& what,
             const std::string& with) {
  for (std::size_t at = text->find(what); at != std::string::npos;
       at = text->find(what, at + with.size())) {
    text->replace(at, what.size(), with);
  }
}

// Reads values of RowBinary in their order.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}
  template <typename T>
  T Next() {
    if (at_ + sizeof(T) > text_.size()) {
      throw std::runtime_error("ClickHouse's answer is too short");
    }
    T value;
    std::memcpy(&value, text_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  bool done() const { return at_ == text_.size(); }

 private:
  const std::string& text_;
  std::size_t at_ = 0;
};

Answer Decode(const std::string& text, const Question& question, std::size_t n,
              std::size_t buckets) {
  Answer answer;
  Reader reader(text);
  switch (question.kind) {
    case Question::Kind::kColumn:
      while (!reader.done()) {
        answer.values.push_back(static_cast<double>(reader.Next<float>()));
      }
      break;
    case Question::Kind::kStep:
      answer.values.resize(n * kFloats, 1e300);
      for (std::size_t role = 0; role < kRoles; ++role) {
        for (std::size_t p = 0; p < n; ++p) {
          for (std::size_t field = 0; field < kFields; ++field) {
            answer.values[(role * kFields + field) * n + p] =
                static_cast<double>(reader.Next<float>());
          }
        }
      }
      break;
    case Question::Kind::kSeries:
      answer.cells.resize(buckets, {1, 0});
      while (!reader.done()) {
        Extremes& cell = answer.cells.at(reader.Next<std::uint32_t>());
        cell.min = static_cast<double>(reader.Next<float>());
        cell.max = static_cast<double>(reader.Next<float>());
      }
      break;
    case Question::Kind::kHeatMap:
      answer.values.resize(n * buckets, 1e300);
      while (!reader.done()) {
        const std::size_t p = reader.Next<std::uint32_t>();
        const std::size_t bucket = reader.Next<std::uint32_t>();
        answer.values.at(p * buckets + bucket) =
            static_cast<double>(reader.Next<float>());
      }
      break;
  }
  return answer;
}

class ClickHousePeer : public Peer {
 public:
  explicit ClickHousePeer(ClickHouseCodec codec) : codec_(codec) {}

  std::string name() const override {
    return ingest_only() ? "clickhouse-zstd" : "clickhouse";
  }
  bool ingest_only() const override { return codec_ == ClickHouseCodec::kZstd; }
  std::string Missing() const override {
    return ::access("/usr/sbin/clickhouse-server", X_OK) == 0 ||
                   ::access("/usr/bin/clickhouse-server", X_OK) == 0
               ? ""
               : "apt-get install clickhouse-server";
  }
  std::string Settings() const override {
    return "ClickHouse " +
           RunTool("dpkg-query -W -f '${Version}' clickhouse-server") +
           " (of 2018), MergeTree, RowBinary over HTTP, 2 connections, pieces "
           "of 16 MiB; parameters are numbers; " +
           (ingest_only() ? "zstd" : "lz4, its default") +
           "; no fsync; rows in the order that suits the questions";
  }

  void Start(const std::string& folder) override {
    if (::access((folder + "/data").c_str(), F_OK) != 0) tables_.clear();
    port_ = testing::FreePort();
    std::string config = kConfig;
    Replace(&config, "@H", std::to_string(port_));
    Replace(&config, "@T", std::to_string(testing::FreePort()));
    Replace(&config, "@F", folder);
    Replace(&config, "@C", ingest_only() ? kZstd : "");
    std::ofstream(folder + "/config.xml") << config;
    std::ofstream(folder + "/users.xml") << kUsers;
    RunTool("mkdir -p " + folder + "/data " + folder + "/tmp");
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"clickhouse-server",
                                 "--config-file=" + folder + "/config.xml"},
        folder + "/log");
    server_->WaitForPort(port_);
    http_ = std::make_unique<HttpConnection>(port_);
  }
  void Stop() override {
    http_.reset();
    server_->Stop(SIGTERM);
  }

  void Prepare(const DataSet& data, const std::string& scratch) override {
    auto payload = std::make_unique<Payload>(scratch + "/" + name() + "." +
                                             data.shape().name);
    WriteRows(data, payload.get());
    payload->Close();
    payloads_[data.shape().name] = std::move(payload);
  }
  double Load(const DataSet& data) override {
    const std::string& table = data.shape().name;
    const bool by_step = data.shape().parameters > kDeepParameters;
    http_->Post("/", "CREATE TABLE IF NOT EXISTS " + table +
                         " (step UInt32, role UInt8, p UInt32, mean Float32, "
                         "std Float32, abs_mean Float32, min Float32, max "
                         "Float32) ENGINE = MergeTree() ORDER BY " +
                         (by_step ? "(step, role, p)" : "(role, p, step)"));
    PostAll(
        port_,
        "/?query=" + UrlEncoded("INSERT INTO " + table + " FORMAT RowBinary"),
        *payloads_.at(table), 2);
    tables_.insert(table);
    return 0;
  }
  void Settle() override {
    for (const std::string& table : tables_) {
      http_->Post("/", "OPTIMIZE TABLE " + table + " FINAL");
    }
  }
  std::uint64_t DiskBytes(const std::string&) const override {
    // Parts that were merged stay on disk for minutes: they do not count.
    return std::stoull(http_->Post(
        "/", "SELECT sum(bytes_on_disk) FROM system.parts WHERE active"));
  }

  std::function<Answer()> Ask(const DataSet& data,
                              const Question& question) override {
    const std::string& table = data.shape().name;
    const std::string field =
        question.l2 ? "toFloat32(sqrt(" + std::to_string(kNumel) +
                          " * (toFloat64(mean) * mean + toFloat64(std) * std)))"
                    : kFieldNames[question.field];
    const std::string role = "role = " + std::to_string(question.role);
    const std::string step = "step = " + std::to_string(question.step);
    const std::string bucket = "toUInt32(intDiv(step, " +
                               std::to_string(question.bucket_steps) +
                               ")) AS b, ";
    const std::string min = "min(" + field + ")", max = "max(" + field + ")";
    const std::string from = " FROM " + table + " WHERE " + role;
    std::string query;
    switch (question.kind) {
      case Question::Kind::kColumn:
        query = "SELECT " + field + " FROM " + table + " WHERE " + step +
                " AND " + role + " ORDER BY p";
        break;
      case Question::Kind::kStep:
        query = "SELECT mean, std, abs_mean, min, max FROM " + table +
                " WHERE " + step + " ORDER BY role, p";
        break;
      case Question::Kind::kSeries:
        query = "SELECT " + bucket + min + ", " + max + from +
                " AND p = " + std::to_string(question.parameter) +
                " GROUP BY b ORDER BY b";
        break;
      case Question::Kind::kHeatMap:
        query =
            "SELECT p, " + bucket +
            (WorstIsByMagnitude(question)
                 ? "if(" + max + " < -" + min + ", " + min + ", " + max + ")"
                 : max) +
            from + " GROUP BY p, b";
        break;
    }
    std::string text = http_->Post("/", query + " FORMAT RowBinary");
    return [text = std::move(text), question, n = data.shape().parameters,
            buckets = Buckets(data, question)] {
      return Decode(text, question, n, buckets);
    };
  }

 private:
  const ClickHouseCodec codec_;
  int port_ = 0;
  std::unique_ptr<HttpConnection> http_;
  std::map<std::string, std::unique_ptr<Payload>> payloads_;
  std::set<std::string> tables_;
};

}  // namespace

std::unique_ptr<Peer> MakeClickHousePeer(ClickHouseCodec codec) {
  return std::make_unique<ClickHousePeer>(codec);
}

}  // namespace gradtap::bench
