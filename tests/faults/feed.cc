#include "faults/feed.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "integration/collector.h"
#include "integration/csv.h"

namespace gradtap::testing {
namespace {

std::vector<std::string> FeederCommand(
    const std::map<std::string, std::string>& arguments) {
  std::vector<std::string> command = {FEEDER_PATH};
  for (const auto& [key, value] : arguments) {
    command.push_back(key + "=" + value);
  }
  return command;
}

}  // namespace

int ShortOrLong(int short_form, int long_form) {
  const char* const soak = std::getenv("GRADTAP_SOAK");
  return soak != nullptr && std::string(soak) == "1" ? long_form : short_form;
}

Feed::Feed(const std::map<std::string, std::string>& arguments,
           const Environment& environment)
    : process_(FeederCommand(arguments), environment) {}

FeedCounts Feed::Status() { return Ask("status"); }

FeedCounts Feed::Least() { return Ask("least"); }

FeedCounts Feed::End() {
  const FeedCounts counts = Ask("end");
  const auto exit = process_.Wait();
  EXPECT_TRUE(exit && exit->code == 0) << process_.Errors();
  return counts;
}

FeedCounts Feed::Ask(const std::string& command) {
  process_.Write(command + "\n");
  const auto line = process_.ReadLine(std::chrono::seconds(150));
  FeedCounts counts;
  std::istringstream in(line.value_or(""));
  if (!(in >> counts.seen >> counts.recorded >> counts.lost >>
        counts.acknowledged)) {
    ADD_FAILURE() << "the feeder says '" << line.value_or("nothing") << "' to "
                  << command << "; " << process_.Errors();
  }
  return counts;
}

double LossOf(std::int64_t step) {
  return 1.0 / (static_cast<double>(step) + 1.5);
}

std::uint64_t CheckSteps(const std::string& address, const std::string& run,
                         int rank, const Environment& environment) {
  const Outcome out = RunProgram(
      GradtapCommand(address, {"export", run, "--format", "csv", "--stat",
                               "scalar.loss", "--rank", std::to_string(rank)}),
      environment);
  EXPECT_EQ(out.exit.code, 0) << out.err;
  const Csv csv = Csv::Parse(out.out);
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    const auto step = static_cast<std::int64_t>(row);
    if (csv.At(row, "step") != std::to_string(step) ||
        Number(csv.At(row, "value")) != LossOf(step)) {
      ADD_FAILURE() << "row " << row << " of rank " << rank << " is of step "
                    << csv.At(row, "step") << ", value "
                    << csv.At(row, "value");
      break;
    }
  }
  return csv.rows();
}

}  // namespace gradtap::testing
