#include "agent/capture/parameter_table.h"

#include <cstddef>
#include <cstdint>
#include <limits>
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

// Safe names of all that was found, at the same index; no two are equal.
std::vector<std::string> UniqueNames(const std::vector<FoundTensor>& found) {
  std::vector<std::string> names;
  names.reserve(found.size());  // Views into it stay valid.
  std::unordered_set<std::string_view> used;
  used.reserve(found.size());
  // Where each name's suffixes stopped: many equal ones must not cost a square.
  std::unordered_map<std::string, std::uint64_t> next;
  for (const FoundTensor& f : found) {
    std::string& name = names.emplace_back(SafeName(f.name));
    if (used.insert(name).second) continue;
    const std::string taken = name;
    std::uint64_t& k = next.try_emplace(taken, 2).first->second;
    do {
      name = WithSuffix(taken, "~" + std::to_string(k++));
    } while (!used.insert(name).second);
  }
  return names;
}

std::string SafeText(const std::string& text) {
  return text.empty() ? text : SafeName(text);
}

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// Names of one tensor, as indices into what was found.
struct Tied {
  std::vector<std::size_t> first;  // Of each tensor, in walking order.
  std::vector<std::size_t> next;   // At each index; kNone: the last.
};

// Equal for two names of one tensor and, but for collisions, for those only.
std::uint64_t KeyOf(const TensorFingerprint& print, Kind kind) {
  const void* const owner =
      print.storage != nullptr ? print.storage : print.impl;
  const std::uint64_t key =
      reinterpret_cast<std::uintptr_t>(owner) * 0x9E3779B97F4A7C15u ^
      print.geometry;
  return key * 2 + static_cast<std::uint64_t>(kind == Kind::kBuffer);
}

bool SameTensor(const TensorFingerprint& a, const TensorFingerprint& b) {
  if (a.impl == b.impl) return true;
  return a.storage != nullptr && a.storage == b.storage &&
         a.geometry == b.geometry && a.dtype == b.dtype;
}

Tied GroupTied(const std::vector<FoundTensor>& found) {
  struct Tensor {
    TensorFingerprint print;
    Kind kind;
    std::size_t last;  // Its newest name.
  };
  Tied tied;
  tied.next.assign(found.size(), kNone);
  std::vector<Tensor> tensors;
  tensors.reserve(found.size());
  std::unordered_multimap<std::uint64_t, std::size_t> by_key;
  by_key.reserve(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const TensorFingerprint print = FingerprintOfTensor(found[i].tensor);
    const std::uint64_t key = KeyOf(print, found[i].kind);
    Tensor* same = nullptr;
    // An undefined tensor is nobody's twin.
    const auto [begin, end] = print.impl == nullptr
                                  ? std::pair(by_key.end(), by_key.end())
                                  : by_key.equal_range(key);
    for (auto it = begin; it != end && same == nullptr; ++it) {
      Tensor& other = tensors[it->second];
      if (other.kind == found[i].kind && SameTensor(other.print, print)) {
        same = &other;
      }
    }
    if (same != nullptr) {
      tied.next[same->last] = i;
      same->last = i;
      continue;
    }
    by_key.emplace(key, tensors.size());
    tensors.push_back({print, found[i].kind, i});
    tied.first.push_back(i);
  }
  return tied;
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

// Many elements that are few in memory, again and again (expand()), would take
// the time, and the copy for updates, of as many of their own.
std::string RepeatsTooMuch(const c10::TensorImpl& impl) {
  constexpr std::uint64_t kMany = std::uint64_t{1} << 24;
  constexpr std::uint64_t kTimes = 64;
  if (impl.layout() != c10::Layout::Strided || !impl.has_storage()) return "";
  const auto numel = static_cast<std::uint64_t>(impl.numel());
  const std::uint64_t bytes = impl.storage().nbytes();
  if (numel <= kMany || numel / kTimes <= bytes / impl.itemsize()) return "";
  return "it has " + std::to_string(numel) + " elements in " +
         std::to_string(bytes) + " bytes of memory";
}

void Describe(const FoundTensor& found, Parameter* p) {
  p->kind = found.kind;
  p->module_path = SafeText(found.module_path);
  p->module_type = SafeText(found.module_type);
  p->unsupported_reason = UnsupportedReason(found.tensor);
  if (!found.tensor.defined()) return;
  const c10::TensorImpl& impl = *found.tensor.unsafeGetTensorImpl();
  if (p->unsupported_reason.empty()) {
    p->unsupported_reason = RepeatsTooMuch(impl);
  }
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
  std::vector<std::string> names = UniqueNames(found);
  const Tied tied = GroupTied(found);
  table.parameters.reserve(tied.first.size());
  table.tensors.reserve(tied.first.size());
  const auto passes = [&](std::size_t i) {
    return rules.filter == nullptr || rules.filter->Matches(names[i]);
  };
  for (const std::size_t first : tied.first) {
    std::size_t main = first;
    while (main != kNone && !passes(main)) main = tied.next[main];
    if (main == kNone) continue;
    Parameter& p = table.parameters.emplace_back();
    Describe(found[main], &p);
    p.name = std::move(names[main]);
    for (std::size_t i = first; i != kNone; i = tied.next[i]) {
      if (i != main) p.aliases.push_back(std::move(names[i]));
    }
    if (rules.sharded != nullptr && rules.sharded->Matches(p.name)) {
      p.placement = Placement::kSharded;
    }
    p.roles = RolesOf(p, found[main].tensor, rules);
    table.tensors.push_back(std::move(found[main].tensor));
  }
  return table;
}

}  // namespace gradtap::agent
