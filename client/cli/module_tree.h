// A model's parameters as the hierarchy of its modules, with totals.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_MODULE_TREE_H_
#define GRADTAP_CLIENT_CLI_MODULE_TREE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// A module, a parameter, a buffer, or another name of a tied one.
struct TreeNode {
  enum class Kind { kModule, kParameter, kBuffer, kAlias };
  Kind kind = Kind::kModule;
  std::string name;  // The last part of the path; hostile text.
  std::string path;  // Full.
  // Of a module, empty if none of its own parameters is listed.
  std::string module_type;
  // Of a parameter or buffer; of an alias, what it stands for. Owned by the
  // answer that the tree was built from.
  const v1::Parameter* parameter = nullptr;
  // Over everything beneath: elements of parameters and of buffers, and the
  // bytes of both. A tied tensor counts once, where it has its first name.
  std::uint64_t parameter_numel = 0;
  std::uint64_t buffer_numel = 0;
  std::uint64_t bytes = 0;
  std::vector<TreeNode> children;  // In walking order.
};

// The root is the model itself. `answer` must outlive the tree.
TreeNode BuildModuleTree(const v1::ListParametersResponse& answer);

// One line of the drawn tree.
struct TreeLine {
  std::string prefix;  // Box characters, or ASCII.
  const TreeNode* node;
};

// Depth first, the root first. Must not outlive the tree.
std::vector<TreeLine> DrawTree(const TreeNode& root, bool utf8);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_MODULE_TREE_H_
