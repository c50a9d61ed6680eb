// Places for watches: who loses one, and how many a client has.

#include <gmock/gmock.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/service/doors_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

class WatchPlacesTest : public DoorsTest {
 protected:
  void StartWithRun(CollectorOptions options) {
    admin_ = tokens_.Add("admin");
    Start(Way::kLoopback, options);
    ASSERT_NE(collector_, nullptr);
    const grpc::Status made = Record(NewChannel(), admin_, "run");
    ASSERT_TRUE(made.ok()) << made.error_message();
    status_ = v1::Query::NewStub(NewChannel());
  }

  // Of whom a message needs more room than it has before it is read.
  std::unique_ptr<v1::Query::Stub> NarrowStub() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
    return v1::Query::NewStub(grpc::CreateCustomChannel(
        collector_->grpc_address(), grpc::InsecureChannelCredentials(),
        arguments));
  }

  template <typename Response>
  struct Open {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<Response>> reader;

    // Its first message; false: it was refused.
    bool Read() {
      Response first;
      return reader->Read(&first);
    }
  };
  using OpenWatch = Open<v1::WatchResponse>;
  using OpenAlerts = Open<v1::WatchAlertsResponse>;

  static std::unique_ptr<OpenWatch> Watch(v1::Query::Stub* stub,
                                          const std::string& token) {
    auto open = std::make_unique<OpenWatch>();
    Prepare(&open->context, token);
    v1::WatchRequest request;
    request.set_run("run");
    open->reader = stub->Watch(&open->context, request);
    return open;
  }
  static std::unique_ptr<OpenAlerts> WatchAlerts(v1::Query::Stub* stub,
                                                 const std::string& token) {
    auto open = std::make_unique<OpenAlerts>();
    Prepare(&open->context, token);
    open->reader = stub->WatchAlerts(&open->context, v1::WatchAlertsRequest());
    return open;
  }

  v1::GetStatusResponse Status() {
    grpc::ClientContext context;
    Prepare(&context, admin_);
    v1::GetStatusResponse answer;
    EXPECT_TRUE(
        status_->GetStatus(&context, v1::GetStatusRequest(), &answer).ok());
    return answer;
  }
  std::uint64_t Refused(const std::string& name) {
    const v1::GetStatusResponse answer = Status();
    for (const v1::LimitFigures& limit : answer.figures().limits()) {
      if (limit.limit() == name) return limit.refused();
    }
    return 0;
  }
  // False: not within a minute.
  static bool Await(const std::function<bool()>& what) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!what()) {
      if (std::chrono::steady_clock::now() > end) return false;
      // So that asking is not what is asked too often.
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  bool AwaitOpenWatches(std::uint32_t count) {
    return Await([&] { return Status().open_watches() == count; });
  }

  std::string admin_;
  std::unique_ptr<v1::Query::Stub> status_;
};

TEST_F(WatchPlacesTest, WhoTakesNoMessageLosesItsPlace) {
  CollectorOptions options;
  options.connections.answer_time = std::chrono::seconds(1);
  StartWithRun(options);
  const auto stub = NarrowStub();
  const auto watch = Watch(stub.get(), admin_);
  const auto alerts = WatchAlerts(stub.get(), admin_);
  EXPECT_TRUE(Await([this] { return Refused("answer_time") == 2; }));
  EXPECT_TRUE(AwaitOpenWatches(0));
  // Nothing of the message has come whole.
  EXPECT_FALSE(watch->Read());
  EXPECT_FALSE(alerts->Read());
  EXPECT_EQ(watch->reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(alerts->reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WatchPlacesTest, ARevokedTokenLosesThemThoughItTakesNoMessage) {
  const std::string token = tokens_.Add("read");
  StartWithRun({});
  const auto stub = NarrowStub();
  const auto watch = Watch(stub.get(), token);
  const auto alerts = WatchAlerts(stub.get(), token);
  EXPECT_TRUE(AwaitOpenWatches(2));
  tokens_.Revoke(token);
  EXPECT_TRUE(AwaitOpenWatches(0));
  EXPECT_EQ(Refused("answer_time"), 0u);
}

TEST_F(WatchPlacesTest, OneClientHasHalfOfThemAndLeavesTheRestToOthers) {
  const std::string one = tokens_.Add("read");
  const std::string other = tokens_.Add("read", "run");
  CollectorOptions options;
  options.max_watches = 4;
  StartWithRun(options);
  const auto stub = v1::Query::NewStub(NewChannel());
  std::vector<std::unique_ptr<OpenWatch>> watches;
  std::vector<std::unique_ptr<OpenAlerts>> alerts;
  for (int i = 0; i < 2; ++i) {
    watches.push_back(Watch(stub.get(), one));
    EXPECT_TRUE(watches.back()->Read());
    alerts.push_back(WatchAlerts(stub.get(), one));
    EXPECT_TRUE(alerts.back()->Read());
  }
  // On a connection of its own neither.
  const auto another = v1::Query::NewStub(NewChannel());
  grpc::Status status = Watch(another.get(), one)->reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("2 of 4 watches are yours"));
  status = WatchAlerts(another.get(), one)->reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(),
              HasSubstr("2 of 4 watches of alerts are yours"));
  EXPECT_EQ(Refused("watches"), 2u);
  // Whoever else asks is let in, on whichever connection.
  for (int i = 0; i < 2; ++i) {
    watches.push_back(Watch(stub.get(), other));
    EXPECT_TRUE(watches.back()->Read());
  }
  alerts.push_back(WatchAlerts(stub.get(), admin_));
  EXPECT_TRUE(alerts.back()->Read());
  EXPECT_EQ(Watch(stub.get(), admin_)->reader->Finish().error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  // One that is closed may be opened again.
  watches.front()->context.TryCancel();
  watches.front()->reader->Finish();
  EXPECT_TRUE(AwaitOpenWatches(6));
  watches.front() = Watch(stub.get(), one);
  EXPECT_TRUE(watches.front()->Read());
}

}  // namespace
}  // namespace gradtap::server::testing
