// Server-Sent Events of a whole collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/sync.h"
#include "server/service/service_testing.h"

namespace gradtap::server {
namespace {

using testing::Feeder;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kPatience{60};
constexpr char kWatch[] = "/api/v1/Watch?run=run&statistics=grad.mean";

// A connection that reads events until it is closed.
class Reader {
 public:
  Reader(const std::string& address, const std::string& path,
         httplib::Headers headers = {})
      : client_("http://" + address) {
    client_.set_read_timeout(kPatience);
    thread_ = std::thread([this, path, headers = std::move(headers)] {
      const httplib::Result result = client_.Get(
          path.c_str(), headers,
          [this](const httplib::Response& head) {
            MutexLock lock(mu_);
            status_ = head.status;
            type_ = head.get_header_value("Content-Type");
            changed_.NotifyAll();
            return true;
          },
          [this](const char* bytes, std::size_t n) {
            MutexLock lock(mu_);
            text_.append(bytes, n);
            changed_.NotifyAll();
            return !closed_;
          });
      MutexLock lock(mu_);
      ended_ = true;
      changed_.NotifyAll();
    });
  }
  ~Reader() { Close(); }

  void Close() {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(mu_);
      closed_ = true;
    }
    client_.stop();
    thread_.join();
  }

  // False: it has not come, or will not.
  bool Await(const std::string& text) {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return text_.find(text) != std::string::npos;
    });
  }
  bool AwaitEnd() {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ended_; });
  }
  int status() {
    Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return status_ != 0; });
    MutexLock lock(mu_);
    return status_;
  }
  std::string type() {
    MutexLock lock(mu_);
    return type_;
  }
  std::string text() {
    MutexLock lock(mu_);
    return text_;
  }

 private:
  template <typename Condition>
  bool Wait(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mu_);
    while (!condition() && !ended_ && changed_.WaitUntil(mu_, until)) {
    }
    return condition();
  }

  httplib::Client client_;
  Mutex mu_;
  CondVar changed_;
  std::string text_ ABSL_GUARDED_BY(mu_);
  std::string type_ ABSL_GUARDED_BY(mu_);
  int status_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

class LiveTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    options.http_heartbeat = std::chrono::milliseconds(20);
    Start(options);
    if (collector_ == nullptr) return;
    feeder_ = std::make_unique<Feeder>(&collector_->store(), "run");
    feeder_->Step(0, 1);
  }

  std::unique_ptr<Reader> Read(httplib::Headers headers = {}) {
    return std::make_unique<Reader>(collector_->http_address(), kWatch,
                                    std::move(headers));
  }

  std::uint32_t OpenWatches() {
    v1::GetStatusResponse status;
    grpc::ClientContext context;
    SetDeadline(&context);
    EXPECT_TRUE(
        stub_->GetStatus(&context, v1::GetStatusRequest(), &status).ok());
    return status.open_watches();
  }

  std::unique_ptr<Feeder> feeder_;
};

// A heartbeat would not tell it in time.
class LiveSilentTest : public testing::ServiceTest {};

TEST_F(LiveSilentTest, AReaderThatClosesGivesItsStreamBack) {
  CollectorOptions options;
  options.http_listen = "127.0.0.1:0";
  options.http_heartbeat = std::chrono::hours(1);
  Start(options);
  Feeder(&collector_->store(), "run").Step(0, 1);
  Reader reader(collector_->http_address(), kWatch);
  ASSERT_TRUE(reader.Await("\"step\":\"0\""));
  reader.Close();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  std::uint32_t open = 1;
  while (open > 0 && std::chrono::steady_clock::now() < until) {
    v1::GetStatusResponse status;
    grpc::ClientContext context;
    SetDeadline(&context);
    ASSERT_TRUE(
        stub_->GetStatus(&context, v1::GetStatusRequest(), &status).ok());
    open = status.open_watches();
  }
  EXPECT_EQ(open, 0u);
}

TEST_F(LiveTest, StepsComeAsTheyAreCommitted) {
  const auto reader = Read();
  ASSERT_TRUE(reader->Await("\"step\":\"0\""));
  EXPECT_EQ(reader->status(), 200);
  EXPECT_EQ(reader->type(), "text/event-stream");
  feeder_->Step(1, 2);
  EXPECT_TRUE(reader->Await("\"step\":\"1\""));
  feeder_->End();
  EXPECT_TRUE(reader->Await("RUN_STATE_FINISHED"));
}

TEST_F(LiveTest, WhoWasCutOffGoesOnWhereItWas) {
  std::string seen;
  {
    const auto reader = Read();
    ASSERT_TRUE(reader->Await("\"step\":\"0\""));
    const std::string text = reader->text();
    seen = text.substr(text.rfind("id: ") + 4);
    seen.erase(seen.find('\n'));
  }
  for (int step = 1; step <= 100; ++step) feeder_->Step(step, 1);
  const auto reader = Read({{"Last-Event-ID", seen}});
  ASSERT_TRUE(reader->Await("\"step\":\"100\""));
  for (int step = 1; step <= 100; ++step) {
    EXPECT_THAT(reader->text(),
                HasSubstr("\"step\":\"" + std::to_string(step) + "\""));
  }
}

TEST_F(LiveTest, AStreamWithoutNewsSaysThatItIsThere) {
  const auto reader = Read();
  EXPECT_TRUE(reader->Await("\n\n:\n\n:\n\n"));
}

TEST_F(LiveTest, ErrorsComeBeforeTheStream) {
  for (const auto& [path, status] : std::vector<std::pair<std::string, int>>{
           {"/api/v1/Watch?run=rnu", 404},
           {"/api/v1/Watch?run=run&match=(", 400},
           {"/api/v1/Watch?ran=run", 400},
           {"/api/v1/Watch?run=run&after_ordinal=99999", 400}}) {
    Reader reader(collector_->http_address(), path);
    EXPECT_EQ(reader.status(), status) << path;
    EXPECT_EQ(reader.type(), "application/json") << path;
  }
}

TEST_F(LiveTest, TheThirtyThirdIsToldToComeAgain) {
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < 32; ++i) {
    readers.push_back(Read());
    ASSERT_TRUE(readers.back()->Await("\"step\":\"0\"")) << i;
  }
  EXPECT_EQ(OpenWatches(), 32u);
  httplib::Client client("http://" + collector_->http_address());
  client.set_read_timeout(kPatience);
  const httplib::Result refused = client.Get(kWatch);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 503);
  EXPECT_EQ(refused->get_header_value("Retry-After"), "5");
  EXPECT_THAT(refused->body, HasSubstr("32 live streams"));
  // Others are served all the same.
  const httplib::Result well = client.Get("/healthz");
  ASSERT_TRUE(well);
  EXPECT_EQ(well->status, 200);
  feeder_->Step(1, 1);
  for (const auto& reader : readers) {
    EXPECT_TRUE(reader->Await("\"step\":\"1\""));
  }
  // Those that leave make room.
  readers.clear();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (OpenWatches() > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(OpenWatches(), 0u);
}

TEST_F(LiveTest, ShutdownEndsStreamsWithAWord) {
  const auto reader = Read();
  ASSERT_TRUE(reader->Await("\"step\":\"0\""));
  collector_->Shutdown();
  EXPECT_TRUE(reader->AwaitEnd());
  EXPECT_THAT(reader->text(), HasSubstr("event: error\ndata: {\"code\":"
                                        "\"UNAVAILABLE\""));
}

}  // namespace
}  // namespace gradtap::server
