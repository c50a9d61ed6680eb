#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gradtap/agent.h"

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> Names(const ParameterTable& table) {
  std::vector<std::string> names;
  for (const ParameterDescription& p : table.parameters) {
    names.push_back(p.name);
  }
  return names;
}

const ParameterDescription& Find(const ParameterTable& table,
                                 std::string_view name) {
  for (const ParameterDescription& p : table.parameters) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no " + std::string(name));
}

// Books of a table: each entry is counted once, in its kind.
class ParameterTableTest : public ::testing::Test {
 protected:
  ParameterTable Describe(const torch::nn::Module& model,
                          const std::vector<std::string>& include = {},
                          const std::vector<std::string>& exclude = {}) {
    ParameterTable table = DescribeParameters(model, include, exclude);
    std::uint64_t count[2] = {}, numel[2] = {}, bytes[2] = {}, trainable = 0;
    std::map<std::string, int> names;
    for (const ParameterDescription& p : table.parameters) {
      ++count[p.buffer];
      numel[p.buffer] += p.numel;
      bytes[p.buffer] += p.bytes;
      if (!p.buffer && p.requires_grad) trainable += p.numel;
      EXPECT_EQ(++names[p.name], 1) << p.name;
      for (const std::string& alias : p.aliases) EXPECT_EQ(++names[alias], 1);
    }
    EXPECT_EQ(table.parameter_count, count[0]);
    EXPECT_EQ(table.buffer_count, count[1]);
    EXPECT_EQ(table.parameter_numel, numel[0]);
    EXPECT_EQ(table.buffer_numel, numel[1]);
    EXPECT_EQ(table.parameter_bytes, bytes[0]);
    EXPECT_EQ(table.buffer_bytes, bytes[1]);
    EXPECT_EQ(table.trainable_numel, trainable);
    return table;
  }
};

struct TwoLayers : torch::nn::Module {
  TwoLayers() {
    first = register_module("first", torch::nn::Linear(4, 3));
    second = register_module("second", torch::nn::Linear(3, 2));
    second->bias.set_requires_grad(false);
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

TEST_F(ParameterTableTest, ListsNameShapeDtypeRequiresGradAndTheTotal) {
  const auto model = std::make_shared<TwoLayers>();
  const ParameterTable table = Describe(*model);
  EXPECT_THAT(Names(table), ElementsAre("first.weight", "first.bias",
                                        "second.weight", "second.bias"));
  EXPECT_EQ(table.parameter_count, 4u);
  EXPECT_EQ(table.parameter_numel, 4u * 3 + 3 + 3 * 2 + 2);
  EXPECT_EQ(table.parameter_bytes, table.parameter_numel * 4);
  EXPECT_EQ(table.trainable_numel, table.parameter_numel - 2);
  const ParameterDescription& p = table.parameters[0];
  EXPECT_THAT(p.shape, ElementsAre(3, 4));
  EXPECT_EQ(p.dtype, "float32");
  EXPECT_EQ(p.device, "cpu");
  EXPECT_EQ(p.layout, "strided");
  EXPECT_EQ(p.module_type, "Linear");
  EXPECT_EQ(p.module_path, "first");
  EXPECT_EQ(p.numel, 12u);
  EXPECT_EQ(p.bytes, 48u);
  EXPECT_FALSE(p.buffer);
  EXPECT_TRUE(p.requires_grad);
  EXPECT_EQ(p.unsupported_reason, "");
  EXPECT_FALSE(table.parameters[3].requires_grad);
  EXPECT_THAT(table.ToString(), HasSubstr("4 parameters of 23 elements"));
}

struct Outer : torch::nn::Module {
  Outer() {
    register_parameter("scale", torch::ones({1}));
    encoder = register_module("encoder",
                              torch::nn::Sequential(torch::nn::Linear(2, 2),
                                                    torch::nn::Linear(2, 2)));
    inner = register_module("inner", std::make_shared<TwoLayers>());
  }
  torch::nn::Sequential encoder{nullptr};
  std::shared_ptr<TwoLayers> inner;
};

TEST_F(ParameterTableTest, NestedModulesListEachParameterOnceUnderItsFullPath) {
  const auto model = std::make_shared<Outer>();
  const ParameterTable table = Describe(*model);
  EXPECT_THAT(Names(table),
              ElementsAre("scale", "encoder.0.weight", "encoder.0.bias",
                          "encoder.1.weight", "encoder.1.bias",
                          "inner.first.weight", "inner.first.bias",
                          "inner.second.weight", "inner.second.bias"));
  EXPECT_EQ(Find(table, "scale").module_path, "");
  EXPECT_EQ(Find(table, "scale").module_type, "gradtap::Outer");
  EXPECT_EQ(Find(table, "encoder.1.weight").module_path, "encoder.1");
  EXPECT_EQ(Find(table, "inner.first.bias").module_type, "Linear");
  // In the order, and with the names, of LibTorch's own listing.
  std::vector<std::string> listed;
  for (const auto& item : model->named_parameters()) {
    listed.push_back(item.key());
  }
  EXPECT_EQ(Names(table), listed);
}

TEST_F(ParameterTableTest, BatchNormsRunningStatisticsAreBuffers) {
  const torch::nn::Sequential model(torch::nn::Linear(4, 3),
                                    torch::nn::BatchNorm1d(3));
  const ParameterTable table = Describe(*model);
  EXPECT_EQ(table.parameter_count, 4u);
  EXPECT_EQ(table.buffer_count, 3u);
  for (const char* name :
       {"1.running_mean", "1.running_var", "1.num_batches_tracked"}) {
    EXPECT_TRUE(Find(table, name).buffer) << name;
    EXPECT_EQ(Find(table, name).module_type, "BatchNorm1d");
  }
  const ParameterDescription& tracked = Find(table, "1.num_batches_tracked");
  EXPECT_EQ(tracked.dtype, "int64");
  EXPECT_THAT(tracked.shape, IsEmpty());
  EXPECT_EQ(tracked.numel, 1u);
  EXPECT_EQ(tracked.bytes, 8u);
}

TEST_F(ParameterTableTest, APatternSelectsTheWeightsAlone) {
  const auto model = std::make_shared<Outer>();
  EXPECT_THAT(Names(Describe(*model, {"weight$"})),
              ElementsAre("encoder.0.weight", "encoder.1.weight",
                          "inner.first.weight", "inner.second.weight"));
  EXPECT_THAT(Names(Describe(*model, {"weight$"}, {"^inner"})),
              ElementsAre("encoder.0.weight", "encoder.1.weight"));
  EXPECT_THAT(Names(Describe(*model, {"nothing"})), IsEmpty());
}

TEST_F(ParameterTableTest, ABadPatternThrowsAndIsNamed) {
  const torch::nn::Linear model(1, 1);
  try {
    Describe(*model, {"ok", "(open"});
    FAIL() << "did not throw";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("(open"));
  }
}

struct Wide : torch::nn::Module {
  explicit Wide(int layers) {
    for (int i = 0; i < layers; ++i) {
      register_module("layer" + std::to_string(i), torch::nn::Linear(2, 2));
    }
  }
};

TEST_F(ParameterTableTest, TenThousandParametersTakeLessThanAKilobyteEach) {
  const auto model = std::make_shared<Wide>(5000);
  model->named_parameters();  // Whatever LibTorch allocates once.
  const std::size_t before = ::mallinfo2().uordblks;
  const ParameterTable table = DescribeParameters(*model);
  const std::size_t after = ::mallinfo2().uordblks;
  ASSERT_THAT(table.parameters, SizeIs(10'000));
  EXPECT_EQ(table.parameter_numel, 5000u * 6);
  EXPECT_EQ(Names(table)[9999], "layer4999.bias");
  EXPECT_LT(after - before, 10'000u * 1024);
  EXPECT_THAT(Names(DescribeParameters(*model, {"weight$"})), SizeIs(5000));
}

struct Tied : torch::nn::Module {
  Tied() {
    embedding = register_module("embedding", torch::nn::Embedding(7, 3));
    const torch::Tensor& weight = embedding->weight;
    register_parameter("head", weight);
    register_parameter("same_storage", weight.detach());
    register_parameter("part", weight.detach().slice(0, 0, 3));
    register_parameter("transposed", weight.detach().t());
    register_buffer("shadow", weight);
  }
  torch::nn::Embedding embedding{nullptr};
};

TEST_F(ParameterTableTest, TiedTensorsAreOneParameterWithAliases) {
  const auto model = std::make_shared<Tied>();
  const ParameterTable table = Describe(*model);
  EXPECT_THAT(Names(table),
              ElementsAre("head", "part", "transposed", "shadow"));
  EXPECT_THAT(table.parameters[0].aliases,
              ElementsAre("same_storage", "embedding.weight"));
  EXPECT_EQ(table.parameter_numel, 21u + 9 + 21);
  EXPECT_EQ(table.buffer_numel, 21u);
  EXPECT_THAT(table.ToString(),
              HasSubstr("also same_storage, embedding.weight"));
}

TEST_F(ParameterTableTest, ATiedParameterIsListedIfOneOfItsNamesPasses) {
  const auto model = std::make_shared<Tied>();
  ParameterTable table = Describe(*model, {"embedding"});
  ASSERT_THAT(Names(table), ElementsAre("embedding.weight"));
  EXPECT_THAT(table.parameters[0].aliases, ElementsAre("head", "same_storage"));
  EXPECT_EQ(table.parameters[0].module_type, "Embedding");
  table = Describe(*model, {}, {"head|shadow"});
  EXPECT_THAT(Names(table), ElementsAre("same_storage", "part", "transposed"));
}

TEST_F(ParameterTableTest, AModuleRegisteredTwiceIsTied) {
  torch::nn::Linear shared(2, 2);
  const torch::nn::Sequential model(shared, torch::nn::ReLU(), shared);
  const ParameterTable table = Describe(*model);
  EXPECT_THAT(Names(table), ElementsAre("0.weight", "0.bias"));
  EXPECT_THAT(table.parameters[1].aliases, ElementsAre("2.bias"));
}

TEST_F(ParameterTableTest, ModulesOnTheStackAreWalked) {
  TwoLayers model;
  EXPECT_THAT(Describe(model).parameters, SizeIs(4));
  torch::nn::LinearImpl linear(3, 1);
  const ParameterTable table = Describe(linear);
  EXPECT_THAT(Names(table), ElementsAre("weight", "bias"));
  EXPECT_EQ(table.parameters[0].module_type, "Linear");
  EXPECT_EQ(table.parameters[0].module_path, "");
}

TEST_F(ParameterTableTest, ModuleTypesReadAsPeopleWriteThem) {
  struct LocalImpl : torch::nn::Module {
    LocalImpl() { register_parameter("p", torch::ones({1})); }
  };
  const ParameterTable local = Describe(LocalImpl());
  EXPECT_EQ(local.parameters[0].module_type, "Local");
  EXPECT_EQ(Describe(Outer()).parameters[0].module_type, "gradtap::Outer");
}

TEST_F(ParameterTableTest, AModuleThatContainsItselfIsWalkedOnce) {
  const auto model = std::make_shared<TwoLayers>();
  model->register_module("again",
                         std::static_pointer_cast<torch::nn::Module>(model));
  EXPECT_THAT(Describe(*model).parameters, SizeIs(4));
  model->unregister_module("again");  // Else it is never freed.
}

TEST_F(ParameterTableTest, AVeryDeepModelDoesNotOverflowTheStack) {
  auto root = std::make_shared<torch::nn::Module>();
  // The modules are kept here: LibTorch's own destructors recurse.
  std::vector<std::shared_ptr<torch::nn::Module>> modules = {root};
  constexpr int kDepth = 2000;
  for (int i = 0; i < kDepth; ++i) {
    modules.push_back(std::make_shared<torch::nn::Module>());
    modules[modules.size() - 2]->register_module("m", modules.back());
  }
  modules.back()->register_parameter("p", torch::ones({1}));
  const ParameterTable table = Describe(*root);
  ASSERT_THAT(table.parameters, SizeIs(1));
  EXPECT_LE(table.parameters[0].name.size(), 512u);
}

TEST_F(ParameterTableTest, HostileNamesAreSafeAndUnique) {
  torch::nn::Module model("\x1b[1mnet\n\xff");
  const std::string long_name(100'000, 'x');
  const std::vector<std::string> names = {
      "plain",        "\xff",        "\\xff",       std::string("a\0b", 3),
      "=1+1|' /C",    "\x1b[31mred", "/etc/passwd", long_name + "1",
      long_name + "2"};
  for (const std::string& name : names) {
    model.register_parameter(name, torch::ones({1}));
  }
  const ParameterTable table = Describe(model);
  ASSERT_THAT(table.parameters, SizeIs(names.size()));
  EXPECT_EQ(table.parameters[0].name, "plain");
  EXPECT_EQ(table.parameters[1].name, "\\xff");
  EXPECT_EQ(table.parameters[2].name, "\\xff~2");
  for (const ParameterDescription& p : table.parameters) {
    EXPECT_LE(p.name.size(), 512u);
    EXPECT_EQ(p.name.find('\xff'), std::string::npos);
    EXPECT_EQ(p.module_type, "\x1b[1mnet\n\\xff");
  }
  const std::string text = table.ToString();
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2 + 9);
}

TEST_F(ParameterTableTest, DtypesAndLayoutsAreNamedAndTheUnreadableExplained) {
  torch::nn::Module model;
  const auto add = [&](const char* name, const torch::Tensor& tensor) {
    model.register_buffer(name, tensor);
  };
  add("f64", torch::zeros({2}, torch::kFloat64));
  add("f16", torch::zeros({2}, torch::kFloat16));
  add("bf16", torch::zeros({2}, torch::kBFloat16));
  add("bool", torch::zeros({2}, torch::kBool));
  add("c64", torch::zeros({2}, torch::kComplexFloat));
  add("coo", torch::eye(3).to_sparse());
  add("csr", torch::eye(3).to_sparse_csr());
  add("q", torch::quantize_per_tensor(torch::ones({2}), 0.1, 0, torch::kQInt8));
  add("meta", torch::empty({2, 3}, torch::device(torch::kMeta)));
  torch::Tensor freed = torch::ones({100});
  freed.storage().unsafeGetStorageImpl()->reset();
  freed.storage().set_nbytes(0);
  add("freed", freed);
  const ParameterTable table = Describe(model);
  EXPECT_EQ(Find(table, "f64").dtype, "float64");
  EXPECT_EQ(Find(table, "f64").bytes, 16u);
  EXPECT_EQ(Find(table, "f16").dtype, "float16");
  EXPECT_EQ(Find(table, "bf16").dtype, "bfloat16");
  EXPECT_EQ(Find(table, "bool").dtype, "bool");
  EXPECT_EQ(Find(table, "c64").dtype, "complex64");
  EXPECT_EQ(Find(table, "coo").layout, "sparse_coo");
  EXPECT_EQ(Find(table, "coo").unsupported_reason, "");
  EXPECT_EQ(Find(table, "coo").numel, 9u);
  EXPECT_EQ(Find(table, "csr").layout, "sparse_csr");
  EXPECT_THAT(Find(table, "csr").unsupported_reason, HasSubstr("sparse_csr"));
  EXPECT_EQ(Find(table, "q").dtype, "qint8");
  EXPECT_THAT(Find(table, "q").unsupported_reason, HasSubstr("quantized"));
  EXPECT_EQ(Find(table, "meta").device, "meta");
  EXPECT_THAT(Find(table, "meta").unsupported_reason, HasSubstr("meta"));
  EXPECT_THAT(Find(table, "freed").unsupported_reason, HasSubstr("storage"));
  EXPECT_THAT(table.ToString(), HasSubstr("not recorded: "));
}

}  // namespace
}  // namespace gradtap
