// What people ask about a network's parameters, answered without a collector by
// DescribeParameters, and with one by `gradtap params`.

#include <gmock/gmock.h>
#include <gradtap/agent.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <vector>

#include "integration/collector.h"
#include "integration/csv.h"
#include "integration/models.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Trains one step of a module with given gradients, so that the collector knows
// it, and asks the command line.
class ParametersTest : public ::testing::Test {
 protected:
  ParametersTest() : collector_(dir_.path()) {}

  void Record(const torch::nn::Module& module, AgentOptions options = {}) {
    options.collector = collector_.address();
    options.run = "model";
    options.overhead_budget = 0;  // Each step is looked at.
    auto tap = Agent::Attach(module, options);
    tap->BeforeOptimizerStep();
    tap->AfterOptimizerStep();
    ASSERT_TRUE(tap->Flush(std::chrono::seconds(30)).delivered);
    const AgentStatus s = tap->status();
    EXPECT_EQ(s.steps_seen, s.steps_recorded + s.steps_skipped + s.steps_lost);
    EXPECT_EQ(FindRun(collector_.address(), "model").stored_steps,
              s.steps_acknowledged);
  }

  std::string Params(std::vector<std::string> args) {
    args.insert(args.begin(), {"params", "model"});
    const Outcome answer = Gradtap(collector_.address(), args);
    EXPECT_EQ(answer.exit.code, 0) << answer.err;
    return answer.out;
  }
  ParamTable Json(std::vector<std::string> args = {}) {
    args.insert(args.end(), {"--output", "json"});
    return ParseParams(Params(args));
  }
  Csv AsCsv(std::vector<std::string> args = {}) {
    args.insert(args.end(), {"--output", "csv"});
    return Csv::Parse(Params(args));
  }

  TempDir dir_;
  Collector collector_;
};

template <typename Rows>
std::vector<std::string> Names(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(row.name);
  return names;
}

std::vector<std::string> Column(const Csv& csv, const std::string& column) {
  std::vector<std::string> cells;
  for (std::size_t i = 0; i < csv.rows(); ++i)
    cells.push_back(csv.At(i, column));
  return cells;
}

// The two tables say the same, field by field.
void ExpectSame(const ParameterTable& described, const ParamTable& asked) {
  ASSERT_EQ(Names(described.parameters), Names(asked.rows));
  for (std::size_t i = 0; i < asked.rows.size(); ++i) {
    const ParameterDescription& d = described.parameters[i];
    const ParamRow& a = asked.rows[i];
    SCOPED_TRACE(d.name);
    EXPECT_EQ(a.kind, d.buffer ? "KIND_BUFFER" : "KIND_PARAMETER");
    EXPECT_EQ(a.module_path, d.module_path);
    EXPECT_EQ(a.module_type, d.module_type);
    EXPECT_EQ(a.dtype, d.dtype);
    EXPECT_EQ(a.shape, d.shape);
    EXPECT_EQ(a.device, d.device);
    EXPECT_EQ(a.layout, d.layout);
    EXPECT_EQ(a.requires_grad, d.requires_grad);
    EXPECT_EQ(a.numel, d.numel);
    EXPECT_EQ(a.bytes, d.bytes);
    EXPECT_EQ(a.aliases, d.aliases);
    EXPECT_EQ(a.unsupported_reason, d.unsupported_reason);
  }
  EXPECT_EQ(asked.parameter_count, described.parameter_count);
  EXPECT_EQ(asked.parameter_numel, described.parameter_numel);
  EXPECT_EQ(asked.parameter_bytes, described.parameter_bytes);
  EXPECT_EQ(asked.trainable_numel, described.trainable_numel);
  EXPECT_EQ(asked.buffer_count, described.buffer_count);
  EXPECT_EQ(asked.buffer_numel, described.buffer_numel);
  EXPECT_EQ(asked.buffer_bytes, described.buffer_bytes);
}

TEST_F(ParametersTest, AllAreListedWithShapeTypeAndGradientAndTheirTotal) {
  torch::nn::Linear module(3, 2);
  module->bias.set_requires_grad(false);
  const ParameterTable table = DescribeParameters(*module);
  ASSERT_THAT(Names(table.parameters), ElementsAre("weight", "bias"));
  const ParameterDescription& weight = table.parameters[0];
  EXPECT_THAT(weight.shape, ElementsAre(2, 3));
  EXPECT_EQ(weight.dtype, "float32");
  EXPECT_EQ(weight.device, "cpu");
  EXPECT_EQ(weight.layout, "strided");
  EXPECT_EQ(weight.module_path, "");
  EXPECT_EQ(weight.module_type, "Linear");
  EXPECT_TRUE(weight.requires_grad);
  EXPECT_FALSE(weight.buffer);
  EXPECT_EQ(weight.numel, 6u);
  EXPECT_EQ(weight.bytes, 24u);
  EXPECT_FALSE(table.parameters[1].requires_grad);
  EXPECT_EQ(table.parameter_count, 2u);
  EXPECT_EQ(table.parameter_numel, 8u);
  EXPECT_EQ(table.parameter_bytes, 32u);
  EXPECT_EQ(table.trainable_numel, 6u);
  EXPECT_EQ(table.buffer_count, 0u);

  Record(*module);
  ExpectSame(table, Json());
  const Csv csv = AsCsv();
  EXPECT_THAT(Column(csv, "name"), ElementsAre("weight", "bias"));
  EXPECT_THAT(Column(csv, "dtype"), ElementsAre("float32", "float32"));
  EXPECT_THAT(Column(csv, "requires_grad"), ElementsAre("true", "false"));
  EXPECT_THAT(Column(csv, "numel"), ElementsAre("6", "2"));
  EXPECT_THAT(Column(csv, "bytes"), ElementsAre("24", "8"));
  for (const std::string& text : {Params({}), table.ToString()}) {
    EXPECT_THAT(text, HasSubstr("weight"));
    EXPECT_THAT(text, HasSubstr("bias"));
    EXPECT_THAT(text, HasSubstr("float32"));
    EXPECT_THAT(text, HasSubstr("8"));
  }
}

TEST_F(ParametersTest, NestedModulesListEachParameterOnceUnderItsFullPath) {
  torch::nn::ModuleList inner(torch::nn::Linear(4, 3), torch::nn::ReLU());
  torch::nn::ModuleList module(torch::nn::Linear(2, 4), inner,
                               torch::nn::Linear(3, 1));
  const ParameterTable table = DescribeParameters(*module);
  EXPECT_THAT(Names(table.parameters),
              ElementsAre("0.weight", "0.bias", "1.0.weight", "1.0.bias",
                          "2.weight", "2.bias"));
  EXPECT_EQ(table.parameters[2].module_path, "1.0");
  EXPECT_EQ(table.parameters[2].module_type, "Linear");
  EXPECT_EQ(table.parameter_numel, 8u + 4 + 12 + 3 + 3 + 1);

  Record(*module);
  ExpectSame(table, Json());
  EXPECT_THAT(Column(AsCsv(), "name"),
              ElementsAre("0.weight", "0.bias", "1.0.weight", "1.0.bias",
                          "2.weight", "2.bias"));
  const std::string tree = Params({"--tree"});
  EXPECT_THAT(tree, HasSubstr("31"));  // All of it,
  EXPECT_THAT(tree, HasSubstr("15"));  // module 1 and module 1.0.
  EXPECT_THAT(tree, HasSubstr("12"));  // 0 and the weight of 1.0.
}

TEST_F(ParametersTest, RunningStatisticsAreBuffersNotParameters) {
  torch::nn::Sequential module(torch::nn::Linear(4, 3),
                               torch::nn::BatchNorm1d(3));
  const ParameterTable table = DescribeParameters(*module);
  std::vector<std::string> parameters, buffers;
  for (const ParameterDescription& p : table.parameters) {
    (p.buffer ? buffers : parameters).push_back(p.name);
    EXPECT_FALSE(p.buffer && p.requires_grad) << p.name;
  }
  EXPECT_THAT(parameters,
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias"));
  EXPECT_THAT(buffers, ElementsAre("1.running_mean", "1.running_var",
                                   "1.num_batches_tracked"));
  EXPECT_EQ(table.parameter_count, 4u);
  EXPECT_EQ(table.parameter_numel, 12u + 3 + 3 + 3);
  EXPECT_EQ(table.buffer_count, 3u);
  EXPECT_EQ(table.buffer_numel, 3u + 3 + 1);
  EXPECT_EQ(table.buffer_bytes, 12u + 12 + 8);

  Record(*module);
  ExpectSame(table, Json());
  EXPECT_THAT(
      Names(Json({"--kind", "buffer"}).rows),
      ElementsAre("1.running_mean", "1.running_var", "1.num_batches_tracked"));
  EXPECT_THAT(Names(Json({"--kind", "parameter"}).rows),
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias"));
  EXPECT_THAT(Column(AsCsv({"--kind", "buffer"}), "dtype"),
              ElementsAre("float32", "float32", "int64"));
  EXPECT_THAT(Params({"--kind", "parameter,buffer"}),
              HasSubstr("num_batches_tracked"));
}

TEST_F(ParametersTest, OnlyTheWeightsByPattern) {
  torch::nn::Sequential module(torch::nn::Linear(4, 3),
                               torch::nn::BatchNorm1d(3));
  const ParameterTable table = DescribeParameters(*module, {"weight$"});
  EXPECT_THAT(Names(table.parameters), ElementsAre("0.weight", "1.weight"));
  EXPECT_EQ(table.parameter_numel, 15u);
  EXPECT_THAT(Names(DescribeParameters(*module, {"^0"}, {"bias"}).parameters),
              ElementsAre("0.weight"));
  EXPECT_THAT(DescribeParameters(*module, {"nothing"}).parameters, IsEmpty());

  Record(*module);
  const ParamTable asked = Json({"--match", "weight$"});
  ExpectSame(table, asked);
  EXPECT_THAT(Column(AsCsv({"--match", "^0"}), "name"),
              ElementsAre("0.weight", "0.bias"));
  const Outcome none =
      Gradtap(collector_.address(), {"params", "model", "--match", "0.wieght"});
  EXPECT_EQ(none.exit.code, 1);
  EXPECT_THAT(none.err, HasSubstr("0.weight"));
}

TEST_F(ParametersTest, ABadPatternIsNamed) {
  torch::nn::Linear module(3, 2);
  try {
    DescribeParameters(*module, {"we(ight"});
    FAIL() << "no exception";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("we(ight"));
  }
}

TEST_F(ParametersTest, OddTensorsAreListedAsTheyAre) {
  const MixedModel model;
  const ParameterTable table = DescribeParameters(model);
  const auto find = [&](const std::string& name) {
    for (const ParameterDescription& p : table.parameters) {
      if (p.name == name) return p;
    }
    ADD_FAILURE() << name << " is not listed";
    return ParameterDescription{};
  };
  EXPECT_EQ(table.parameter_count, 17u);
  EXPECT_EQ(table.buffer_count, 4u);
  EXPECT_THAT(find("embed.weight").aliases, ElementsAre("head.weight"));
  EXPECT_EQ(
      std::count_if(table.parameters.begin(), table.parameters.end(),
                    [](const auto& p) { return p.name == "head.weight"; }),
      0);
  EXPECT_FALSE(find("frozen.weight").requires_grad);
  EXPECT_THAT(find("transposed").shape, ElementsAre(5, 7));
  EXPECT_EQ(find("half").dtype, "float16");
  EXPECT_EQ(find("half").bytes, 24u);
  EXPECT_EQ(find("bfloat").dtype, "bfloat16");
  EXPECT_EQ(find("wide").dtype, "float64");
  EXPECT_THAT(find("empty").shape, ElementsAre(0, 3));
  EXPECT_EQ(find("empty").numel, 0u);
  EXPECT_THAT(find("scale").shape, IsEmpty());
  EXPECT_EQ(find("scale").numel, 1u);
  EXPECT_EQ(find("flags").dtype, "bool");
  EXPECT_TRUE(find("flags").buffer);

  Record(model);
  ExpectSame(table, Json());
}

}  // namespace
}  // namespace gradtap::testing
