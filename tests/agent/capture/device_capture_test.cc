// Capture of tensors that are not on the CPU, forced upon those that are: what
// is recorded is the same, later.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/capture/counting_allocator.h"
#include "agent/capture/every_kind.h"
#include "agent/capture/same_step.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::CountingAllocator;
using ::gradtap::testing::EveryKind;
using ::gradtap::testing::ExpectSameStep;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DeviceCaptureTest : public ::testing::Test {
 protected:
  DeviceCaptureTest() { torch::manual_seed(1); }

  std::unique_ptr<Capture> Make(const torch::nn::Module& model, bool force,
                                std::int64_t histogram_interval = 0) {
    CaptureOptions options;
    options.force_device_path = force;
    options.histogram_interval_steps = histogram_interval;
    options.report = [this](const std::string& m) { reports_.push_back(m); };
    return Capture::OfModules({NamedModule("", model)}, std::move(options));
  }

  // One whole step without an optimizer.
  static void Step(Capture& capture, std::int64_t step) {
    GRADTAP_ASSERT_OK(capture.BeginStep(step));
    GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture.ReduceWeights());
    GRADTAP_ASSERT_OK(capture.FinishStep());
    capture.TakeNewSchema();
  }

  static const RoleColumns* Columns(Capture& capture, Role role) {
    for (const RoleColumns& c : capture.step().roles) {
      if (c.role == role) return &c;
    }
    return nullptr;
  }

  // Of the only parameter.
  static double Mean(Capture& capture, Role role) {
    const RoleColumns* const columns = Columns(capture, role);
    if (columns == nullptr || columns->absent.at(0) != 0) return std::nan("");
    return columns->mean.at(0);
  }

  std::vector<std::string> reports_;
};

// A model of one weight of n elements.
struct OneWeight : torch::nn::Module {
  explicit OneWeight(std::int64_t n) {
    w = register_parameter("w", torch::zeros({n}));
  }
  void Add(double x) {
    const torch::NoGradGuard no_grad;
    w.add_(x);
  }
  torch::Tensor w;
};

TEST_F(DeviceCaptureTest, EveryRecordIsThatOfTheCpusPath) {
  EveryKind model;
  torch::optim::SGD optimizer(model.parameters(),
                              torch::optim::SGDOptions(0.01));
  const auto device = Make(model, /*force=*/true, /*histogram_interval=*/2);
  const auto cpu = Make(model, /*force=*/false, /*histogram_interval=*/2);
  for (std::int64_t step = 0; step < 12; ++step) {
    const std::string what = "step " + std::to_string(step);
    optimizer.zero_grad();
    model.Loss(step).backward();
    for (Capture* const c : {device.get(), cpu.get()}) {
      GRADTAP_ASSERT_OK(c->BeginStep(step));
      c->SetGradientMultiplier(step % 4 == 3 ? 0.125 : 1);
      if (step >= 4 && step % 2 == 0) {
        GRADTAP_ASSERT_OK(c->ReduceGradients(Role::kGradLocal));
      }
      GRADTAP_ASSERT_OK(c->ReduceGradients(Role::kGrad));
    }
    optimizer.step();
    for (Capture* const c : {device.get(), cpu.get()}) {
      GRADTAP_ASSERT_OK(c->ReduceWeights());
    }
    EXPECT_TRUE(device->deferred()) << what;
    EXPECT_FALSE(cpu->deferred()) << what;
    optimizer.zero_grad();
    GRADTAP_ASSERT_OK(device->FinishStep());
    EXPECT_FALSE(device->deferred()) << what;
    EXPECT_EQ(device->schema().fingerprint, cpu->schema().fingerprint);
    ExpectSameStep(device->step(), cpu->step(), what);
  }
  EXPECT_EQ(device->weight_copy_bytes(), cpu->weight_copy_bytes());
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(DeviceCaptureTest, ScalarsArriveWithTheColumns) {
  OneWeight model(3);
  const auto capture = Make(model, true);
  for (std::int64_t step = 0; step < 3; ++step) {
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    capture->step().scalars = {{"a", 0}, {"b", 0}, {"c", 7}};
    torch::Tensor loss = torch::tensor(1.5) + step;
    EXPECT_TRUE(capture->LaterScalar(loss, 1));
    EXPECT_TRUE(capture->LaterScalar(torch::tensor({true}), 0));
    EXPECT_FALSE(capture->LaterScalar(torch::ones({2}), 2));
    EXPECT_FALSE(capture->LaterScalar(torch::Tensor(), 2));
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    loss.zero_();
    GRADTAP_ASSERT_OK(capture->FinishStep());
    EXPECT_EQ(capture->step().scalars[0].value, 1);
    EXPECT_EQ(capture->step().scalars[1].value, 1.5 + step);
    EXPECT_EQ(capture->step().scalars[2].value, 7);
  }
  const auto cpu = Make(model, false);
  GRADTAP_ASSERT_OK(cpu->BeginStep(0));
  EXPECT_FALSE(cpu->LaterScalar(torch::tensor(1.0), 0));
}

TEST_F(DeviceCaptureTest, AStepWithoutColumnsCanHaveScalarsToo) {
  OneWeight model(3);
  const auto capture = Make(model, true, /*histogram_interval=*/2);
  StepData skipped;
  for (std::int64_t step = 0; step < 8; ++step) {
    if (step % 4 == 0) {
      Step(*capture, step);
      EXPECT_EQ(Mean(*capture, Role::kWeight), 2.0 * static_cast<double>(step));
      if (step == 4) {  // Against the copy taken in step 3.
        EXPECT_EQ(Mean(*capture, Role::kUpdate), 2);
      }
    } else {
      if (step == 2) {  // Its gradients were read already.
        GRADTAP_ASSERT_OK(capture->BeginStep(step));
        GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
      }
      if (step == 3) capture->KeepWeights();
      skipped.scalars = {{"lr", 7}, {"loss", 0}};
      torch::Tensor loss = torch::full({1}, step);
      EXPECT_FALSE(step != 2 && capture->LaterScalar(loss, 1));
      capture->BeginSkipped();
      EXPECT_TRUE(capture->LaterScalar(loss, 1));
      EXPECT_FALSE(capture->deferred());
      GRADTAP_ASSERT_OK(capture->EndSkipped());
      EXPECT_TRUE(capture->deferred());
      EXPECT_FALSE(capture->LaterScalar(loss, 0));
      loss.fill_(-1);
      std::thread([&] {
        GRADTAP_EXPECT_OK(capture->FinishSkipped(&skipped));
      }).join();
      EXPECT_FALSE(capture->deferred());
      EXPECT_EQ(skipped.scalars[0].value, 7);
      EXPECT_EQ(skipped.scalars[1].value, static_cast<double>(step));
    }
    model.Add(2);
  }
}

TEST_F(DeviceCaptureTest, WithoutScalarsOnADeviceNothingIsOnItsWay) {
  OneWeight model(3);
  for (const bool force : {true, false}) {
    const auto capture = Make(model, force);
    for (int i = 0; i < 2; ++i) {  // Before and after the first step.
      StepData skipped;
      skipped.scalars = {{"loss", 7}};
      capture->BeginSkipped();
      EXPECT_FALSE(capture->LaterScalar(torch::ones({2}), 0));
      GRADTAP_EXPECT_OK(capture->EndSkipped());
      EXPECT_FALSE(capture->deferred());
      GRADTAP_EXPECT_OK(capture->FinishSkipped(&skipped));
      EXPECT_EQ(skipped.scalars[0].value, 7);
      Step(*capture, i);
    }
  }
}

TEST_F(DeviceCaptureTest, AStepThatNobodyFinishedIsForgotten) {
  OneWeight model(3);
  const auto capture = Make(model, true);
  Step(*capture, 0);
  for (std::int64_t step = 1; step < 6; ++step) {
    model.Add(step);
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    EXPECT_FALSE(capture->deferred());
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    if (step == 2) {
      capture->AbandonStep();
      capture->KeepWeights();
      continue;
    }
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    if (step % 2 == 1) continue;  // Never finished.
    GRADTAP_ASSERT_OK(capture->FinishStep());
    EXPECT_EQ(Mean(*capture, Role::kUpdate), step);
  }
  Step(*capture, 6);
  EXPECT_EQ(Mean(*capture, Role::kUpdate), 0);
  EXPECT_EQ(Mean(*capture, Role::kWeight), 15);
}

TEST_F(DeviceCaptureTest, AnotherThreadMayFinishAStep) {
  OneWeight model(3);
  const auto capture = Make(model, true);
  for (std::int64_t step = 0; step < 3; ++step) {
    model.Add(1);
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    std::thread([&] { GRADTAP_EXPECT_OK(capture->FinishStep()); }).join();
    EXPECT_EQ(Mean(*capture, Role::kWeight), step + 1);
  }
}

TEST_F(DeviceCaptureTest, UpdatesAreOfKeptWeightsAndAbsentWhenForgotten) {
  OneWeight model(3);
  const auto capture = Make(model, true);
  Step(*capture, 0);
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kUpdate)));
  model.Add(10);
  capture->KeepWeights();
  model.Add(1);
  Step(*capture, 1);
  EXPECT_EQ(Mean(*capture, Role::kUpdate), 1);
  capture->ForgetWeights();
  Step(*capture, 2);
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kUpdate)));
  Step(*capture, 3);
  EXPECT_EQ(Mean(*capture, Role::kUpdate), 0);
  EXPECT_EQ(capture->weight_copy_bytes(), 12u);
}

TEST_F(DeviceCaptureTest, ParametersThatChangeAreComparedWithTheirOwnCopies) {
  torch::nn::Module model;
  torch::Tensor a = model.register_parameter("a", torch::zeros({4}));
  torch::Tensor b = model.register_parameter("b", torch::zeros({4}));
  const auto capture = Make(model, true);
  Step(*capture, 0);
  model.register_parameter("c", torch::zeros({4}));
  capture->Refresh();
  {
    const torch::NoGradGuard no_grad;
    a.add_(1);
    b.add_(2);
  }
  Step(*capture, 1);
  EXPECT_EQ(capture->schema().schema_id, 2u);
  const RoleColumns* const update = Columns(*capture, Role::kUpdate);
  ASSERT_NE(update, nullptr);
  EXPECT_THAT(update->absent, ElementsAre(0, 0, 1));
  EXPECT_EQ(update->mean[0], 1);
  EXPECT_EQ(update->mean[1], 2);
  a.set_data(torch::ones({2, 3}));
  Step(*capture, 2);
  const RoleColumns* const after = Columns(*capture, Role::kUpdate);
  EXPECT_THAT(after->absent, ElementsAre(1, 0, 0));
  Step(*capture, 3);
  EXPECT_THAT(Columns(*capture, Role::kUpdate)->absent, ElementsAre(0, 0, 0));
  EXPECT_EQ(capture->weight_copy_bytes(), 4u * (6 + 4 + 4));
}

TEST_F(DeviceCaptureTest, WithoutMemoryForCopiesUpdatesAreGivenUp) {
  OneWeight model(1000);
  const auto capture = Make(model, true);
  {
    CountingAllocator memory;
    memory.Refuse(4000);
    Step(*capture, 0);
  }
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("updates are not recorded")));
  EXPECT_EQ(Mean(*capture, Role::kWeight), 0);
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kUpdate)));
  model.Add(1);
  Step(*capture, 1);
  EXPECT_EQ(Columns(*capture, Role::kUpdate), nullptr);
  EXPECT_EQ(Mean(*capture, Role::kWeight), 1);
  EXPECT_EQ(capture->weight_copy_bytes(), 0u);
  EXPECT_EQ(reports_.size(), 1u);
}

TEST_F(DeviceCaptureTest,
       AWeightThatChangedItsShapeWithinTheStepIsAbsentFromIt) {
  OneWeight model(3);
  const auto capture = Make(model, true);
  Step(*capture, 0);
  GRADTAP_ASSERT_OK(capture->BeginStep(1));
  GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
  model.w.set_data(torch::ones({5}));
  GRADTAP_ASSERT_OK(capture->ReduceWeights());
  GRADTAP_ASSERT_OK(capture->AwaitResults());
  GRADTAP_ASSERT_OK(capture->FinishStep());
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kWeight)));
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kUpdate)));
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("'w' changed within a step")));
  Step(*capture, 2);
  EXPECT_EQ(Mean(*capture, Role::kWeight), 1);
  EXPECT_TRUE(std::isnan(Mean(*capture, Role::kUpdate)));
}

TEST_F(DeviceCaptureTest, TrainingIsTheSameBitForBit) {
  const auto train = [&](bool tapped) {
    torch::manual_seed(5);
    EveryKind model;
    torch::optim::SGD optimizer(model.parameters(),
                                torch::optim::SGDOptions(0.01));
    const auto capture = Make(model, true, 2);
    for (std::int64_t step = 0; step < 4; ++step) {
      optimizer.zero_grad();
      (model.Loss(step) * torch::rand({})).backward();
      if (tapped) {
        GRADTAP_EXPECT_OK(capture->BeginStep(step));
        GRADTAP_EXPECT_OK(capture->ReduceGradients(Role::kGrad));
      }
      optimizer.step();
      if (tapped) {
        GRADTAP_EXPECT_OK(capture->ReduceWeights());
      }
    }
    return std::make_pair(model.linear->weight.clone(), torch::rand({3}));
  };
  const auto with = train(true);
  const auto without = train(false);
  EXPECT_TRUE(torch::equal(with.first, without.first));
  EXPECT_TRUE(torch::equal(with.second, without.second));
}

}  // namespace
}  // namespace gradtap::agent
