#include "client/cli/module_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace gradtap::client {
namespace {

v1::Parameter& Add(const std::string& name, std::uint64_t numel,
                   v1::ListParametersResponse& answer) {
  v1::Parameter& p = *answer.add_parameters();
  p.set_name(name);
  p.set_kind(v1::KIND_PARAMETER);
  const std::size_t dot = name.rfind('.');
  if (dot != std::string::npos) p.set_module_path(name.substr(0, dot));
  p.set_module_type("M");
  p.set_numel(numel);
  p.set_bytes(numel * 4);
  return p;
}

std::string Drawn(const TreeNode& root, bool utf8) {
  std::string text;
  for (const TreeLine& line : DrawTree(root, utf8)) {
    text += line.prefix + line.node->name + "\n";
  }
  return text;
}

TEST(ModuleTreeTest, NestedModulesAreDrawnOnceInWalkingOrder) {
  v1::ListParametersResponse answer;
  Add("b.x.w", 1, answer);
  Add("b.x.v", 1, answer);
  Add("a.w", 1, answer);
  Add("b.y.w", 1, answer);
  const TreeNode root = BuildModuleTree(answer);
  EXPECT_EQ(Drawn(root, true),
            "\n├─ b\n│  ├─ x\n│  │  ├─ w\n│  │  └─ v\n│  └─ y\n│     └─ w\n"
            "└─ a\n   └─ w\n");
  EXPECT_EQ(Drawn(root, false),
            "\n|- b\n|  |- x\n|  |  |- w\n|  |  `- v\n|  `- y\n|     `- w\n"
            "`- a\n   `- w\n");
}

TEST(ModuleTreeTest, TotalsAddUpAndTiedTensorsCountOnce) {
  v1::ListParametersResponse answer;
  Add("emb.w", 10, answer).add_aliases("head.w");
  Add("head.b", 3, answer);
  Add("norm.mean", 5, answer).set_kind(v1::KIND_BUFFER);
  const TreeNode root = BuildModuleTree(answer);
  EXPECT_EQ(root.parameter_numel, 13u);
  EXPECT_EQ(root.buffer_numel, 5u);
  EXPECT_EQ(root.bytes, 72u);
  ASSERT_EQ(root.children.size(), 3u);
  const TreeNode& head = root.children[1];
  EXPECT_EQ(head.path, "head");
  EXPECT_EQ(head.parameter_numel, 3u);
  ASSERT_EQ(head.children.size(), 2u);
  EXPECT_EQ(head.children[0].kind, TreeNode::Kind::kAlias);
  EXPECT_EQ(head.children[0].parameter->name(), "emb.w");
  EXPECT_EQ(head.children[0].parameter_numel, 0u);
}

TEST(ModuleTreeTest, AModuleMayBeNamedLikeAParameter) {
  v1::ListParametersResponse answer;
  Add("x", 1, answer);
  Add("x.x", 2, answer);
  const TreeNode root = BuildModuleTree(answer);
  ASSERT_EQ(root.children.size(), 2u);
  EXPECT_EQ(root.parameter_numel, 3u);
}

TEST(ModuleTreeTest, HostileNamesMakeADeepOrOddTreeButNoCrash) {
  v1::ListParametersResponse answer;
  Add(std::string(512, '.'), 1, answer);
  Add("..", 1, answer);
  Add(".a.", std::numeric_limits<std::uint64_t>::max(), answer);
  const TreeNode root = BuildModuleTree(answer);
  EXPECT_EQ(root.parameter_numel, std::numeric_limits<std::uint64_t>::max());
  EXPECT_GT(DrawTree(root, true).size(), 512u);
}

}  // namespace
}  // namespace gradtap::client
