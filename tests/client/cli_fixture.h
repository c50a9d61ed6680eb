// Command lines against a collector with canned runs and a status.

#ifndef GRADTAP_TESTS_CLIENT_CLI_FIXTURE_H_
#define GRADTAP_TESTS_CLIENT_CLI_FIXTURE_H_

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "client/cli_run.h"

namespace gradtap::client::testing {

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = MakeMnist();
    collector_.service.runs["values"] = MakeValues("values", {1, 2});
    v1::GetStatusResponse& status = collector_.service.status;
    status.set_version("0.1.0");
    status.set_start_time_unix_ns(kFakeStart);
    status.set_data_dir("/var/lib/gradtap");
    status.set_format_version(1);
    status.set_runs(2);
    status.set_stored_steps(1234567);
    status.set_batches(100);
    status.set_syncs(10);
    status.set_disk_bytes(1 << 20);
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args,
                const CliSurroundings& around = {}) {
    return RunCli(collector_, std::move(args), around);
  }

  // The answer read back from its JSON.
  template <typename Message>
  Message FromJson(const CliResult& result) {
    Message message;
    const auto status =
        google::protobuf::util::JsonStringToMessage(result.out, &message);
    EXPECT_TRUE(status.ok()) << status.ToString() << result.out << result.err;
    return message;
  }

  FakeCollector collector_;
};

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_CLI_FIXTURE_H_
