#include "server/notify/alert_sender.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/sync.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::MemoryStore;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

// Somebody who takes alerts, and answers as told.
class Receiver {
 public:
  Receiver() {
    server_.Post(".*", [this](const httplib::Request& request,
                              httplib::Response& response) {
      MutexLock lock(mu_);
      response.status = status_;
      requests_.push_back(request.path + " " + request.body);
      came_.NotifyAll();
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
  }
  ~Receiver() {
    while (!server_.is_running()) std::this_thread::yield();
    server_.stop();
    thread_.join();
  }

  int port() const { return port_; }
  void Answer(int status) {
    MutexLock lock(mu_);
    status_ = status;
  }
  // Waits for so many requests.
  std::vector<std::string> Await(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mu_);
    while (requests_.size() < count && came_.WaitUntil(mu_, deadline)) {
    }
    return requests_;
  }

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  Mutex mu_;
  CondVar came_;
  int status_ ABSL_GUARDED_BY(mu_) = 200;
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mu_);
};

class AlertSenderTest : public ::testing::Test {
 protected:
  AlertSenderTest() {
    StreamHello hello;
    hello.run = "gpt";
    hello.process_nonce = std::string(16, 'n');
    EXPECT_THAT(store_.OpenStream(hello, 1), IsOk());
    log_ = std::make_unique<AlertLog>(&store_, &clock_);
  }

  void Put(std::uint64_t id, bool active) {
    v1::Alert alert;
    alert.set_id(id);
    alert.set_run("gpt");
    alert.set_rule(v1::HEALTH_RULE_NONFINITE);
    alert.set_active(active);
    alert.set_summary("alert " + std::to_string(id));
    alert.set_raised_unix_ns(clock_.UnixNanos());
    if (!active) alert.set_ended_unix_ns(clock_.UnixNanos());
    EXPECT_THAT(log_->Write(*store_.FindRun("gpt"), {alert}, {}, {}), IsOk());
  }

  void Start(Destination to,
             std::chrono::milliseconds resend = std::chrono::hours(1)) {
    SenderOptions options;
    options.to = to;
    options.url.host = "127.0.0.1";
    options.url.port = static_cast<std::uint16_t>(receiver_.port());
    options.url.path = "/base";
    options.page = "http://page";
    options.resend = resend;
    options.first_retry = std::chrono::milliseconds(10);
    options.last_retry = std::chrono::milliseconds(20);
    sender_ = std::make_unique<AlertSender>(log_.get(), &clock_, options);
  }

  // Waits until the destination has been told all.
  void AwaitTold(Destination to) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!log_->Untold(to, 0).empty() &&
           std::chrono::steady_clock::now() < deadline) {
      log_->Wait(
          ~std::uint64_t{0}, log_->wakes(),
          std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
    }
    EXPECT_TRUE(log_->Untold(to, 0).empty());
  }

  MemoryStore store_;
  ManualClock clock_;
  std::unique_ptr<AlertLog> log_;
  Receiver receiver_;
  std::unique_ptr<AlertSender> sender_;
};

TEST_F(AlertSenderTest, AWebhookHearsOfEachBeginningAndEndOnce) {
  Start(Destination::kWebhook);
  Put(1, true);
  AwaitTold(Destination::kWebhook);
  Put(1, true);  // Its figures have changed: nothing to tell.
  Put(1, false);
  AwaitTold(Destination::kWebhook);
  const auto requests = receiver_.Await(2);
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_THAT(requests[0], AllOf(HasSubstr("/base "), HasSubstr("\"firing\"")));
  EXPECT_THAT(requests[1], HasSubstr("\"resolved\""));
  // A sender that starts anew goes on there.
  sender_ = nullptr;
  Start(Destination::kWebhook);
  Put(2, true);
  AwaitTold(Destination::kWebhook);
  EXPECT_THAT(receiver_.Await(3), SizeIs(3));
}

TEST_F(AlertSenderTest, WhatHasComeAndGoneIsToldAsBoth) {
  Put(1, true);
  Put(1, false);
  Start(Destination::kWebhook);
  AwaitTold(Destination::kWebhook);
  const auto requests = receiver_.Await(2);
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_THAT(requests[0], HasSubstr("\"firing\""));
  EXPECT_THAT(requests[1], HasSubstr("\"resolved\""));
}

TEST_F(AlertSenderTest, WhoIsAwayIsToldWhenHeIsBack) {
  receiver_.Answer(503);
  Start(Destination::kAlertmanager);
  Put(1, true);
  receiver_.Await(3);
  EXPECT_THAT(log_->Untold(Destination::kAlertmanager, 0), SizeIs(1));
  Put(2, true);
  receiver_.Answer(200);
  AwaitTold(Destination::kAlertmanager);
  const auto requests = receiver_.Await(4);
  EXPECT_THAT(requests.back(),
              AllOf(HasSubstr("/base/api/v2/alerts "), HasSubstr("alert 1"),
                    HasSubstr("alert 2")));
  EXPECT_GE(log_->calls(Destination::kAlertmanager).failed, 2U);
  EXPECT_GE(log_->calls(Destination::kAlertmanager).sent, 1U);
}

TEST_F(AlertSenderTest, WhoRefusesIsNotAskedAgainForTheSame) {
  receiver_.Answer(400);
  Start(Destination::kWebhook);
  Put(1, true);
  AwaitTold(Destination::kWebhook);
  Put(2, true);
  AwaitTold(Destination::kWebhook);
  EXPECT_THAT(receiver_.Await(2), SizeIs(2));
  EXPECT_EQ(log_->calls(Destination::kWebhook).failed, 2U);
}

TEST_F(AlertSenderTest, AlertmanagerHearsAgainOfWhatIsActive) {
  Put(1, true);
  Put(2, true);
  Put(2, false);
  Start(Destination::kAlertmanager, std::chrono::milliseconds(5));
  const auto requests = receiver_.Await(6);
  EXPECT_THAT(requests.back(), AllOf(HasSubstr("alert 1"),
                                     ::testing::Not(HasSubstr("alert 2"))));
}

TEST_F(AlertSenderTest, WhatEndedLongAgoIsNoNews) {
  Put(1, true);
  Put(1, false);
  clock_.Advance(std::chrono::hours(2));
  Put(2, true);
  Start(Destination::kWebhook);
  const auto requests = receiver_.Await(1);
  EXPECT_THAT(requests[0], HasSubstr("alert 2"));
}

TEST_F(AlertSenderTest, NobodyThereEndsNothingAndHoldsNobodyUp) {
  SenderOptions options;
  options.url.host = "127.0.0.1";
  options.url.port = 1;
  options.first_retry = std::chrono::hours(1);
  Put(1, true);
  AlertSender sender(log_.get(), &clock_, options);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (log_->calls(Destination::kAlertmanager).failed == 0 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(log_->calls(Destination::kAlertmanager).failed, 1U);
  // Its end does not wait for the hour.
}

// Takes connections, if it is to, and never says a word.
class Silence {
 public:
  explicit Silence(bool accepts) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const at = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(socket_, at, size), 0);
    EXPECT_EQ(::listen(socket_, accepts ? 8 : 0), 0);
    EXPECT_EQ(::getsockname(socket_, at, &size), 0);
    port_ = ntohs(address.sin_port);
    // Of a full queue the system answers nobody any more.
    for (int i = 0; !accepts && i < 4; ++i) {
      others_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      EXPECT_TRUE(::connect(others_.back(), at, size) == 0 ||
                  errno == EINPROGRESS);
    }
  }
  ~Silence() {
    for (const int other : others_) ::close(other);
    ::close(socket_);
  }
  std::uint16_t port() const { return port_; }
  // Waits for somebody whom it could take.
  void AwaitConnection() const {
    pollfd wanted{socket_, POLLIN, 0};
    EXPECT_EQ(::poll(&wanted, 1, 120'000), 1);
  }

 private:
  const int socket_;
  std::vector<int> others_;
  std::uint16_t port_ = 0;
};

// Or the test would not end: its patience is an hour.
TEST_F(AlertSenderTest, WhoTakesAlertsAndNeverAnswersHoldsNoShutdownUp) {
  const Silence silence(true);
  SenderOptions options;
  options.to = Destination::kWebhook;
  options.url.host = "127.0.0.1";
  options.url.port = silence.port();
  options.timeout = std::chrono::hours(1);
  Put(1, true);
  sender_ = std::make_unique<AlertSender>(log_.get(), &clock_, options);
  silence.AwaitConnection();
  sender_ = nullptr;
  EXPECT_THAT(log_->Untold(Destination::kWebhook, 0), SizeIs(1));
  EXPECT_EQ(log_->calls(Destination::kWebhook).failed, 0U);
}

TEST_F(AlertSenderTest, WhoNeverConnectsHoldsNoShutdownUp) {
  const Silence silence(false);
  SenderOptions options;
  options.to = Destination::kWebhook;
  options.url.host = "127.0.0.1";
  options.url.port = silence.port();
  options.timeout = std::chrono::hours(1);
  Put(1, true);
  for (int i = 0; i < 3; ++i) {  // Wherever it is by then.
    sender_ = std::make_unique<AlertSender>(log_.get(), &clock_, options);
    std::this_thread::yield();
    sender_ = nullptr;
  }
  EXPECT_THAT(log_->Untold(Destination::kWebhook, 0), SizeIs(1));
}

}  // namespace
}  // namespace gradtap::server
