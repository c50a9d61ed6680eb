// A collector, trainers, and the books that must balance at the end.

#ifndef GRADTAP_TESTS_INTEGRATION_HOUSE_H_
#define GRADTAP_TESTS_INTEGRATION_HOUSE_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "integration/collector.h"
#include "integration/csv.h"
#include "integration/trainer.h"
#include "support/temp_dir.h"

namespace gradtap::testing {

// TearDown ends every trainer that End() has not ended, then asks the
// collector: of each run exactly the steps are stored that its agents saw
// acknowledged, and of each agent seen = recorded + skipped + lost.
class House : public ::testing::Test {
 protected:
  House();
  void TearDown() override;

  const std::string& data_dir() const { return data_dir_; }
  Collector& collector() { return *collector_; }
  const std::string& address() const { return address_; }

  // SIGKILL, and a new one on the same folder and port.
  void KillCollector() { collector_->Kill(); }
  void StartCollector();

  // A trainer of the collector's; it lives until End() or TearDown.
  Trainer& Start(const std::string& run, const std::string& model = "tiny",
                 Environment env = {}, int seed = 1);
  // `env` for programs whose last words are looked for: with no file to leave
  // them in, they give a slow collector a minute, not 2 s.
  static Environment Patient(Environment env = {});
  // Delivers everything, checks the books, ends it.
  void End(Trainer& trainer);
  // The test has ended it in another way; how many of its steps are stored, the
  // test says by itself.
  void Abandon(Trainer& trainer);
  // TearDown leaves the run out: deleted, or its trainer was killed.
  void Forget(const std::string& run) { acknowledged_.erase(run); }

  Outcome Ask(const std::vector<std::string>& args) {
    return Gradtap(address_, args);
  }
  // The answer as CSV; a failure fails the test.
  Csv AskCsv(std::vector<std::string> args);
  // The answer's standard output; a failure fails the test.
  std::string AskText(const std::vector<std::string>& args);

 private:
  struct Guest {
    std::string run;
    std::unique_ptr<Trainer> trainer;
  };

  TempDir dir_;
  std::string data_dir_;
  std::unique_ptr<Collector> collector_;
  std::string address_;
  const int port_;
  std::vector<Guest> guests_;
  std::map<std::string, std::uint64_t> acknowledged_;  // By run.
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_HOUSE_H_
