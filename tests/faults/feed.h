// A feeder as a child process, and what a collector has of its steps.

#ifndef GRADTAP_TESTS_FAULTS_FEED_H_
#define GRADTAP_TESTS_FAULTS_FEED_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "integration/process.h"

namespace gradtap::testing {

// GRADTAP_SOAK=1 asks for the long form of a test.
int ShortOrLong(int short_form, int long_form);

struct FeedCounts {
  std::uint64_t seen = 0, recorded = 0, lost = 0, acknowledged = 0;
};

class Feed {
 public:
  // See feeder.cc for the keys.
  explicit Feed(const std::map<std::string, std::string>& arguments,
                const Environment& environment = {});

  // Fails the test, and says 0, if the feeder does not answer.
  FeedCounts Status();
  // Of its session of which the fewest steps are acknowledged.
  FeedCounts Least();
  // Once all steps that it has put are acknowledged; the feeder is gone then.
  FeedCounts End();
  Process& process() { return process_; }

 private:
  FeedCounts Ask(const std::string& command);

  Process process_;
};

// The value of scalar.loss that a feeder's step has.
double LossOf(std::int64_t step);

// Checks that what is stored of a run's rank is each step from 0 on once, with
// its own value, and returns how many there are. Gaps fail the test.
// `environment`: of the command that asks.
std::uint64_t CheckSteps(const std::string& address, const std::string& run,
                         int rank, const Environment& environment = {});

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_FAULTS_FEED_H_
