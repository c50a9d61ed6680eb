// The program gradtapd as a child of a test, and a few steps sent to it.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_TESTING_H_
#define GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_TESTING_H_

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/service/gradtapd_process.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {

class GradtapdTest : public ::testing::Test {
 protected:
  std::unique_ptr<Gradtapd> Run(const std::vector<std::string>& arguments) {
    return std::make_unique<Gradtapd>(
        dir_.path() + "/stderr" + std::to_string(runs_++), arguments);
  }
  std::unique_ptr<Gradtapd> RunOn(const std::string& folder,
                                  const std::string& listen = "127.0.0.1:0") {
    return Run({"--data-dir", dir_.path() + "/" + folder, "--grpc-listen",
                listen, "--http-listen", "127.0.0.1:0"});
  }

  static std::string AddressOf(const std::string& first_line) {
    const std::size_t begin = first_line.find("grpc=") + 5;
    return first_line.substr(begin, first_line.find(' ', begin) - begin);
  }

  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }

  // One line on standard error, and nothing on standard output.
  static void ExpectFailure(Gradtapd* process, int code,
                            const std::string& text) {
    EXPECT_EQ(process->ReadLine(), "");
    EXPECT_EQ(process->Wait(), code);
    const std::string errors = process->Errors();
    EXPECT_THAT(errors, ::testing::AllOf(::testing::HasSubstr("gradtapd: "),
                                         ::testing::HasSubstr(text)));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }

  gradtap::testing::TempDir dir_;
  int runs_ = 0;
};

inline v1::AgentMessage HelloOf(const std::string& run, char nonce,
                                int records) {
  v1::AgentMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(1);
  hello.set_run(run);
  hello.set_launch("launch");
  hello.set_world_size(1);
  hello.set_process_nonce(std::string(16, nonce));
  hello.set_start_time_unix_ns(kStart);
  hello.set_first_seq(1);
  hello.set_last_seq(static_cast<std::uint64_t>(records));
  return message;
}

// Sends a schema and steps [0, n) and waits until they are acknowledged.
inline void SendSteps(const std::shared_ptr<grpc::Channel>& channel, int n) {
  const auto stub = v1::Telemetry::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  const auto session = stub->Session(&context);
  v1::AgentMessage message = HelloOf("run", 'n', n + 1);
  ASSERT_TRUE(session->Write(message));
  v1::CollectorMessage answer;
  ASSERT_TRUE(session->Read(&answer));
  ASSERT_TRUE(answer.has_welcome()) << answer.ShortDebugString();
  std::string list;
  AppendToRecordList(EncodeSchema(OneParameter()), &list);
  for (int step = 0; step < n; ++step) {
    AppendToRecordList(StepRecord(step, static_cast<float>(step)), &list);
  }
  message.Clear();
  message.mutable_batch()->set_first_seq(1);
  message.mutable_batch()->set_record_count(static_cast<std::uint32_t>(n) + 1);
  message.mutable_batch()->set_frame(CompressFrame(list));
  ASSERT_TRUE(session->Write(message));
  std::uint64_t durable = 0;
  while (durable < static_cast<std::uint64_t>(n) + 1) {
    ASSERT_TRUE(session->Read(&answer));
    if (answer.has_ack()) durable = answer.ack().durable_seq();
  }
  context.TryCancel();
  session->Finish();
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_TESTING_H_
