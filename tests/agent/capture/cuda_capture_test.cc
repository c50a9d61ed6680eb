// Capture of a model that is on CUDA: what the forced path on the CPU cannot
// show. Skipped where there is none.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/capture/every_kind.h"
#include "agent/capture/same_step.h"
#include "support/status_matchers.h"

#ifdef GRADTAP_TORCH_HAS_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EveryKind;
using ::gradtap::testing::ExpectSameStep;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CudaCaptureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) {
      GTEST_SKIP() << "this LibTorch or this machine has no CUDA";
    }
    torch::manual_seed(1);
  }

  std::unique_ptr<Capture> Make(const torch::nn::Module& model,
                                std::int64_t histogram_interval = 0) {
    CaptureOptions options;
    options.histogram_interval_steps = histogram_interval;
    options.report = [this](const std::string& m) { reports_.push_back(m); };
    return Capture::OfModules({NamedModule("", model)}, std::move(options));
  }

  static const RoleColumns* Columns(Capture& capture, Role role) {
    for (const RoleColumns& c : capture.step().roles) {
      if (c.role == role) return &c;
    }
    return nullptr;
  }

  std::vector<std::string> reports_;
};

// Gives `twin`, on the CPU, the elements and gradients of `model`.
void Mirror(const torch::nn::Module& model, torch::nn::Module& twin) {
  const torch::NoGradGuard no_grad;
  const auto from = model.parameters();
  const auto to = twin.parameters();
  ASSERT_EQ(from.size(), to.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    to[i].copy_(from[i]);
    to[i].mutable_grad() =
        from[i].grad().defined() ? from[i].grad().cpu() : torch::Tensor();
  }
  const auto buffers = model.buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    twin.buffers()[i].copy_(buffers[i]);
  }
}

// A step of both: `first` gets on while the device works.
void CaptureBoth(Capture& first, Capture& second, std::int64_t step,
                 const torch::nn::Module& model, torch::nn::Module& twin,
                 torch::optim::Optimizer& optimizer) {
  Mirror(model, twin);
  for (Capture* const c : {&first, &second}) {
    GRADTAP_ASSERT_OK(c->BeginStep(step));
    c->SetGradientMultiplier(step % 4 == 3 ? 0.125 : 1);
    GRADTAP_ASSERT_OK(c->ReduceGradients(Role::kGrad));
  }
  optimizer.step();
  GRADTAP_ASSERT_OK(first.ReduceWeights());
  Mirror(model, twin);
  GRADTAP_ASSERT_OK(second.ReduceWeights());
}

TEST_F(CudaCaptureTest, EveryRecordIsThatOfTheCpusPath) {
  EveryKind model, twin;
  model.to(torch::kCUDA);
  torch::optim::SGD optimizer(model.parameters(),
                              torch::optim::SGDOptions(0.01));
  const auto capture = Make(model, /*histogram_interval=*/2);
  const auto cpu = Make(twin, /*histogram_interval=*/2);
  for (std::int64_t step = 0; step < 12; ++step) {
    optimizer.zero_grad();
    model.Loss(step).backward();
    ASSERT_NO_FATAL_FAILURE(
        CaptureBoth(*capture, *cpu, step, model, twin, optimizer));
    EXPECT_TRUE(capture->deferred());
    optimizer.zero_grad();
    GRADTAP_ASSERT_OK(capture->FinishStep());
    ExpectSameStep(capture->step(), cpu->step(),
                   "step " + std::to_string(step));
  }
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(CudaCaptureTest, TrainingIsTheSameBitForBit) {
  const auto train = [&](bool tapped) {
    torch::manual_seed(5);
    torch::nn::Linear model(64, 32);
    model->to(torch::kCUDA);
    torch::optim::SGD optimizer(model->parameters(),
                                torch::optim::SGDOptions(0.01));
    const auto capture = Make(*model, 2);
    for (std::int64_t step = 0; step < 20; ++step) {
      optimizer.zero_grad();
      model->forward(torch::rand({16, 64}, torch::kCUDA))
          .pow(2)
          .sum()
          .backward();
      if (tapped) {
        GRADTAP_EXPECT_OK(capture->BeginStep(step));
        GRADTAP_EXPECT_OK(capture->ReduceGradients(Role::kGrad));
      }
      optimizer.step();
      if (tapped) {
        GRADTAP_EXPECT_OK(capture->ReduceWeights());
      }
    }
    return model->weight.cpu();
  };
  EXPECT_TRUE(torch::equal(train(true), train(false)));
}

#ifdef GRADTAP_TORCH_HAS_CUDA

// While it lives, whatever waits for the device throws.
class NoSync {
 public:
  NoSync() { Set(c10::cuda::SyncDebugMode::L_ERROR); }
  ~NoSync() { Set(c10::cuda::SyncDebugMode::L_DISABLED); }

 private:
  static void Set(c10::cuda::SyncDebugMode mode) {
    c10::cuda::warning_state().set_sync_debug_mode(mode);
  }
};

TEST_F(CudaCaptureTest, NoStepWaitsForTheDevice) {
  EveryKind model;
  model.to(torch::kCUDA);
  model.Loss(0).backward();
  const auto capture = Make(model, /*histogram_interval=*/2);
  for (std::int64_t step = 0; step < 4; ++step) {
    const torch::Tensor loss = model.scalar.detach() + step;
    {
      const NoSync no_sync;
      EXPECT_ANY_THROW(loss.item<float>());
      GRADTAP_ASSERT_OK(capture->BeginStep(step));
      GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
      capture->step().scalars = {{"loss", 0}};
      EXPECT_TRUE(capture->LaterScalar(loss, 0));
      GRADTAP_ASSERT_OK(capture->ReduceWeights());
      GRADTAP_ASSERT_OK(capture->FinishStep());
    }
    EXPECT_EQ(capture->step().scalars[0].value, loss.item<float>());
  }
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(CudaCaptureTest, ScalarsOfAStepWithoutColumnsWaitForNothingEither) {
  EveryKind model;
  model.to(torch::kCUDA);
  model.Loss(0).backward();
  const auto capture = Make(model);
  for (std::int64_t step = 0; step < 6; ++step) {
    StepData skipped;
    skipped.scalars = {{"lr", 7}, {"loss", 0}};
    torch::Tensor loss = model.scalar.detach() + step;
    const float value = loss.item<float>();
    {
      const NoSync no_sync;
      if (step % 2 == 0) {
        GRADTAP_ASSERT_OK(capture->BeginStep(step));
        GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
        GRADTAP_ASSERT_OK(capture->ReduceWeights());
        GRADTAP_ASSERT_OK(capture->FinishStep());
        continue;
      }
      capture->KeepWeights();
      capture->BeginSkipped();
      EXPECT_TRUE(capture->LaterScalar(loss, 1));
      GRADTAP_ASSERT_OK(capture->EndSkipped());
      loss.fill_(-1);
      EXPECT_TRUE(capture->deferred());
      GRADTAP_ASSERT_OK(capture->AwaitResults());
      GRADTAP_ASSERT_OK(capture->FinishSkipped(&skipped));
    }
    EXPECT_EQ(skipped.scalars[0].value, 7);
    EXPECT_EQ(skipped.scalars[1].value, value);
  }
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(CudaCaptureTest, TheDevicesTimeIsMeasured) {
  torch::nn::Linear model(512, 512);
  model->to(torch::kCUDA);
  const auto capture = Make(*model);
  for (std::int64_t step = 0; step < 4; ++step) {
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    GRADTAP_ASSERT_OK(capture->AwaitResults());
    EXPECT_GT(capture->TakeDeviceTime().count(), 0);
    EXPECT_EQ(capture->TakeDeviceTime().count(), 0);
    GRADTAP_ASSERT_OK(capture->FinishStep());
  }
}

TEST_F(CudaCaptureTest, StreamsOfTheLoopMayChangeFromStepToStep) {
  torch::nn::Linear model(512, 512);
  model->to(torch::kCUDA);
  const auto capture = Make(*model);
  for (std::int64_t step = 0; step < 20; ++step) {
    // What the last stream did, this one waits for: the loop's own duty.
    torch::cuda::synchronize();
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    {
      const torch::NoGradGuard no_grad;
      // Long enough for the copy to come too late if nothing waits for it.
      for (int i = 0; i < 50; ++i) {
        model->weight.copy_(model->weight.mm(model->weight).mul_(0));
      }
      model->weight.fill_(static_cast<double>(step));
    }
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    {
      const torch::NoGradGuard no_grad;
      model->weight.fill_(-1);  // In stream order: after what was recorded.
      model->weight.fill_(static_cast<double>(step));
    }
    GRADTAP_ASSERT_OK(capture->FinishStep());
    const RoleColumns* const weight = Columns(*capture, Role::kWeight);
    ASSERT_NE(weight, nullptr);
    EXPECT_EQ(weight->min.at(0), step);
    EXPECT_EQ(weight->max.at(0), step);
    if (step > 0) {
      EXPECT_EQ(Columns(*capture, Role::kUpdate)->mean.at(0), 1);
    }
  }
}

TEST_F(CudaCaptureTest, AGraphThatIsBeingRecordedCostsTheStepAndIsNotSpoilt) {
  torch::nn::Linear model(8, 8);
  model->to(torch::kCUDA);
  const auto capture = Make(*model);
  const auto step = [&](std::int64_t s) {
    GRADTAP_EXPECT_OK(capture->BeginStep(s));
    GRADTAP_EXPECT_OK(capture->ReduceGradients(Role::kGrad));
    GRADTAP_EXPECT_OK(capture->ReduceWeights());
  };
  step(0);
  torch::cuda::synchronize();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  const torch::NoGradGuard no_grad;
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  model->weight.add_(1);
  GRADTAP_EXPECT_OK(capture->BeginStep(1));
  GRADTAP_EXPECT_OK(capture->ReduceGradients(Role::kGrad));
  EXPECT_THAT(std::string(capture->ReduceWeights().message()),
              HasSubstr("is recording a graph"));
  capture->AbandonStep();
  graph.capture_end();
  model->weight.fill_(1);
  for (std::int64_t s = 2; s < 6; ++s) {
    graph.replay();
    step(s);
    GRADTAP_ASSERT_OK(capture->FinishStep());
    EXPECT_EQ(Columns(*capture, Role::kWeight)->mean.at(0), s);
  }
}

TEST_F(CudaCaptureTest, WithoutMemoryForCopiesUpdatesAreGivenUp) {
  constexpr std::int64_t kElements = std::int64_t{64} << 20;
  torch::nn::Module model;
  model.register_parameter("w", torch::ones({kElements}, torch::kCUDA));
  const auto capture = Make(model);
  torch::cuda::synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
  // Room for a slice's temporaries, not for a copy of 256 MiB.
  const std::int64_t most = c10::cuda::CUDACachingAllocator::getDeviceStats(0)
                                .reserved_bytes[0]
                                .current +
                            (std::int64_t{240} << 20);
  std::size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  const double fraction =
      static_cast<double>(most) / static_cast<double>(total);
  c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction, 0);
  GRADTAP_EXPECT_OK(capture->BeginStep(0));
  GRADTAP_EXPECT_OK(capture->ReduceGradients(Role::kGrad));
  GRADTAP_EXPECT_OK(capture->ReduceWeights());
  GRADTAP_EXPECT_OK(capture->FinishStep());
  c10::cuda::CUDACachingAllocator::setMemoryFraction(1, 0);
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("updates are not recorded")));
  const RoleColumns* const weight = Columns(*capture, Role::kWeight);
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->absent.at(0), 0);
  EXPECT_EQ(weight->mean.at(0), 1);
}

#endif  // GRADTAP_TORCH_HAS_CUDA

}  // namespace
}  // namespace gradtap::agent
