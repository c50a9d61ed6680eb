#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/allocation_counter.h"
#include "agent/capture/capture.h"
#include "agent/capture/every_kind.h"
#include "agent/capture/reference.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::AsDoubles;
using ::gradtap::testing::EveryKind;
using ::gradtap::testing::ExpectRecordOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Every place of every role is filled or absent, and the table's places are the
// columns'.
void ExpectColumnsFit(const Schema& schema, const StepData& step) {
  EXPECT_EQ(step.schema_id, schema.schema_id);
  for (int r = 1; r < kRoleCount; ++r) {
    std::size_t places = 0;
    for (const Parameter& p : schema.parameters) {
      places += p.HasRole(static_cast<Role>(r));
    }
    std::size_t columns = 0;
    for (const RoleColumns& c : step.roles) {
      if (c.role == static_cast<Role>(r)) columns += c.size();
    }
    EXPECT_EQ(columns, places) << r;
  }
}

class StepCaptureTest : public ::testing::Test {
 protected:
  StepCaptureTest() { torch::manual_seed(1); }

  std::unique_ptr<Capture> Make(const torch::nn::Module& model,
                                RoleOptions roles = {}) {
    CaptureOptions options;
    options.roles = roles;
    options.report = [this](const std::string& m) { reports_.push_back(m); };
    return Capture::OfModules({NamedModule("", model)}, std::move(options));
  }

  // One whole step without an optimizer.
  void Step(Capture& capture, std::int64_t step) {
    GRADTAP_ASSERT_OK(capture.BeginStep(step));
    GRADTAP_ASSERT_OK(capture.ReduceGradients(Role::kGrad));
    GRADTAP_ASSERT_OK(capture.ReduceWeights());
    ExpectColumnsFit(capture.schema(), capture.step());
  }

  // Null: absent.
  static const Record* Get(Capture& capture, const std::string& name,
                           Role role) {
    static Record record;
    std::size_t place = 0;
    for (const Parameter& p : capture.schema().parameters) {
      if (p.name == name) {
        EXPECT_TRUE(p.HasRole(role)) << name;
        for (const RoleColumns& c : capture.step().roles) {
          if (c.role != role) continue;
          if (c.absent.at(place) != 0) return nullptr;
          record = c.Get(place);
          return &record;
        }
      }
      place += p.HasRole(role);
    }
    ADD_FAILURE() << "no place for " << name;
    return nullptr;
  }

  static const Parameter& Find(Capture& capture, const std::string& name) {
    for (const Parameter& p : capture.schema().parameters) {
      if (p.name == name) return p;
    }
    throw std::out_of_range(name);
  }

  std::vector<std::string> reports_;
};

TEST_F(StepCaptureTest, EveryStatisticOfEveryTensorAtEveryStepIsLibTorchs) {
  EveryKind model;
  torch::optim::SGD optimizer(model.parameters(),
                              torch::optim::SGDOptions(0.01));
  const auto capture = Make(model);
  std::map<std::string, torch::Tensor> previous;
  int compared = 0;
  for (std::int64_t step = 0; step < 12; ++step) {
    optimizer.zero_grad();
    model.Loss(step).backward();
    GRADTAP_ASSERT_OK(capture->BeginStep(step));
    GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
    std::map<std::string, torch::Tensor> gradients;
    std::map<std::string, torch::Tensor> all;
    for (const auto& item : model.named_parameters()) {
      all[item.key()] = item.value();
      if (item.value().grad().defined()) {
        gradients[item.key()] = AsDoubles(item.value().grad()).clone();
      }
    }
    for (const auto& item : model.named_buffers()) {
      all[item.key()] = item.value();
    }
    optimizer.step();
    GRADTAP_ASSERT_OK(capture->ReduceWeights());
    ExpectColumnsFit(capture->schema(), capture->step());
    for (const Parameter& p : capture->schema().parameters) {
      const torch::Tensor& tensor = all.at(p.name);
      for (const Role role : p.roles) {
        const std::string what = "step " + std::to_string(step) + " " + p.name +
                                 " " + std::string(RoleName(role));
        const Record* record = Get(*capture, p.name, role);
        torch::Tensor reference;
        if (role == Role::kGrad) {
          if (gradients.count(p.name)) reference = gradients.at(p.name);
        } else if (role == Role::kUpdate) {
          if (step > 0) {
            torch::Tensor now = tensor.detach().to(
                tensor.is_complex() ? torch::kComplexDouble : torch::kFloat64);
            reference = AsDoubles(now - previous.at(p.name));
          }
        } else {
          reference = AsDoubles(tensor);
        }
        ASSERT_EQ(record != nullptr, reference.defined()) << what;
        if (record == nullptr) continue;
        ExpectRecordOf(reference, *record, what);
        ++compared;
      }
    }
    for (const auto& [name, tensor] : all) {
      previous[name] = tensor.detach().clone().to(
          tensor.is_complex() ? torch::kComplexDouble : torch::kFloat64);
    }
  }
  EXPECT_GT(compared, 12 * 50);
  EXPECT_EQ(capture->schema().schema_id, 1u);
  EXPECT_GT(capture->sparse_scratch_bytes(), 0u);
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(StepCaptureTest, RolesFollowKindDtypeAndOptions) {
  EveryKind model;
  auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_THAT(Find(*capture, "linear.weight").roles,
              ElementsAre(Role::kWeight, Role::kGrad, Role::kUpdate));
  EXPECT_THAT(Find(*capture, "counts").roles,
              ElementsAre(Role::kWeight, Role::kUpdate));
  EXPECT_THAT(Find(*capture, "ticks").roles, ElementsAre(Role::kBuffer));
  capture = Make(model, {true, false, false, false});
  Step(*capture, 0);
  EXPECT_THAT(Find(*capture, "linear.weight").roles,
              ElementsAre(Role::kWeight));
  EXPECT_THAT(Find(*capture, "ticks").roles, IsEmpty());
  EXPECT_EQ(capture->weight_copy_bytes(), 0u);
  EXPECT_EQ(capture->step().roles.size(), 1u);
}

TEST_F(StepCaptureTest, AGradientThatIsNotDefinedIsAbsentAndAZeroOneIsNot) {
  torch::nn::LinearImpl model(2, 2);
  model.bias.mutable_grad() = torch::zeros({2});
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_EQ(Get(*capture, "weight", Role::kGrad), nullptr);
  ASSERT_NE(Get(*capture, "bias", Role::kGrad), nullptr);
  EXPECT_EQ(Get(*capture, "bias", Role::kGrad)->zero, 2u);
}

TEST_F(StepCaptureTest, TheFirstUpdateIsAbsentAndLaterOnesAreObserved) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_EQ(Get(*capture, "weight", Role::kUpdate), nullptr);
  EXPECT_EQ(capture->weight_copy_bytes(), 6u * 4);
  // Whatever changes a weight: here the loop itself.
  model.weight.data().add_(0.25);
  Step(*capture, 1);
  ASSERT_NE(Get(*capture, "weight", Role::kUpdate), nullptr);
  EXPECT_NEAR(Get(*capture, "weight", Role::kUpdate)->mean, 0.25, 1e-6);
  EXPECT_EQ(Get(*capture, "bias", Role::kUpdate)->zero, 2u);
  capture->ForgetWeights();
  Step(*capture, 2);
  EXPECT_EQ(Get(*capture, "weight", Role::kUpdate), nullptr);
  model.weight.data().add_(1);
  capture->KeepWeights();
  Step(*capture, 3);
  ASSERT_NE(Get(*capture, "weight", Role::kUpdate), nullptr);
  EXPECT_EQ(Get(*capture, "weight", Role::kUpdate)->zero, 4u);
}

TEST_F(StepCaptureTest, NothingIsAllocatedByAStepAfterTheFirst) {
  torch::nn::LinearImpl model(16, 16);
  model.register_buffer("ticks", torch::zeros({}, torch::kInt64));
  model.weight.mutable_grad() = torch::ones({16, 16});
  const auto capture = Make(model);
  Step(*capture, 0);
  Step(*capture, 1);
  gradtap::testing::StartCountingAllocations();
  const bool ok = capture->BeginStep(2).ok() &&
                  capture->ReduceGradients(Role::kGrad).ok() &&
                  capture->ReduceWeights().ok();
  EXPECT_EQ(gradtap::testing::StopCountingAllocations(), 0);
  EXPECT_TRUE(ok);
}

TEST_F(StepCaptureTest, AnotherModelIsTheNextSchema) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_TRUE(capture->TakeNewSchema());
  EXPECT_FALSE(capture->TakeNewSchema());
  // A change that a fingerprint sees.
  model.weight.set_requires_grad(false);
  Step(*capture, 1);
  EXPECT_EQ(capture->schema().schema_id, 2u);
  EXPECT_FALSE(Find(*capture, "weight").requires_grad);
  EXPECT_TRUE(capture->TakeNewSchema());
  // The weights are the same: the update is known.
  EXPECT_NE(Get(*capture, "weight", Role::kUpdate), nullptr);
  model.to(torch::kFloat64);
  Step(*capture, 2);
  EXPECT_EQ(capture->schema().schema_id, 3u);
  EXPECT_EQ(Find(*capture, "weight").dtype, "float64");
  EXPECT_EQ(Get(*capture, "weight", Role::kUpdate), nullptr);
}

TEST_F(StepCaptureTest, ATableThatWasNeverTakenUsesUpNoId) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  model.weight.set_requires_grad(false);
  Step(*capture, 1);
  EXPECT_EQ(capture->schema().schema_id, 1u);
  EXPECT_TRUE(capture->TakeNewSchema());
}

TEST_F(StepCaptureTest, ANewParameterIsNoticedOnRefreshAndAfter256Steps) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_TRUE(capture->TakeNewSchema());
  model.register_parameter("late", torch::ones({1}));
  Step(*capture, 255);
  EXPECT_EQ(capture->schema().parameters.size(), 2u);
  Step(*capture, 256);
  EXPECT_EQ(capture->schema().parameters.size(), 3u);
  EXPECT_TRUE(capture->TakeNewSchema());
  model.register_parameter("later", torch::ones({1}));
  capture->Refresh();
  Step(*capture, 257);
  EXPECT_EQ(capture->schema().parameters.size(), 4u);
  EXPECT_EQ(capture->schema().schema_id, 3u);
}

TEST_F(StepCaptureTest, AnEqualTableOfOtherTensorsKeepsTheSchema) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_TRUE(capture->TakeNewSchema());
  model.weight.set_data(torch::full({2, 2}, 3.0f));
  Step(*capture, 1);
  EXPECT_EQ(capture->schema().schema_id, 1u);
  EXPECT_FALSE(capture->TakeNewSchema());
  EXPECT_EQ(Get(*capture, "weight", Role::kWeight)->mean, 3.0f);
  EXPECT_NE(Get(*capture, "weight", Role::kUpdate), nullptr);
}

TEST_F(StepCaptureTest, AWeightThatChangesShapeWithinTheStepIsAbsentFromIt) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  GRADTAP_ASSERT_OK(capture->BeginStep(1));
  GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
  model.weight.set_data(torch::ones({50, 50}));
  GRADTAP_ASSERT_OK(capture->ReduceWeights());
  EXPECT_EQ(Get(*capture, "weight", Role::kWeight), nullptr);
  EXPECT_EQ(Get(*capture, "weight", Role::kUpdate), nullptr);
  EXPECT_NE(Get(*capture, "bias", Role::kUpdate), nullptr);
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("'weight' changed within")));
  Step(*capture, 2);  // And is taken up by the next.
  EXPECT_THAT(Find(*capture, "weight").shape, ElementsAre(50, 50));
  EXPECT_EQ(Get(*capture, "weight", Role::kWeight)->mean, 1.0f);
}

TEST_F(StepCaptureTest, AWeightWhoseStorageIsFreedIsNeverRead) {
  torch::nn::LinearImpl model(100, 100);
  const auto capture = Make(model);
  Step(*capture, 0);
  GRADTAP_ASSERT_OK(capture->BeginStep(1));
  GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGrad));
  model.weight.storage().unsafeGetStorageImpl()->reset();
  model.weight.storage().set_nbytes(0);
  GRADTAP_ASSERT_OK(capture->ReduceWeights());
  EXPECT_EQ(Get(*capture, "weight", Role::kWeight), nullptr);
  EXPECT_NE(Get(*capture, "bias", Role::kWeight), nullptr);
  capture->KeepWeights();  // Must not read it either.
  Step(*capture, 2);
  EXPECT_NE(Get(*capture, "bias", Role::kUpdate), nullptr);
  EXPECT_THAT(Find(*capture, "weight").unsupported_reason,
              HasSubstr("storage"));
  EXPECT_THAT(Find(*capture, "weight").roles, IsEmpty());
}

TEST_F(StepCaptureTest, AGradientThatCannotBeReadCostsThatRoleOnly) {
  torch::nn::LinearImpl model(3, 3);
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_TRUE(capture->TakeNewSchema());
  model.weight.mutable_grad() = torch::eye(3).to_sparse_csr();
  model.bias.mutable_grad() = torch::ones({3});
  Step(*capture, 1);
  EXPECT_EQ(capture->schema().schema_id, 2u);
  EXPECT_THAT(Find(*capture, "weight").roles,
              ElementsAre(Role::kWeight, Role::kUpdate));
  EXPECT_EQ(Get(*capture, "bias", Role::kGrad)->mean, 1.0f);
  EXPECT_NE(Get(*capture, "weight", Role::kUpdate), nullptr);
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("sparse_csr")));
  Step(*capture, 2);
  EXPECT_THAT(reports_, ::testing::SizeIs(1));
}

TEST_F(StepCaptureTest, LocalGradientsHaveARoleOnceTheyAreAskedFor) {
  torch::nn::LinearImpl model(2, 2);
  const auto capture = Make(model);
  Step(*capture, 0);
  model.weight.mutable_grad() = torch::full({2, 2}, 2.0f);
  GRADTAP_ASSERT_OK(capture->BeginStep(1));
  GRADTAP_ASSERT_OK(capture->ReduceGradients(Role::kGradLocal));
  model.weight.mutable_grad().mul_(0.5);  // The all-reduce.
  Step(*capture, 1);
  EXPECT_EQ(Get(*capture, "weight", Role::kGradLocal)->mean, 2.0f);
  EXPECT_EQ(Get(*capture, "weight", Role::kGrad)->mean, 1.0f);
  EXPECT_EQ(Get(*capture, "bias", Role::kGradLocal), nullptr);
  // A step in which nobody asks has none; never the old one.
  Step(*capture, 2);
  EXPECT_EQ(Get(*capture, "weight", Role::kGradLocal), nullptr);
  EXPECT_EQ(Get(*capture, "weight", Role::kGrad)->mean, 1.0f);
}

TEST_F(StepCaptureTest, UncoalescedSparseGradientsAreTheirDenseEquivalent) {
  torch::nn::EmbeddingImpl model(1000, 4);
  const torch::Tensor places = torch::tensor({{7, 3, 7, 999, 3, 7}});
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kFloat16,
                           torch::kBFloat16, torch::kComplexFloat}) {
    model.to(dtype);
    torch::Tensor values = torch::randn({6, 4}).to(dtype);
    values[5] = -values[0] - values[2];  // Cancels, or nearly.
    const torch::Tensor grad =
        torch::sparse_coo_tensor(places, values, {1000, 4});
    ASSERT_FALSE(grad.is_coalesced());
    model.weight.mutable_grad() = grad;
    const auto capture = Make(model);
    Step(*capture, 0);
    const Record* record = Get(*capture, "weight", Role::kGrad);
    ASSERT_NE(record, nullptr);
    // coalesce() first: LibTorch 1.13 refuses some of these dtypes otherwise.
    ExpectRecordOf(AsDoubles(grad.coalesce()), *record,
                   std::string(c10::toString(dtype)));
    EXPECT_FALSE(grad.is_coalesced());  // Nothing was changed.
  }
}

TEST_F(StepCaptureTest, SparseGradientsOfEveryShapeAreReduced) {
  const auto check = [&](const torch::Tensor& grad, const std::string& what) {
    torch::nn::Module model;
    torch::Tensor weight = torch::zeros(grad.sizes());
    model.register_parameter("w", weight).mutable_grad() = grad;
    const auto capture = Make(model);
    Step(*capture, 0);
    const Record* record = Get(*capture, "w", Role::kGrad);
    ASSERT_NE(record, nullptr) << what;
    ExpectRecordOf(AsDoubles(grad.coalesce()), *record, what);
  };
  check(torch::eye(5).to_sparse(), "coalesced, two sparse dimensions");
  check(torch::sparse_coo_tensor(torch::tensor({{0, 0}, {1, 1}}),
                                 torch::tensor({1.0f, 2.0f}), {3, 3}),
        "no dense dimension");
  check(torch::sparse_coo_tensor(torch::zeros({1, 0}, torch::kInt64),
                                 torch::zeros({0, 2}), {3, 2}),
        "no entry");
  check(torch::sparse_coo_tensor(torch::tensor({{2, 0, 2}}),
                                 torch::randn({4, 3}).t(), {3, 4}),
        "values that are not contiguous");
  check(torch::sparse_coo_tensor(torch::tensor({{1, 1}}),
                                 torch::randn({2, 3, 2, 2}), {2, 3, 2, 2}),
        "three dense dimensions");
  check(torch::sparse_coo_tensor(torch::tensor({{1, 1}}), torch::zeros({2, 0}),
                                 {2, 0}),
        "no element");
}

TEST_F(StepCaptureTest, NamedTensorsAreRecordedUnderTheirNames) {
  torch::Tensor w = torch::full({2}, 4.0f).requires_grad_();
  CaptureOptions options;
  options.report = [](const std::string&) {};
  const auto capture = Capture::OfTensors(
      {NamedTensor("enc.w", w), NamedTensor("stat", torch::ones({3}), true),
       NamedTensor("none", torch::Tensor())},
      std::move(options));
  Step(*capture, 0);
  EXPECT_EQ(Get(*capture, "enc.w", Role::kWeight)->mean, 4.0f);
  EXPECT_EQ(Find(*capture, "enc.w").module_path, "enc");
  EXPECT_EQ(Get(*capture, "stat", Role::kBuffer)->mean, 1.0f);
  EXPECT_THAT(Find(*capture, "none").unsupported_reason,
              HasSubstr("undefined"));
}

TEST_F(StepCaptureTest, PrefixesFiltersAndPlacementFormTheTable) {
  torch::nn::LinearImpl g(2, 2), d(2, 2);
  CaptureOptions options;
  options.filter = *NameFilter::Create({}, {"bias"});
  options.sharded = *NameFilter::Create({"^D"});
  options.any_sharded = true;
  options.report = [](const std::string&) {};
  const auto capture = Capture::OfModules(
      {NamedModule("G", g), NamedModule("D", d)}, std::move(options));
  Step(*capture, 0);
  ASSERT_EQ(capture->schema().parameters.size(), 2u);
  EXPECT_EQ(Find(*capture, "G.weight").placement, Placement::kReplicated);
  EXPECT_EQ(Find(*capture, "G.weight").module_path, "G");
  EXPECT_EQ(Find(*capture, "D.weight").placement, Placement::kSharded);
}

TEST_F(StepCaptureTest, UnsupportedTensorsAreInTheTableWithoutRoles) {
  torch::nn::Module model;
  model.register_buffer(
      "q", torch::quantize_per_tensor(torch::ones({2}), 0.1, 0, torch::kQInt8));
  model.register_buffer("fine", torch::ones({2}));
  const auto capture = Make(model);
  Step(*capture, 0);
  EXPECT_THAT(Find(*capture, "q").roles, IsEmpty());
  EXPECT_EQ(Get(*capture, "fine", Role::kBuffer)->mean, 1.0f);
}

TEST_F(StepCaptureTest, ScalarsAreReadFromAnyTensorOfOneElement) {
  EXPECT_EQ(*ReadScalar(torch::tensor(1.5f)), 1.5);
  EXPECT_EQ(*ReadScalar(torch::tensor(0.1, torch::kFloat64)), 0.1);
  EXPECT_EQ(*ReadScalar(torch::tensor({7})), 7);
  EXPECT_EQ(*ReadScalar(torch::tensor(true)), 1);
  EXPECT_EQ(*ReadScalar(torch::tensor(2.5f).to(torch::kFloat16)), 2.5);
  EXPECT_EQ(*ReadScalar(torch::ones({3, 3})[1][1].requires_grad_()), 1);
  EXPECT_TRUE(std::isnan(*ReadScalar(torch::tensor(0.0f / 0.0f))));
  EXPECT_EQ(*ReadScalar(torch::tensor(-1.0f / 0.0f)), -1.0 / 0.0);
  EXPECT_THAT(std::string(ReadScalar(torch::ones({2})).status().message()),
              HasSubstr("2 elements"));
  EXPECT_FALSE(ReadScalar(torch::Tensor()).ok());
  EXPECT_FALSE(ReadScalar(torch::ones({}, torch::device(torch::kMeta))).ok());
  EXPECT_FALSE(ReadScalar(torch::ones({1}).to_sparse()).ok());
}

}  // namespace
}  // namespace gradtap::agent
