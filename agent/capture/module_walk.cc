// The one unit that includes torch/nn/module.h.

#include "agent/capture/module_walk.h"

#include <torch/nn/module.h>

#include <memory>
#include <utility>

#include "agent/capture/type_name.h"

namespace gradtap::agent {
namespace {

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

using Children =
    torch::OrderedDict<std::string, std::shared_ptr<torch::nn::Module>>;

// A module that is being walked. The stack of these is our own: a deep model
// must not overflow the training thread's.
struct Visit {
  Visit(std::string path_in, const torch::nn::Module& module_in)
      : path(std::move(path_in)),
        module(&module_in),
        children(module_in.named_children()) {}

  std::string path;
  const torch::nn::Module* module;
  Children children;
  std::size_t next_child = 0;
};

void AppendOwn(const Visit& visit, std::vector<FoundTensor>* found) {
  const std::string type = PlainTypeName(visit.module->name());
  const auto append = [&](const std::string& name, const at::Tensor& tensor,
                          Kind kind) {
    if (!tensor.defined()) return;  // Registered without a value: no bias.
    found->push_back({Join(visit.path, name), visit.path, type, kind, tensor});
  };
  for (const auto& item : visit.module->named_parameters(/*recurse=*/false)) {
    append(item.key(), item.value(), Kind::kParameter);
  }
  for (const auto& item : visit.module->named_buffers(/*recurse=*/false)) {
    append(item.key(), item.value(), Kind::kBuffer);
  }
}

bool IsOnPath(const std::vector<Visit>& path, const torch::nn::Module* module) {
  for (const Visit& visit : path) {
    if (visit.module == module) return true;
  }
  return false;
}

}  // namespace

void WalkModule(const std::string& prefix, const torch::nn::Module& root,
                std::vector<FoundTensor>* found) {
  std::vector<Visit> path;
  path.emplace_back(prefix, root);
  AppendOwn(path.back(), found);
  while (!path.empty()) {
    Visit& visit = path.back();
    if (visit.next_child == visit.children.size()) {
      path.pop_back();
      continue;
    }
    const auto& child = visit.children[visit.next_child++];
    const torch::nn::Module* module = child.value().get();
    if (module == nullptr || IsOnPath(path, module)) continue;
    path.emplace_back(Join(visit.path, child.key()), *module);
    AppendOwn(path.back(), found);
  }
}

}  // namespace gradtap::agent
