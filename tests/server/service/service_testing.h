// A whole collector in the test's process, and a writer into its store.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_SERVICE_TESTING_H_
#define GRADTAP_TESTS_SERVER_SERVICE_SERVICE_TESTING_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/codec.h"
#include "core/histogram.h"
#include "core/schema.h"
#include "core/step_data.h"
#include "gradtap/v1/query.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "server/service/collector.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {

inline constexpr std::int64_t kStart = 1'700'000'000'000'000'000;

inline Schema OneParameter() {
  Parameter parameter;
  parameter.name = "fc.weight";
  parameter.dtype = "float32";
  parameter.shape = {4};
  parameter.numel = 4;
  parameter.bytes = 16;
  parameter.requires_grad = true;
  parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
  Schema schema;
  schema.schema_id = 1;
  schema.parameters = {parameter};
  schema.fingerprint = 7;
  return schema;
}

inline std::string BodyOf(const std::string& record) {
  return std::string(ParseRecord(record)->body);
}

inline StepData StepOf(std::int64_t step, float mean,
                       const std::string& padding = "") {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = kStart + step;
  data.schema_id = 1;
  for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
    RoleColumns columns;
    columns.role = role;
    columns.Resize(1);
    Record record;
    record.mean = record.abs_mean = record.min = record.max = mean;
    record.std = 0;
    columns.Set(0, record);
    data.roles.push_back(std::move(columns));
  }
  data.scalars = {{"loss", mean}};
  if (!padding.empty()) {  // Makes messages large.
    for (int i = 0; i < 200; ++i) {
      data.scalars.push_back({padding + std::to_string(i), 1});
    }
  }
  return data;
}

inline std::string StepRecord(std::int64_t step, float mean,
                              const std::string& padding = "") {
  const StepData data = StepOf(step, mean, padding);
  std::string record(EncodedStepSize(data), '\0');
  EncodeStep(data, record);
  return record;
}

// Writes into a store as ingest would.
class Feeder {
 public:
  // Its records seem to have come at `seen_unix_ns`, or now.
  Feeder(Store* store, const std::string& run,
         std::optional<std::int64_t> seen_unix_ns = std::nullopt)
      : store_(store), last_seen_unix_ns_(seen_unix_ns) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "launch";
    hello.process_nonce = std::string(16, 'n');
    hello.start_time_unix_ns = kStart;
    absl::StatusOr<StreamEntry> entry = store->OpenStream(hello, kStart);
    GRADTAP_EXPECT_OK(entry);
    if (entry.ok()) {
      stream_ = entry->id;
      seq_ = entry->durable_seq;
    }
    if (seq_ == 0) {
      const std::string schema = BodyOf(EncodeSchema(OneParameter()));
      StreamCommit commit;
      commit.schemas.push_back({1, schema});
      Commit(std::move(commit));
    }
  }

  void Step(std::int64_t step, float mean, const std::string& padding = "") {
    CommitStep(step, BodyOf(StepRecord(step, mean, padding)));
  }

  void StepAt(std::int64_t step, float mean, std::int64_t time_unix_ns) {
    StepData data = StepOf(step, mean);
    data.wall_time_unix_ns = time_unix_ns;
    std::string record(EncodedStepSize(data), '\0');
    EncodeStep(data, record);
    CommitStep(step, BodyOf(record));
  }

  // A step whose gradient has the histogram of four elements that are `mean`.
  void StepWithHistogram(std::int64_t step, float mean) {
    StepData data = StepOf(step, mean);
    data.histograms = {{Role::kGrad, 0, {BinOf(mean)}, {4}}};
    std::string record(EncodedStepSize(data), '\0');
    EncodeStep(data, record);
    const std::string body = BodyOf(record);
    const auto view = StepView::Parse(body);
    GRADTAP_ASSERT_OK(view);
    const SplitStep split = SplitHistograms(body, *view);
    StreamCommit commit;
    StreamCommit::Step row;
    row.step = step;
    row.records = 3;
    row.body = split.row;
    row.histograms = split.blocks;
    commit.steps.push_back(row);
    Commit(std::move(commit));
  }

  void Gap(std::int64_t first, std::int64_t last) {
    StreamCommit commit;
    commit.gaps.push_back(
        {0,
         {GapCause::kRingFull, first, last,
          static_cast<std::uint64_t>(last - first + 1), "test"}});
    Commit(std::move(commit));
  }

  void End() {
    StreamCommit commit;
    commit.end = EndData{EndReason::kFinished, kStart, 1, 1, 0, 0};
    Commit(std::move(commit));
  }

 private:
  void CommitStep(std::int64_t step, const std::string& body) {
    StreamCommit commit;
    StreamCommit::Step row;
    row.step = step;
    row.records = 3;
    row.body = body;
    commit.steps.push_back(row);
    Commit(std::move(commit));
  }

  void Commit(StreamCommit commit) {
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns =
        last_seen_unix_ns_.value_or(RealClock().UnixNanos());
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
  }

  Store* const store_;
  const std::optional<std::int64_t> last_seen_unix_ns_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
};

class ServiceTest : public ::testing::Test {
 protected:
  void Start(CollectorOptions options = {}) {
    options.data_dir = dir_.path() + "/data";
    options.grpc_listen = "127.0.0.1:0";
    // Whatever else fills this machine's disk.
    if (!options.keeping.disk_reserve_bytes) {
      options.keeping.disk_reserve_bytes = 0;
    }
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
    channel_ = NewChannel();
    stub_ = v1::Query::NewStub(channel_);
  }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(collector_->grpc_address(),
                                     grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  // A call that hangs fails the test instead.
  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<Collector> collector_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Query::Stub> stub_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_SERVICE_TESTING_H_
