// A reader over HTTP that takes almost nothing, and whose token is revoked.

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "server/service/doors_testing.h"
#include "server/service/raw_peer.h"

namespace gradtap::server::testing {
namespace {

class SlowReaderTest : public DoorsTest {
 protected:
  std::uint32_t OpenWatches(const std::string& token) {
    grpc::ClientContext context;
    Prepare(&context, token);
    v1::GetStatusResponse answer;
    const grpc::Status status = v1::Query::NewStub(channel_)->GetStatus(
        &context, v1::GetStatusRequest(), &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.open_watches();
  }

  // Its event has more than 16 MB: more than sockets hold.
  static void StoreLargeStep(Store* store) {
    constexpr std::size_t kParameters = 32'000;
    const auto entry = store->OpenStream(MakeHello(), 1);
    GRADTAP_ASSERT_OK(entry);
    Schema names = MakeSchema(1, kParameters);
    for (std::size_t i = 0; i < kParameters; ++i) {
      names.parameters[i].name = std::string(500, 'x') + std::to_string(i);
    }
    const std::string schema = BodyOf(EncodeSchema(names));
    const std::string body = BodyOf(EncodedStep(MakeStep(0, kParameters)));
    StreamCommit commit;
    commit.stream = entry->id;
    commit.first_seq = commit.last_seq = 1;
    commit.schemas.push_back({1, schema});
    StreamCommit::Step row;
    row.step = 0;
    row.records = kParameters;
    row.body = body;
    commit.steps.push_back(row);
    GRADTAP_ASSERT_OK(store->Commit({&commit, 1}));
  }

  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(SlowReaderTest, AStreamEndsInTheMidstOfAnEventIfItsTokenIsRevoked) {
  const std::string admin = tokens_.Add("admin");
  const std::string token = tokens_.Add("read");
  CollectorOptions options;
  options.http_connections.write_time = std::chrono::hours(1);
  options.http_connections.answer_time = std::chrono::hours(1);
  Start(Way::kLoopback, options);
  channel_ = NewChannel();
  StoreLargeStep(&collector_->store());
  const int reader = ConnectTo(collector_->http_address());
  ASSERT_GE(reader, 0);
  const std::string request =
      "GET /api/v1/Watch?run=run&statistics=grad.mean HTTP/1.1\r\n"
      "Host: localhost\r\nAuthorization: " +
      Bearer(token) + "\r\n\r\n";
  ASSERT_EQ(::send(reader, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string got;
  char bytes[4'096];
  while (got.size() < 100'000) {
    const ssize_t n = ::recv(reader, bytes, sizeof bytes, 0);
    ASSERT_GT(n, 0) << got;
    got.append(bytes, static_cast<std::size_t>(n));
  }
  EXPECT_EQ(OpenWatches(admin), 1u);
  tokens_.Revoke(token);
  EXPECT_TRUE(Eventually([&] { return OpenWatches(admin) == 0; }));
  ::close(reader);
}

}  // namespace
}  // namespace gradtap::server::testing
