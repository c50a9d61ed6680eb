#include "agent/delivery/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "agent/delivery/tls_files.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

DeliveryOptions Good() {
  DeliveryOptions options;
  options.collector = "127.0.0.1:7317";
  options.run = "run-1";
  return options;
}

void ExpectWrong(const DeliveryOptions& options, const std::string& field) {
  EXPECT_THAT(ValidateOptions(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
}

TEST(OptionsTest, GoodOnesPass) {
  GRADTAP_EXPECT_OK(ValidateOptions(Good()));
  for (const char* collector : {"localhost:1", "collector.example.org:65535",
                                "[::1]:7317", "10.0.0.1:0080"}) {
    GRADTAP_EXPECT_OK(ValidateCollector(collector));
  }
}

TEST(OptionsTest, AnAddressThatCannotBeOneIsNamed) {
  for (const char* collector :
       {"", ":", "host", "host:", ":7317", "host:0", "host:65536", "host:7x",
        "::1:7317", "http://host:1", "host:-1", "ho st:1", "host:99999999999",
        "a\nb:1", "[]:1", "[::1]", "user@host:1"}) {
    EXPECT_THAT(ValidateCollector(collector),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("HOST:PORT"), Not(HasSubstr("\n")))))
        << collector;
  }
  EXPECT_FALSE(ValidateCollector(std::string(100'000, 'a') + ":1").ok());
}

TEST(OptionsTest, EachWrongFieldIsNamed) {
  DeliveryOptions options = Good();
  options.run = "../etc";
  ExpectWrong(options, "run:");
  options = Good();
  options.rank = 4;
  options.world_size = 4;
  ExpectWrong(options, "rank: 4");
  options = Good();
  options.world_size = 0;
  ExpectWrong(options, "world size");
  options = Good();
  options.launch = std::string(129, 'x');
  ExpectWrong(options, "launch:");
  options = Good();
  options.ring_bytes = 1000;
  ExpectWrong(options, "ring_bytes: 1000");
  options = Good();
  options.spool_bytes = 7;
  ExpectWrong(options, "spool_bytes: 7");
  options = Good();
  options.offline = true;
  ExpectWrong(options, "spool_folder");
  options = Good();
  options.collector = "";
  ExpectWrong(options, "collector:");
  options.spool_folder = "/spool";
  options.offline = true;
  GRADTAP_EXPECT_OK(ValidateOptions(options));
  options = Good();
  options.tags["bad key"] = "v";
  ExpectWrong(options, "bad key");
  options = Good();
  options.tags["k"] = "\xff";
  ExpectWrong(options, "'k'");
}

TEST(OptionsTest, ATokenForAnotherMachineWithoutTlsIsRefusedAndNotShown) {
  DeliveryOptions options = Good();
  options.token = "s3cret";
  for (const char* here : {"localhost:1", "[::1]:1", "unix:/run/grpc"}) {
    options.collector = here;
    GRADTAP_EXPECT_OK(ValidateOptions(options));
  }
  options.collector = "192.0.2.1:1";
  EXPECT_THAT(ValidateOptions(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token"), Not(HasSubstr("s3cret")))));
  options.tls = true;
  GRADTAP_EXPECT_OK(ValidateOptions(options));
  options.token = "s3cret\r\nx-evil: 1";
  EXPECT_THAT(ValidateOptions(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token"), Not(HasSubstr("s3cret")))));
}

TEST(OptionsTest, TlsFilesWithoutTlsAndHalfAPairAreRefused) {
  DeliveryOptions options = Good();
  options.tls_ca_file = "/tmp/ca.pem";
  ExpectWrong(options, "tls: it is off");
  options.tls = true;
  GRADTAP_EXPECT_OK(ValidateOptions(options));
  options.tls_cert_file = "/tmp/cert.pem";
  ExpectWrong(options, "tls_key_file");
}

TEST(OptionsTest, TlsFilesAreReadOrNamed) {
  TempDir dir;
  TlsFileNames names;
  names.ca = dir.path() + "/ca.pem";
  EXPECT_THAT(ReadTlsFiles(names),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tls_ca_file"), HasSubstr("ca.pem"))));
  std::ofstream(names.ca) << "not a certificate";
  EXPECT_THAT(ReadTlsFiles(names),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("PEM")));
  std::ofstream(names.ca) << "-----BEGIN CERTIFICATE-----\n";
  const auto files = ReadTlsFiles(names);
  GRADTAP_ASSERT_OK(files);
  EXPECT_THAT(files->ca_pem, HasSubstr("BEGIN"));
  names.ca = dir.path();  // A folder.
  EXPECT_FALSE(ReadTlsFiles(names).ok());
  names.ca = dir.path() + "/large.pem";
  std::ofstream(names.ca) << std::string(2 << 20, 'x');
  EXPECT_THAT(ReadTlsFiles(names),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 MiB")));
}

}  // namespace
}  // namespace gradtap::agent
