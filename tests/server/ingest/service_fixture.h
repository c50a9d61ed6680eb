// The agents' door over gRPC in this process, before the real store.

#ifndef GRADTAP_TESTS_SERVER_INGEST_SERVICE_FIXTURE_H_
#define GRADTAP_TESTS_SERVER_INGEST_SERVICE_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "server/ingest/ingest.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {

class IngestServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(); }
  void TearDown() override { Stop(); }

  void Start() {
    auto store = OpenRocksdbStore({temp_.path()});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    ingest_ = Ingest::Create(store_.get(), &clock_, limits_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(ingest_->service());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
    channel_ =
        grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  }
  void Stop() {
    if (ingest_ != nullptr) {
      ingest_->Drain(std::chrono::steady_clock::now() +
                     std::chrono::seconds(20));
      EXPECT_EQ(ingest_->open_sessions(), 0U);
    }
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now() +
                        std::chrono::seconds(20));
    }
    server_.reset();
    ingest_.reset();
    store_.reset();
  }
  void Restart() {
    Stop();
    Start();
  }

  StreamEntry Entry() {
    const auto run = store_->FindRun("run");
    return run == nullptr ? StreamEntry() : run->streams[0];
  }

  gradtap::testing::TempDir temp_;
  gradtap::testing::ManualClock clock_;
  IngestLimits limits_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Ingest> ingest_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_TESTS_SERVER_INGEST_SERVICE_FIXTURE_H_
