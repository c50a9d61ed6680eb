// Every number equals LibTorch's own: all steps, all parameters, all
// statistics, from a real training loop through agent, collector and command
// line.

#include <gradtap/agent.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/statistic.h"
#include "integration/collector.h"
#include "integration/csv.h"
#include "integration/models.h"
#include "integration/reference.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

constexpr std::int64_t kSteps = 60;
constexpr char kRun[] = "numbers";

// "grad" -> what LibTorch says; nothing: absent.
using Roles = std::map<std::string, std::optional<Statistics>>;
// [step][name of a parameter or buffer].
using Expected = std::vector<std::map<std::string, Roles>>;

class StatisticsTest : public ::testing::Test {
 protected:
  StatisticsTest() : collector_(dir_.path()) {
    torch::manual_seed(3);
    model_ = std::make_shared<MixedModel>();
    optimizer_ = std::make_unique<torch::optim::SGD>(
        model_->UniqueParameters(),
        torch::optim::SGDOptions(0.05).momentum(0.5));
  }

  // Gradients as the optimizer will find them.
  void ExpectGradients(std::map<std::string, Roles>* step) {
    for (const auto& item : model_->named_parameters()) {
      if (item.key() == "head.weight") continue;  // embed.weight's other name.
      Roles& roles = (*step)[item.key()];
      const torch::Tensor& grad = item.value().grad();
      roles["grad"] =
          grad.defined() ? std::optional(StatisticsOf(grad)) : std::nullopt;
    }
  }

  void ExpectWeights(std::map<std::string, Roles>* step) {
    for (const auto& item : model_->named_parameters()) {
      if (item.key() == "head.weight") continue;
      Roles& roles = (*step)[item.key()];
      const torch::Tensor now =
          item.value().detach().to(torch::kDouble).clone();
      roles["weight"] = StatisticsOf(now);
      const auto before = before_.find(item.key());
      roles["update"] = before == before_.end()
                            ? std::nullopt
                            : std::optional(StatisticsOf(now - before->second));
      before_[item.key()] = now;
    }
    for (const auto& item : model_->named_buffers()) {
      (*step)[item.key()]["buffer"] = StatisticsOf(item.value());
    }
  }

  void Train() {
    AgentOptions options;
    options.collector = collector_.address();
    options.run = kRun;
    options.overhead_budget = 0;  // Each step is looked at.
    auto tap = Agent::Attach(*model_, options);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      optimizer_->zero_grad();
      const torch::Tensor loss = model_->Backward(step);
      expected_.emplace_back();
      ExpectGradients(&expected_.back());
      tap->Step(*optimizer_, {{"loss", loss}, {"step_twice", 2 * step}});
      ExpectWeights(&expected_.back());
      losses_.push_back(loss.item<double>());
    }
    const FlushResult flushed = tap->Flush(std::chrono::seconds(30));
    ASSERT_TRUE(flushed.delivered);
    const AgentStatus s = tap->status();
    EXPECT_EQ(s.steps_seen, s.steps_recorded + s.steps_skipped + s.steps_lost);
    EXPECT_EQ(s.steps_recorded, static_cast<std::uint64_t>(kSteps));
    EXPECT_EQ(s.steps_acknowledged, static_cast<std::uint64_t>(kSteps));
    EXPECT_EQ(FindRun(collector_.address(), kRun).stored_steps,
              s.steps_acknowledged);
  }

  // All that the command line prints of `statistics`.
  Csv Ask(const std::string& statistics) {
    const Outcome answer =
        Gradtap(collector_.address(),
                {"series", kRun, "--stat", statistics, "--output", "csv"});
    EXPECT_EQ(answer.exit.code, 0) << answer.err;
    return Csv::Parse(answer.out);
  }

  TempDir dir_;
  Collector collector_;
  std::shared_ptr<MixedModel> model_;
  std::unique_ptr<torch::optim::SGD> optimizer_;
  std::map<std::string, torch::Tensor> before_;
  Expected expected_;
  std::vector<double> losses_;
};

void ExpectNear(double got, double expected, double tolerance,
                const std::string& what) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << what << ": " << got << ", expected NaN";
  } else if (std::isinf(expected)) {
    EXPECT_EQ(got, expected) << what;
  } else {
    EXPECT_LE(std::abs(got - expected), tolerance)
        << what << ": " << got << ", expected " << expected;
  }
}

// l2 of `role` over l2 of the weight.
void ExpectRatio(double got, const Statistics& part, const Statistics& weight,
                 const std::string& what) {
  const double ratio = part.at("l2") / weight.at("l2");
  const double relative =
      Tolerance("l2", part) / std::max(part.at("l2"), 1e-300) +
      Tolerance("l2", weight) / std::max(weight.at("l2"), 1e-300) + 1e-15;
  ExpectNear(got, ratio, ratio * relative, what);
}

// "STEP PARAM STAT" -> the value as printed.
using Printed = std::map<std::string, std::string>;

Printed ByKey(const Csv& csv) {
  Printed printed;
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    EXPECT_EQ(csv.At(row, "run"), kRun);
    EXPECT_EQ(csv.At(row, "attempt"), "1");
    EXPECT_EQ(csv.At(row, "rank"), "0");
    const std::string key = csv.At(row, "step") + " " + csv.At(row, "param") +
                            " " + csv.At(row, "stat");
    EXPECT_TRUE(printed.emplace(key, csv.At(row, "value")).second)
        << key << " is printed twice";
  }
  return printed;
}

struct Compared {
  std::size_t values = 0;
  std::size_t absent = 0;
};

// Takes `key` out of `printed` and holds it against what LibTorch says.
void Compare(const std::string& key, const std::string& role,
             const std::string& field, const Roles& roles, Printed* printed,
             Compared* compared) {
  const auto found = printed->find(key);
  const auto reference = roles.find(role);
  if (reference == roles.end()) {  // A buffer has no weight, and so on.
    EXPECT_TRUE(found == printed->end() || found->second.empty()) << key;
    if (found != printed->end()) printed->erase(found);
    return;
  }
  if (found == printed->end()) {
    ADD_FAILURE() << key << " is not printed";
    return;
  }
  const std::string text = found->second;
  printed->erase(found);
  if (!reference->second) {
    EXPECT_EQ(text, "") << key << " is absent";
    ++compared->absent;
    return;
  }
  const Statistics& expected = *reference->second;
  if (field == "ratio") {
    ExpectRatio(Number(text), expected, *roles.at("weight"), key);
  } else {
    ExpectNear(Number(text), expected.at(field), Tolerance(field, expected),
               key);
  }
  ++compared->values;
}

TEST_F(StatisticsTest, EveryPrintedNumberIsLibTorchsOwn) {
  Train();
  std::map<std::string, std::vector<std::string>> names_of_role;
  for (const std::string& name : AllStatisticNames()) {
    names_of_role[name.substr(0, name.find('.'))].push_back(name);
  }
  Compared compared;
  for (const std::string role : {"weight", "grad", "update", "buffer"}) {
    ASSERT_FALSE(names_of_role[role].empty());
    std::string joined;
    for (const std::string& name : names_of_role[role]) {
      joined += (joined.empty() ? "" : ",") + name;
    }
    Printed printed = ByKey(Ask(joined));
    for (std::int64_t step = 0; step < kSteps; ++step) {
      for (const auto& [param, roles] : expected_[step]) {
        for (const std::string& name : names_of_role[role]) {
          Compare(std::to_string(step) + " " + param + " " + name, role,
                  name.substr(role.size() + 1), roles, &printed, &compared);
        }
      }
    }
    EXPECT_TRUE(printed.empty())
        << printed.size() << " more, such as " << printed.begin()->first;
  }
  // 17 parameters and 4 buffers, of which 3 never have a gradient.
  const std::size_t weights = 17 * kSteps * 18;
  const std::size_t updates = 17 * (kSteps - 1) * 19;
  const std::size_t gradients = (13 * kSteps + (kSteps - 7)) * 19;
  const std::size_t buffers = 4 * kSteps * 18;
  EXPECT_EQ(compared.values, weights + updates + gradients + buffers);
  EXPECT_EQ(compared.absent, 17u * 19 + (3 * kSteps + 7) * 19);
}

TEST_F(StatisticsTest, WhatIsAbsentIsAbsentAndNothingElseIs) {
  Train();
  const Csv csv = Ask("grad.l2,update.l2,weight.l2");
  std::map<std::string, int> absent;
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    if (csv.At(row, "value").empty()) {
      ++absent[csv.At(row, "param") + " " + csv.At(row, "stat")];
    }
  }
  EXPECT_EQ(absent["never grad.l2"], kSteps);
  EXPECT_EQ(absent["frozen.weight grad.l2"], kSteps);
  EXPECT_EQ(absent["late grad.l2"], 7);
  EXPECT_EQ(absent["linear.weight grad.l2"], 0);
  EXPECT_EQ(absent["frozen.weight update.l2"], 1);  // No previous weight.
  EXPECT_EQ(absent["empty update.l2"], 1);
  for (const auto& [what, count] : absent) {
    EXPECT_TRUE(what.find("weight.l2") == std::string::npos || count == 0)
        << what;
  }
}

TEST_F(StatisticsTest, ScalarsReadBackBitForBit) {
  Train();
  const Csv csv = Ask("scalar.loss,scalar.step_twice");
  ASSERT_EQ(csv.rows(), 2u * kSteps);
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    const auto step = std::stoll(csv.At(row, "step"));
    EXPECT_EQ(csv.At(row, "param"), "");
    EXPECT_EQ(Number(csv.At(row, "value")), csv.At(row, "stat") == "scalar.loss"
                                                ? losses_.at(step)
                                                : 2.0 * step);
  }
}

}  // namespace
}  // namespace gradtap::testing
