// Delivery over TLS, to real gRPC servers.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "agent/delivery/delivery_grpc_fixture.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::TempDir;
using ::gradtap::testing::TestServer;
using std::chrono::milliseconds;

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

class DeliveryTlsTest : public DeliveryGrpcTest {
 protected:
  // A certificate for 127.0.0.1 that signs itself.
  void MakeCertificate(const std::string& name) {
    const std::string command =
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=" + name +
        " -addext subjectAltName=IP:127.0.0.1 -keyout " + Path(name, ".key") +
        " -out " + Path(name, ".pem") + " 2>/dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  std::string Path(const std::string& name, const std::string& suffix) {
    return dir_.path() + "/" + name + suffix;
  }
  std::shared_ptr<grpc::ServerCredentials> ServerCredentials(
      const std::string& name, const std::string& client_ca = {}) {
    grpc::SslServerCredentialsOptions ssl(
        client_ca.empty()
            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    if (!client_ca.empty()) ssl.pem_root_certs = Read(Path(client_ca, ".pem"));
    ssl.pem_key_cert_pairs.push_back(
        {Read(Path(name, ".key")), Read(Path(name, ".pem"))});
    return grpc::SslServerCredentials(ssl);
  }
  // With the certificates "server" and "client".
  DeliveryOptions MutualTls(const TestServer& server) {
    DeliveryOptions options = Options(server.address());
    options.tls = true;
    options.tls_ca_file = Path("server", ".pem");
    options.tls_cert_file = Path("client", ".pem");
    options.tls_key_file = Path("client", ".key");
    return options;
  }

  TempDir dir_;
};

TEST_F(DeliveryTlsTest, StreamsOverTlsWithItsTokenAndCertificate) {
  MakeCertificate("server");
  MakeCertificate("client");
  TestServer server;
  server.Start(0, ServerCredentials("server", "client"));
  DeliveryOptions options = MutualTls(server);
  options.token = "s3cret";
  Create(options);
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  EXPECT_EQ(server.authorization(), "Bearer s3cret");
  server.Stop();
  ExpectAllStored(server, 20);
}

TEST_F(DeliveryTlsTest, FilesThatAreReplacedAreReadForTheNextConnection) {
  MakeCertificate("server");
  MakeCertificate("client");
  TestServer server;
  server.Start(0, ServerCredentials("server", "client"));
  Create(MutualTls(server));
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  server.Stop();
  // The new server trusts the new ones alone, and is trusted by them alone.
  MakeCertificate("server");
  MakeCertificate("client");
  server.Start(server.port(), ServerCredentials("server", "client"));
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 40);
}

TEST_F(DeliveryTlsTest, WhileFilesCannotBeReadTheLastGoodOnesGoOn) {
  MakeCertificate("server");
  MakeCertificate("client");
  TestServer server;
  server.Start(0, ServerCredentials("server", "client"));
  const auto credentials = ServerCredentials("server", "client");
  const DeliveryOptions options = MutualTls(server);
  Create(options);
  // A secret that is taken away as soon as the program runs.
  ASSERT_EQ(::unlink(options.tls_key_file.c_str()), 0);
  ASSERT_EQ(::mkfifo(options.tls_key_file.c_str(), 0600), 0);
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  server.Stop();
  server.Start(server.port(), credentials);
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 40);
}

TEST_F(DeliveryTlsTest, AServerThatTheAuthorityDidNotSignGetsNothing) {
  MakeCertificate("server");
  MakeCertificate("other");
  TestServer server;
  server.Start(0, ServerCredentials("server"));
  DeliveryOptions options = Options(server.address());
  options.tls = true;
  options.tls_ca_file = Path("other", ".pem");
  options.token = "s3cret";
  Create(options);
  PutSteps(5);
  AwaitLine("andshake failed");  // By that the session knows it.
  EXPECT_FALSE(ShutdownTimed(milliseconds(100)).delivered);
  EXPECT_EQ(server.authorization(), "");
  server.Stop();
  EXPECT_EQ(server.collector().hellos, 0);
}

TEST_F(DeliveryTlsTest, AFileThatIsPemButNoCertificateIsSurvived) {
  TestServer server;
  server.Start();
  std::ofstream(Path("junk", ".pem")) << "-----BEGIN CERTIFICATE-----\njunk\n";
  DeliveryOptions options = Options(server.address());
  options.tls = true;
  options.tls_ca_file = Path("junk", ".pem");
  Create(options);
  PutSteps(5);
  AwaitLine("is away");
  EXPECT_FALSE(ShutdownTimed(milliseconds(100)).delivered);
}

}  // namespace
}  // namespace gradtap::agent
