#include "server/http/query_wait.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "server/http/event_reader.h"
#include "server/http/http_server.h"
#include "server/service/service_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::kPatience;

TEST(LookForClientTest, WhoHasGoneStaysSo) {
  bool gone = false;
  const Cancelled look =
      LookForClient([&gone] { return gone; }, milliseconds(0));
  EXPECT_FALSE(look());
  gone = true;
  EXPECT_TRUE(look());
  gone = false;
  EXPECT_TRUE(look());
}

TEST(LookForClientTest, TheSocketIsLookedAtEveryNowAndThen) {
  int looks = 0;
  const Cancelled look = LookForClient(
      [&looks] {
        ++looks;
        return false;
      },
      hours(1));
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(look());
  EXPECT_EQ(looks, 1);
  EXPECT_FALSE(LookForClient(nullptr)());
}

// Queries of clients that have gone by the time that it is their turn.
class GoneClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenRocksdbStore({dir_.path()});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    testing::Feeder(store_.get(), "run").Step(0, 1);
    QueryEnvironment environment;
    environment.store = store_.get();
    environment.clock = &RealClock();
    backend_ = std::make_unique<QueryBackend>(std::move(environment),
                                              QueryBackendOptions{1, 64});
    HttpOptions options;
    const auto listen = ParseListenAddress("127.0.0.1:0");
    GRADTAP_ASSERT_OK(listen);
    options.listen = *listen;
    auto http = HttpServer::Start(std::move(options), backend_.get());
    GRADTAP_ASSERT_OK(http);
    http_ = *std::move(http);
  }

  // Asks, and closes when the query waits for its turn.
  void AskAndGo(const std::string& path) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(http_->address().port));
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(
        ::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to),
        0);
    const std::string request =
        "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    ASSERT_EQ(::send(socket, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (backend_->environment().calls().waiting == 0 &&
           std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
    // Until the other side has heard of it.
    ::shutdown(socket, SHUT_WR);
    tcp_info info{};
    socklen_t size = sizeof info;
    while (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
           info.tcpi_state == TCP_FIN_WAIT1 &&
           std::chrono::steady_clock::now() < until) {
    }
    ::close(socket);
  }

  std::uint64_t Failed(const std::string& method) const {
    for (const CallFigures& one : backend_->environment().calls().methods) {
      if (one.method == method) return one.failed;
    }
    return 0;
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<QueryBackend> backend_;
  std::unique_ptr<HttpServer> http_;
};

TEST_F(GoneClientTest, AreNotAnswered) {
  for (const auto& [path, method] :
       {std::pair("/api/v1/GetRun?run=run", "GetRun"),
        std::pair("/csv/GetSeries?runs=run&statistics=grad.mean", "GetSeries"),
        std::pair("/prometheus/api/v1/query?query=1", "Prometheus")}) {
    std::latch begin(1);
    std::latch go(1);
    backend_->Submit(
        "Test", "me", [] { return false; },
        [&](const Cancelled&) {
          begin.count_down();
          go.wait();
          return absl::OkStatus();
        },
        [](const absl::Status&) {});
    begin.wait();
    AskAndGo(path);
    go.count_down();
    backend_->WaitIdle(std::chrono::steady_clock::now() + kPatience);
    EXPECT_EQ(Failed(method), 1u) << path;
  }
}

}  // namespace
}  // namespace gradtap::server
