// PostgreSQL: a row for each step and role, with an array for each field; by
// binary COPY, in the transaction that makes the table, which needs no log with
// wal_level=minimal. Indexed after loading.

#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/payload.h"
#include "bench/peers/peer.h"
#include "support/free_port.h"

namespace gradtap::bench {
namespace {

constexpr std::size_t kPieceBytes = 1u << 20;
const char* const kBin = "/usr/lib/postgresql/15/bin/";
constexpr std::uint32_t kFloat4Oid = 700;

std::uint32_t Swapped(std::uint32_t value) { return __builtin_bswap32(value); }
void Append32(std::string* out, std::uint32_t value) {
  AppendLittleEndian(out, Swapped(value));
}
void Append16(std::string* out, std::uint16_t value) {
  AppendLittleEndian(out, __builtin_bswap16(value));
}

// The format of COPY ... WITH (FORMAT binary).
void WriteRows(const DataSet& data, Payload* payload) {
  const auto n = static_cast<std::uint32_t>(data.shape().parameters);
  std::string buffer("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
  for (std::int64_t step = 0; step < data.shape().steps; ++step) {
    for (std::size_t role = 0; role < kRoles; ++role) {
      Append16(&buffer, 2 + kFields);
      Append32(&buffer, 4);
      Append32(&buffer, static_cast<std::uint32_t>(step));
      Append32(&buffer, 2);
      Append16(&buffer, static_cast<std::uint16_t>(role));
      for (std::size_t field = 0; field < kFields; ++field) {
        Append32(&buffer, 20 + n * 8);
        for (const std::uint32_t word : {1u, 0u, kFloat4Oid, n, 1u}) {
          Append32(&buffer, word);
        }
        const float* const column = data.Column(step, role, field);
        for (std::uint32_t p = 0; p < n; ++p) {
          Append32(&buffer, 4);
          Append32(&buffer, std::bit_cast<std::uint32_t>(column[p]));
        }
      }
      payload->Add(&buffer, kPieceBytes);
    }
  }
  Append16(&buffer, 0xFFFF);
  payload->Cut(&buffer);
}

std::uint32_t Read32(const char* at) {
  std::uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return Swapped(value);
}
double ReadFloat(const char* at) {
  return static_cast<double>(std::bit_cast<float>(Read32(at)));
}

using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

void ReadArray(const PGresult* result, int row, int column, double* out,
               std::size_t n) {
  const char* at = PQgetvalue(result, row, column) + 12;
  if (Read32(at) != n) throw std::runtime_error("an array of another length");
  at += 8;
  for (std::size_t i = 0; i < n; ++i) out[i] = ReadFloat(at + i * 8 + 4);
}

Answer Decode(const PGresult* result, const Question& question, std::size_t n,
              std::size_t buckets) {
  Answer answer;
  const int rows = PQntuples(result);
  switch (question.kind) {
    case Question::Kind::kColumn:
      answer.values.resize(n, 1e300);
      if (rows == 1) ReadArray(result, 0, 0, answer.values.data(), n);
      break;
    case Question::Kind::kStep:
      answer.values.resize(n * kFloats, 1e300);
      for (int row = 0; row < rows && row < static_cast<int>(kRoles); ++row) {
        for (int field = 0; field < static_cast<int>(kFields); ++field) {
          ReadArray(result, row, field,
                    answer.values.data() +
                        static_cast<std::size_t>(
                            row * static_cast<int>(kFields) + field) *
                            n,
                    n);
        }
      }
      break;
    case Question::Kind::kSeries:
      answer.cells.resize(buckets, {1, 0});
      for (int row = 0; row < rows; ++row) {
        answer.cells.at(Read32(PQgetvalue(result, row, 0))) = {
            ReadFloat(PQgetvalue(result, row, 1)),
            ReadFloat(PQgetvalue(result, row, 2))};
      }
      break;
    case Question::Kind::kHeatMap:
      answer.values.resize(n * buckets, 1e300);
      for (int row = 0; row < rows; ++row) {
        const std::size_t p = Read32(PQgetvalue(result, row, 2)) - 1;
        const std::size_t bucket = Read32(PQgetvalue(result, row, 0));
        answer.values.at(p * buckets + bucket) =
            ReadFloat(PQgetvalue(result, row, 1));
      }
      break;
  }
  return answer;
}

class PostgresPeer : public Peer {
 public:
  std::string name() const override { return "postgresql"; }
  std::string Missing() const override {
    if (::access((std::string(kBin) + "postgres").c_str(), X_OK) != 0) {
      return "apt-get install postgresql-15";
    }
    return ::getuid() == 0 && ::getpwnam("postgres") == nullptr
               ? "there is no user postgres, whom it runs as"
               : "";
  }
  std::string Settings() const override {
    return "PostgreSQL " +
           RunTool("dpkg-query -W -f '${Version}' postgresql-15") +
           ", a row for each step and role with float4[] columns, binary COPY "
           "of 1 connection in the transaction that makes the table, "
           "wal_level=minimal, fsync=on, shared_buffers=1GB, jit=off, toast "
           "lz4; primary key (step, role) made after loading";
  }

  void Start(const std::string& folder) override {
    port_ = testing::FreePort();
    const std::string data = folder + "/data";
    if (::access((data + "/PG_VERSION").c_str(), R_OK) != 0) {
      tables_.clear();
      RunTool("mkdir -p " + data);
      if (::getuid() == 0) RunTool("chown postgres: " + folder + " " + data);
      RunTool(AsUser() + kBin + "initdb -D " + data +
              " -U bench --auth=trust --locale=C -E UTF8 --no-sync");
    }
    std::vector<std::string> argv;
    if (::getuid() == 0) {
      argv = {"setpriv", "--reuid=postgres", "--regid=postgres",
              "--init-groups", "--pdeathsig=QUIT"};
    }
    for (const std::string& a : std::vector<std::string>{
             std::string(kBin) + "postgres", "-D", data, "-p",
             std::to_string(port_), "-k", "", "-h", "127.0.0.1"}) {
      argv.push_back(a);
    }
    for (const char* setting :
         {"wal_level=minimal", "max_wal_senders=0", "shared_buffers=1GB",
          "max_wal_size=8GB", "maintenance_work_mem=512MB", "work_mem=256MB",
          "jit=off", "default_toast_compression=lz4",
          "default_statistics_target=10", "track_activities=off"}) {
      argv.push_back("-c");
      argv.push_back(setting);
    }
    server_ = std::make_unique<ServerProcess>(argv, folder + "/log");
    server_->WaitForPort(port_);
    Connect();
  }
  void Stop() override {
    connection_.reset();
    server_->Stop(SIGINT);
  }

  void Prepare(const DataSet& data, const std::string& scratch) override {
    auto payload =
        std::make_unique<Payload>(scratch + "/postgresql." + data.shape().name);
    WriteRows(data, payload.get());
    payload->Close();
    payloads_[data.shape().name] = std::move(payload);
  }
  double Load(const DataSet& data) override;
  void Settle() override {
    for (const std::string& table : tables_) Run("VACUUM ANALYZE " + table);
    Run("CHECKPOINT");
  }
  std::uint64_t DiskBytes(const std::string& folder) const override {
    return bench::DiskBytes(folder + "/data", "pg_wal");
  }

  std::function<Answer()> Ask(const DataSet& data,
                              const Question& question) override;

 private:
  static std::string AsUser() {
    return ::getuid() == 0
               ? "setpriv --reuid=postgres --regid=postgres --init-groups "
               : "";
  }
  void Connect() {
    const std::string target =
        "host=127.0.0.1 user=bench dbname=postgres port=" +
        std::to_string(port_);
    for (int tries = 0; tries < 100; ++tries) {  // It may still be starting up.
      connection_.reset(PQconnectdb(target.c_str()));
      if (PQstatus(connection_.get()) == CONNECTION_OK) return;
      ::usleep(100'000);
    }
    throw std::runtime_error(PQerrorMessage(connection_.get()));
  }
  Result Run(const std::string& query) {
    Result result(PQexecParams(connection_.get(), query.c_str(), 0, nullptr,
                               nullptr, nullptr, nullptr, 1),
                  PQclear);
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK &&
        status != PGRES_COPY_IN) {
      throw std::runtime_error(query + ": " +
                               PQerrorMessage(connection_.get()));
    }
    return result;
  }

  int port_ = 0;
  std::unique_ptr<PGconn, decltype(&PQfinish)> connection_{nullptr, PQfinish};
  std::map<std::string, std::unique_ptr<Payload>> payloads_;
  std::set<std::string> tables_;
};

double PostgresPeer::Load(const DataSet& data) {
  const std::string& table = data.shape().name;
  Run("BEGIN");
  Run("CREATE TABLE " + table +
      " (step int, role smallint, mean float4[], std float4[], abs_mean "
      "float4[], min float4[], max float4[])");
  Run("COPY " + table + " FROM STDIN WITH (FORMAT binary)");
  const Payload& payload = *payloads_.at(table);
  for (std::size_t i = 0; i < payload.pieces(); ++i) {
    const std::string_view piece = payload.piece(i);
    if (PQputCopyData(connection_.get(), piece.data(),
                      static_cast<int>(piece.size())) != 1) {
      throw std::runtime_error(PQerrorMessage(connection_.get()));
    }
  }
  PQputCopyEnd(connection_.get(), nullptr);
  while (Result result{PQgetResult(connection_.get()), PQclear}) {
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) {
      throw std::runtime_error(PQerrorMessage(connection_.get()));
    }
  }
  Run("ALTER TABLE " + table + " ADD PRIMARY KEY (step, role)");
  Run("COMMIT");
  tables_.insert(table);
  return 0;
}

std::function<Answer()> PostgresPeer::Ask(const DataSet& data,
                                          const Question& question) {
  const std::string& table = data.shape().name;
  const std::string field = kFieldNames[question.field];
  const std::string role = " role = " + std::to_string(question.role);
  const std::string step = " step = " + std::to_string(question.step);
  const std::string bucket = "step / " + std::to_string(question.bucket_steps);
  std::string query;
  switch (question.kind) {
    case Question::Kind::kColumn:
      query = "SELECT " + field + " FROM " + table + " WHERE" + step + " AND" +
              role;
      break;
    case Question::Kind::kStep:
      query = "SELECT mean, std, abs_mean, min, max FROM " + table + " WHERE" +
              step + " ORDER BY role";
      break;
    case Question::Kind::kSeries: {
      const std::string p = "[" + std::to_string(question.parameter + 1) + "]";
      const std::string value =
          question.l2 ? "sqrt(" + std::to_string(kNumel) + " * (mean" + p +
                            "::float8 ^ 2 + std" + p + "::float8 ^ 2))::float4"
                      : field + p;
      query = "SELECT " + bucket + " AS b, min(" + value + "), max(" + value +
              ") FROM " + table + " WHERE" + role + " GROUP BY b";
      break;
    }
    case Question::Kind::kHeatMap:
      query = "SELECT " + bucket + " AS b, " +
              (WorstIsByMagnitude(question)
                   ? "CASE WHEN max(v) < -min(v) THEN min(v) ELSE max(v) END"
                   : "max(v)") +
              ", p::int FROM " + table + ", unnest(" + field +
              ") WITH ORDINALITY AS u(v, p) WHERE" + role + " GROUP BY b, p";
      break;
  }
  std::shared_ptr<PGresult> result(Run(query).release(), PQclear);
  return [result, question, n = data.shape().parameters,
          buckets = Buckets(data, question)] {
    return Decode(result.get(), question, n, buckets);
  };
}

}  // namespace

std::unique_ptr<Peer> MakePostgresPeer() {
  return std::make_unique<PostgresPeer>();
}

}  // namespace gradtap::bench
