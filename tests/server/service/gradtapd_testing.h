// The program gradtapd as a child of a test, and a few steps sent to it.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_TESTING_H_
#define GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_TESTING_H_

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/service/service_testing.h"

extern char** environ;

namespace gradtap::server::testing {

// A child of the test, killed with it.
class Gradtapd {
 public:
  Gradtapd(const std::string& error_file,
           const std::vector<std::string>& arguments) {
    int out[2];
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO,
                                     error_file.c_str(),
                                     O_CREAT | O_TRUNC | O_WRONLY, 0600);
    std::vector<std::string> all = {GRADTAPD_PATH};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&pid_, GRADTAPD_PATH, &actions, nullptr,
                            argv.data(), environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    out_ = ::fdopen(out[0], "r");
    error_file_ = error_file;
  }
  ~Gradtapd() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      Wait();
    }
    std::fclose(out_);
  }
  Gradtapd(const Gradtapd&) = delete;
  Gradtapd& operator=(const Gradtapd&) = delete;

  // The next line of its standard output, without the newline; "" at the end.
  std::string ReadLine() {
    std::string line;
    for (int c = std::fgetc(out_); c != EOF && c != '\n';
         c = std::fgetc(out_)) {
      line.push_back(static_cast<char>(c));
    }
    return line;
  }

  void Signal(int number) { ::kill(pid_, number); }

  // Its exit code, or minus the signal that killed it.
  int Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  std::string Errors() const { return ReadAll(error_file_); }

  pid_t pid() const { return pid_; }
  std::size_t OpenFiles() const {
    const std::filesystem::directory_iterator files(
        "/proc/" + std::to_string(pid_) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  // A file of /proc.
  std::string Proc(const std::string& name) const {
    return ReadAll("/proc/" + std::to_string(pid_) + "/" + name);
  }

 private:
  static std::string ReadAll(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  pid_t pid_ = 0;
  std::FILE* out_ = nullptr;
  std::string error_file_;
};

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
