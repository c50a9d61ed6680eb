// A receiver of remote write that goes away and comes back.

#include "server/forward/remote_writer.h"

#include <gtest/gtest.h>
#include <httplib.h>
#include <snappy.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/name_filter.h"
#include "server/query/query_testing.h"

namespace gradtap::server {
namespace {

using testing::kSecond;
using testing::kStart;
using testing::MakeParameter;
using testing::MakeSchema;
using testing::MakeStep;

// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

// Takes samples, or is away.
class Receiver {
 public:
  Receiver() {
    // Later versions of cpp-httplib answer encodings that they do not know by
    // themselves (415); what is not said to be encoded comes as it is.
    server_.set_pre_routing_handler([](const httplib::Request& request,
                                       httplib::Response&) {
      const_cast<httplib::Request&>(request).headers.erase("Content-Encoding");
      return httplib::Server::HandlerResponse::Unhandled;
    });
    server_.Post(".*", [this](const httplib::Request& request,
                              httplib::Response& response) {
      std::string body;
      EXPECT_TRUE(
          snappy::Uncompress(request.body.data(), request.body.size(), &body));
      MutexLock lock(mu_);
      response.status = away_ ? 503 : 204;
      if (away_) {
        ++refused_;
      } else {
        taken_.push_back(std::move(body));
      }
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

  std::uint16_t port() const { return static_cast<std::uint16_t>(port_); }
  void SetAway(bool away) {
    MutexLock lock(mu_);
    away_ = away;
  }
  // Waits for so many requests that it has taken, and so many refused.
  std::vector<std::string> Await(std::size_t taken, std::size_t refused) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mu_);
    while ((taken_.size() < taken || refused_ < refused) &&
           came_.WaitUntil(mu_, deadline)) {
    }
    return taken_;
  }

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  Mutex mu_;
  CondVar came_;
  bool away_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::string> taken_ ABSL_GUARDED_BY(mu_);
  std::size_t refused_ ABSL_GUARDED_BY(mu_) = 0;
};

bool HasMark(const std::string& request) {
  const double stale = promql::Stale();
  char bytes[sizeof stale];
  std::memcpy(bytes, &stale, sizeof stale);
  return request.find(std::string(bytes, sizeof bytes)) != std::string::npos;
}

class RemoteWriterTest : public testing::QueryTest {
 protected:
  void Step(StreamId stream, const Schema& schema, int step, bool absent) {
    StepData data = MakeStep(schema, step, 1, kStart + step * kSecond);
    for (RoleColumns& columns : data.roles) {
      if (absent) columns.SetAbsent(0);
    }
    store_.AddStep(stream, 0, data);
  }

  // What is there already is forwarded, too.
  std::unique_ptr<RemoteWriter> Start() {
    const Attachment cursor{"remote_write", "0"};
    GRADTAP_EXPECT_OK(
        store_.WriteAttachments(*store_.FindRun("run"), {&cursor, 1}));
    RemoteWriteOptions options;
    options.url.host = "127.0.0.1";
    options.url.port = receiver_.port();
    options.selection.statistics = *ParseMetricStatistics("grad.mean");
    options.selection.match =
        std::make_shared<const NameFilter>(*NameFilter::Create({"^fc"}, {}));
    options.first_retry = options.last_retry = std::chrono::milliseconds(10);
    options.forget_after = std::chrono::milliseconds(0);
    return std::make_unique<RemoteWriter>(&store_, options);
  }

  Receiver receiver_;
};

TEST_F(RemoteWriterTest, AValueThatEndsWhileTheReceiverIsAwayIsMarked) {
  const Schema schema = MakeSchema(1, {MakeParameter("fc")});
  const StreamId stream = AddRun("run", schema, 1);
  const auto writer = Start();
  receiver_.Await(1, 0);
  receiver_.SetAway(true);
  Step(stream, schema, 1, /*absent=*/false);
  // Between the two the writer has looked what it may forget.
  receiver_.Await(1, 2);
  Step(stream, schema, 2, /*absent=*/true);
  receiver_.SetAway(false);
  const std::vector<std::string> taken = receiver_.Await(3, 2);
  ASSERT_EQ(taken.size(), 3u);
  EXPECT_FALSE(HasMark(taken[0]));
  EXPECT_FALSE(HasMark(taken[1]));
  EXPECT_TRUE(HasMark(taken[2]));
}

}  // namespace
}  // namespace gradtap::server
