// A collector behind its doors, and callers of each kind before them.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_DOORS_TESTING_H_
#define GRADTAP_TESTS_SERVER_SERVICE_DOORS_TESTING_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gradtap/v1/query.grpc.pb.h"
#include "gradtap/v1/telemetry.grpc.pb.h"
#include "gradtap/v1/upkeep.grpc.pb.h"
#include "server/auth/auth_testing.h"
#include "server/ingest/batch_builder.h"
#include "server/service/collector.h"
#include "support/certificates.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {

enum class Way { kTls, kLoopback, kUnix };

class DoorsTest : public ::testing::Test {
 protected:
  // Everything below dir_; tokens are asked for.
  void Start(Way way, CollectorOptions options = {}) {
    way_ = way;
    options.data_dir = dir_.path() + "/data";
    options.token_file = tokens_.path();
    options.backup_dir = "off";
    options.grpc_listen = way == Way::kUnix ? "" : "127.0.0.1:0";
    if (way == Way::kUnix) {
      options.grpc_socket = "unix:" + dir_.path() + "/socket/grpc";
    } else {
      options.http_listen = "127.0.0.1:0";
    }
    if (way == Way::kTls) {
      options.tls.cert = server_.cert;
      options.tls.key = server_.key;
    }
    options.keeping.disk_reserve_bytes = 0;
    options.say = [this](const std::string& line) {
      MutexLock lock(said_mu_);
      said_ += line + "\n";
    };
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
  }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    std::shared_ptr<grpc::ChannelCredentials> credentials =
        grpc::InsecureChannelCredentials();
    if (way_ == Way::kTls) {
      grpc::SslCredentialsOptions ssl;
      ssl.pem_root_certs = trusted_;
      ssl.pem_cert_chain = client_cert_;
      ssl.pem_private_key = client_key_;
      credentials = grpc::SslCredentials(ssl);
    }
    return grpc::CreateCustomChannel(collector_->grpc_address(), credentials,
                                     arguments);
  }

  std::unique_ptr<httplib::Client> NewHttp() {
    auto client = std::make_unique<httplib::Client>(
        (way_ == Way::kTls ? "https://" : "http://") +
        collector_->http_address());
    client->set_read_timeout(60);
    if (way_ == Way::kTls) client->set_ca_cert_path(server_.cert.c_str());
    return client;
  }

  // A call with a deadline, and a token unless it is empty.
  static void Prepare(grpc::ClientContext* context, const std::string& token) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
    if (!token.empty()) context->AddMetadata("authorization", Bearer(token));
  }

  // An agent that says hello and sends a schema and a step. OK: acknowledged.
  static grpc::Status Record(const std::shared_ptr<grpc::Channel>& channel,
                             const std::string& token, const std::string& run) {
    const auto stub = v1::Telemetry::NewStub(channel);
    grpc::ClientContext context;
    Prepare(&context, token);
    const auto stream = stub->Session(&context);
    v1::AgentMessage message;
    v1::Hello* const hello = message.mutable_hello();
    hello->set_protocol_version(1);
    hello->set_run(run);
    hello->set_launch("launch");
    hello->set_world_size(1);
    hello->set_process_nonce(NextNonce());
    hello->set_start_time_unix_ns(1);
    stream->Write(message);
    const BuiltBatch batch =
        MakeBatch(1, {SchemaRecord(), EncodedStep(MakeStep(0, 2, 1))});
    message.Clear();
    message.mutable_batch()->set_first_seq(batch.first_seq);
    message.mutable_batch()->set_record_count(batch.record_count);
    message.mutable_batch()->set_frame(batch.frame);
    stream->Write(message);
    message.Clear();
    message.mutable_bye()->set_reason("done");
    stream->Write(message);
    stream->WritesDone();
    v1::CollectorMessage answer;
    std::uint64_t durable = 0;
    while (stream->Read(&answer)) {
      if (answer.has_ack()) durable = answer.ack().durable_seq();
    }
    const grpc::Status status = stream->Finish();
    if (status.ok()) {
      EXPECT_EQ(durable, batch.record_count);
    }
    return status;
  }

  std::string said() {
    MutexLock lock(said_mu_);
    return said_;
  }

  gradtap::testing::TempDir dir_;
  TokenMaker tokens_{dir_.path() + "/tokens"};
  const gradtap::testing::MadeCertificate server_ =
      gradtap::testing::MakeCertificate(dir_.path(), "server");
  std::string trusted_ = gradtap::testing::ReadWhole(server_.cert);
  std::string client_cert_, client_key_;
  Way way_ = Way::kTls;
  Mutex said_mu_;
  std::string said_;
  std::unique_ptr<Collector> collector_;

 private:
  static std::string NextNonce() {
    static std::atomic<int> last{0};
    std::string nonce = std::to_string(++last);
    return std::string(16 - nonce.size(), '0') + nonce;
  }
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_DOORS_TESTING_H_
