#include "integration/house.h"

#include <algorithm>

namespace gradtap::testing {

House::House() : data_dir_(dir_.path() + "/data"), port_(FreePort()) {
  StartCollector();
}

void House::StartCollector() {
  collector_.reset();
  // Whatever else fills this machine's disk.
  const std::vector<std::string> options = {"--disk-reserve", "0"};
  collector_ = std::make_unique<Collector>(data_dir_, port_, options);
  address_ = collector_->address();
}

Trainer& House::Start(const std::string& run, const std::string& model,
                      Environment env, int seed) {
  guests_.push_back({run, std::make_unique<Trainer>(address_, run, model,
                                                    std::move(env), seed)});
  acknowledged_.emplace(run, 0);
  return *guests_.back().trainer;
}

Environment House::Patient(Environment env) {
  env.emplace("GRADTAP_RING_FOLDER", "off");
  env.emplace("GRADTAP_SHUTDOWN_MS", "60000");
  return env;
}

void House::End(Trainer& trainer) {
  const auto guest =
      std::find_if(guests_.begin(), guests_.end(),
                   [&](const Guest& g) { return g.trainer.get() == &trainer; });
  ASSERT_NE(guest, guests_.end());
  EXPECT_TRUE(trainer.Flush()) << guest->run;
  const TrainerStatus status = trainer.Status();
  ExpectBooksBalance(status);
  EXPECT_EQ(status.At("at_hand"), 0u) << guest->run;
  const auto run = acknowledged_.find(guest->run);
  if (run != acknowledged_.end()) run->second += status.At("acknowledged");
  EXPECT_EQ(trainer.Quit(), 0) << guest->run;
  guests_.erase(guest);
}

void House::Abandon(Trainer& trainer) {
  guests_.erase(std::find_if(
      guests_.begin(), guests_.end(),
      [&](const Guest& g) { return g.trainer.get() == &trainer; }));
}

void House::TearDown() {
  while (!guests_.empty()) {
    const std::size_t before = guests_.size();
    End(*guests_.front().trainer);
    if (guests_.size() == before) break;
  }
  for (const auto& [run, steps] : acknowledged_) {
    EXPECT_EQ(FindRun(address_, run).stored_steps, steps) << run;
  }
  EXPECT_EQ(collector_->Terminate(), 0) << collector_->process().Errors();
}

std::string House::AskText(const std::vector<std::string>& args) {
  const Outcome answer = Ask(args);
  std::string command;
  for (const std::string& arg : args) command += " " + arg;
  EXPECT_EQ(answer.exit.code, 0) << "gradtap" << command << ": " << answer.err;
  return answer.out;
}

Csv House::AskCsv(std::vector<std::string> args) {
  args.push_back("--output");
  args.push_back("csv");
  return Csv::Parse(AskText(args));
}

}  // namespace gradtap::testing
