#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "integration/trainer.h"

namespace gradtap::testing {

bool TrainerStatus::Says(const std::string& text) const {
  for (const std::string& problem : problems) {
    if (problem.find(text) != std::string::npos) return true;
  }
  return false;
}

namespace {

Environment Completed(Environment env, const std::string& collector,
                      const std::string& run) {
  env.emplace("GRADTAP_COLLECTOR", collector);
  env.emplace("GRADTAP_RUN", run);
  env.emplace("OMP_NUM_THREADS", "1");
  return env;
}

}  // namespace

Trainer::Trainer(const std::string& collector, const std::string& run,
                 const std::string& model, Environment env, int seed)
    : process_({TRAINER_PATH, model, std::to_string(seed)},
               Completed(std::move(env), collector, run)) {}

std::string Trainer::Answer() {
  const auto line = process_.ReadLine(std::chrono::seconds(90));
  if (!line) ADD_FAILURE() << "no answer; it says: " << process_.Errors();
  return line.value_or("");
}

std::string Trainer::Do(const std::string& command) {
  Send(command);
  return Answer();
}

bool Trainer::Flush(std::chrono::milliseconds deadline) {
  return Do("flush " + std::to_string(deadline.count())) == "flushed 1 0 0";
}

TrainerStatus Trainer::Status() {
  TrainerStatus status;
  std::istringstream first(Do("status"));
  std::string word;
  first >> word;
  EXPECT_EQ(word, "status");
  while (first >> word) {
    const std::size_t equal = word.find('=');
    status.count[word.substr(0, equal)] =
        std::strtoull(word.c_str() + equal + 1, nullptr, 10);
  }
  for (std::string line = Answer(); line != "end" && !line.empty();
       line = Answer()) {
    EXPECT_EQ(line.rfind("problem ", 0), 0u) << line;
    status.problems.push_back(line.substr(8));
  }
  return status;
}

int Trainer::Quit() {
  Send("quit");
  process_.CloseInput();
  EXPECT_EQ(Answer(), "bye");
  const auto exit = process_.Wait();
  return exit ? exit->code : -1000;
}

void ExpectBooksBalance(const TrainerStatus& s) {
  EXPECT_EQ(s.At("seen"), s.At("recorded") + s.At("skipped") + s.At("lost"));
  EXPECT_EQ(s.At("recorded"), s.At("acknowledged") + s.At("at_hand"));
  std::uint64_t skipped = 0, lost = 0;
  for (const auto& [name, steps] : s.count) {
    if (name.rfind("skipped.", 0) == 0) skipped += steps;
    if (name.rfind("lost.", 0) == 0) lost += steps;
  }
  EXPECT_EQ(s.At("skipped"), skipped) << "by cause";
  EXPECT_EQ(s.At("lost"), lost) << "by cause";
}

}  // namespace gradtap::testing
