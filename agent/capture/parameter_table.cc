#include "agent/capture/parameter_table.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "agent/capture/tensor_view.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

// `name` with `suffix`, at most kMaxNameBytes: cut at a character.
std::string WithSuffix(const std::string& name, const std::string& suffix) {
  std::size_t keep = name.size();
  if (keep + suffix.size() > kMaxNameBytes) {
    keep = kMaxNameBytes - suffix.size();
    while (keep > 0 &&
           (static_cast<unsigned char>(name[keep]) & 0xC0) == 0x80) {
      --keep;
    }
  }
  return name.substr(0, keep) + suffix;
}

class UniqueNames {
 public:
  explicit UniqueNames(std::size_t expected) { used_.reserve(expected); }

  // A safe name that was not handed out before.
  std::string Take(const std::string& hostile) {
    std::string name = SafeName(hostile);
    if (used_.insert(name).second) return name;
    // Remembers where it stopped: many equal names must not cost a square.
    for (std::uint64_t& k = next_[name];; ++k) {
      if (k < 2) k = 2;
      std::string other = WithSuffix(name, "~" + std::to_string(k));
      if (used_.insert(other).second) return other;
    }
  }

 private:
  std::unordered_set<std::string> used_;
  std::unordered_map<std::string, std::uint64_t> next_;
};

std::string SafeText(const std::string& text) {
  return text.empty() ? text : SafeName(text);
}

// Equal for names of one tensor.
struct Identity {
  const void* impl;
  TensorFingerprint print;
  Kind kind;
};

std::uint64_t StorageKey(const Identity& id) {
  std::uint64_t key = reinterpret_cast<std::uintptr_t>(id.print.storage);
  key = key * 0x9E3779B97F4A7C15u ^ id.print.geometry;
  return key * 2 + static_cast<std::uint64_t>(id.kind == Kind::kBuffer);
}

bool SameTensor(const Identity& a, const Identity& b) {
  if (a.kind != b.kind || a.impl == nullptr || b.impl == nullptr) return false;
  if (a.impl == b.impl) return true;
  return a.print.storage != nullptr && a.print.storage == b.print.storage &&
         a.print.geometry == b.print.geometry && a.print.dtype == b.print.dtype;
}

// Groups of indices into what was found, each in walking order.
std::vector<std::vector<std::size_t>> GroupTied(
    const std::vector<FoundTensor>& found) {
  std::vector<std::vector<std::size_t>> groups;
  std::vector<Identity> of_group;
  std::unordered_map<const void*, std::size_t> by_impl[2];
  std::unordered_multimap<std::uint64_t, std::size_t> by_storage;
  by_impl[0].reserve(found.size());
  by_storage.reserve(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const TensorFingerprint print = FingerprintOfTensor(found[i].tensor);
    const Identity id{print.impl, print, found[i].kind};
    auto& impls = by_impl[id.kind == Kind::kBuffer ? 1 : 0];
    const std::size_t fresh = groups.size();
    std::size_t group = fresh;
    if (id.impl != nullptr) {
      const auto [at, is_new] = impls.try_emplace(id.impl, fresh);
      if (!is_new) group = at->second;
    }
    if (group == fresh && print.storage != nullptr) {
      const auto [begin, end] = by_storage.equal_range(StorageKey(id));
      for (auto it = begin; it != end && group == fresh; ++it) {
        if (SameTensor(of_group[it->second], id)) group = it->second;
      }
      if (group == fresh) by_storage.emplace(StorageKey(id), fresh);
      impls[id.impl] = group;
    }
    if (group == fresh) {
      groups.emplace_back();
      of_group.push_back(id);
    }
    groups[group].push_back(i);
  }
  return groups;
}

std::vector<Role> RolesOf(const Parameter& p, const at::Tensor& tensor,
                          const TableRules& rules) {
  std::vector<Role> roles;
  if (!p.unsupported_reason.empty()) return roles;
  if (p.kind == Kind::kBuffer) {
    if (rules.roles.buffer) roles.push_back(Role::kBuffer);
    return roles;
  }
  const bool differentiable = c10::isFloatingType(tensor.scalar_type()) ||
                              c10::isComplexType(tensor.scalar_type());
  const bool gradients =
      differentiable && (rules.without_gradients == nullptr ||
                         rules.without_gradients->count(p.name) == 0);
  if (rules.roles.weight) roles.push_back(Role::kWeight);
  if (rules.roles.grad && gradients) roles.push_back(Role::kGrad);
  if (rules.grad_local && gradients) roles.push_back(Role::kGradLocal);
  if (rules.roles.update && tensor.layout() == c10::Layout::Strided) {
    roles.push_back(Role::kUpdate);
  }
  return roles;
}

void Describe(const FoundTensor& found, Parameter* p) {
  p->kind = found.kind;
  p->module_path = SafeText(found.module_path);
  p->module_type = SafeText(found.module_type);
  p->unsupported_reason = UnsupportedReason(found.tensor);
  if (!found.tensor.defined()) return;
  const c10::TensorImpl& impl = *found.tensor.unsafeGetTensorImpl();
  p->dtype = DtypeText(found.tensor.scalar_type());
  p->device = impl.device().str();
  p->layout = LayoutText(impl.layout());
  p->requires_grad = impl.requires_grad();
  if (impl.is_nested()) return;
  p->shape.assign(impl.sizes().begin(), impl.sizes().end());
  p->numel = static_cast<std::uint64_t>(impl.numel());
  p->bytes = p->numel * impl.itemsize();
}

}  // namespace

TableOfTensors BuildTable(std::vector<FoundTensor> found,
                          const TableRules& rules) {
  TableOfTensors table;
  UniqueNames unique(found.size());
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const FoundTensor& f : found) names.push_back(unique.Take(f.name));
  const auto passes = [&](const std::string& name) {
    return rules.filter == nullptr || rules.filter->Matches(name);
  };
  for (const std::vector<std::size_t>& group : GroupTied(found)) {
    std::size_t first = 0;
    while (first < group.size() && !passes(names[group[first]])) ++first;
    if (first == group.size()) continue;
    Parameter p;
    FoundTensor& main = found[group[first]];
    Describe(main, &p);
    p.name = names[group[first]];
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (i != first) p.aliases.push_back(names[group[i]]);
    }
    if (rules.sharded != nullptr && rules.sharded->Matches(p.name)) {
      p.placement = Placement::kSharded;
    }
    p.roles = RolesOf(p, main.tensor, rules);
    table.parameters.push_back(std::move(p));
    table.tensors.push_back(main.tensor);
  }
  return table;
}

}  // namespace gradtap::agent
