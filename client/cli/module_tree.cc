#include "client/cli/module_tree.h"

#include <limits>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace gradtap::client {
namespace {

std::uint64_t AddCapped(std::uint64_t a, std::uint64_t b) {
  return a > std::numeric_limits<std::uint64_t>::max() - b
             ? std::numeric_limits<std::uint64_t>::max()
             : a + b;
}

// While the tree grows, children are found by name.
struct Builder {
  TreeNode node;
  std::vector<std::unique_ptr<Builder>> children;
  std::unordered_map<std::string, Builder*> modules;

  Builder& Module(const std::string& name) {
    Builder*& found = modules[name];
    if (found == nullptr) {
      found = Add(name);
    }
    return *found;
  }

  Builder* Add(const std::string& name) {
    children.push_back(std::make_unique<Builder>());
    Builder* child = children.back().get();
    child->node.name = name;
    child->node.path = node.path.empty() ? name : node.path + "." + name;
    return child;
  }
};

// Adds the leaf at `path`, and the modules above it.
void AddLeaf(Builder& root, const std::string& path, TreeNode::Kind kind,
             const v1::Parameter& parameter) {
  const bool counted = kind != TreeNode::Kind::kAlias;
  Builder* at = &root;
  std::vector<Builder*> above = {at};
  std::size_t begin = 0;
  for (std::size_t dot; (dot = path.find('.', begin)) != std::string::npos;
       begin = dot + 1) {
    at = &at->Module(path.substr(begin, dot - begin));
    above.push_back(at);
  }
  if (counted && at->node.module_type.empty() &&
      at->node.path == parameter.module_path()) {
    at->node.module_type = parameter.module_type();
  }
  Builder* leaf = at->Add(path.substr(begin));
  leaf->node.kind = kind;
  leaf->node.parameter = &parameter;
  if (!counted) return;
  above.push_back(leaf);
  for (Builder* one : above) {
    std::uint64_t& numel = kind == TreeNode::Kind::kParameter
                               ? one->node.parameter_numel
                               : one->node.buffer_numel;
    numel = AddCapped(numel, parameter.numel());
    one->node.bytes = AddCapped(one->node.bytes, parameter.bytes());
  }
}

TreeNode Finish(Builder&& builder) {
  TreeNode node = std::move(builder.node);
  node.children.reserve(builder.children.size());
  for (std::unique_ptr<Builder>& child : builder.children) {
    node.children.push_back(Finish(std::move(*child)));
  }
  return node;
}

void Draw(const TreeNode& node, const std::string& above, bool utf8,
          std::vector<TreeLine>& lines) {
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const bool last = i + 1 == node.children.size();
    const char* branch = last ? (utf8 ? "└─ " : "`- ") : (utf8 ? "├─ " : "|- ");
    const char* below = last ? "   " : (utf8 ? "│  " : "|  ");
    lines.push_back({above + branch, &node.children[i]});
    Draw(node.children[i], above + below, utf8, lines);
  }
}

}  // namespace

TreeNode BuildModuleTree(const v1::ListParametersResponse& answer) {
  Builder root;
  for (const v1::Parameter& parameter : answer.parameters()) {
    AddLeaf(root, parameter.name(),
            parameter.kind() == v1::KIND_BUFFER ? TreeNode::Kind::kBuffer
                                                : TreeNode::Kind::kParameter,
            parameter);
    for (const std::string& alias : parameter.aliases()) {
      AddLeaf(root, alias, TreeNode::Kind::kAlias, parameter);
    }
  }
  return Finish(std::move(root));
}

std::vector<TreeLine> DrawTree(const TreeNode& root, bool utf8) {
  std::vector<TreeLine> lines = {{"", &root}};
  Draw(root, "", utf8, lines);
  return lines;
}

}  // namespace gradtap::client
