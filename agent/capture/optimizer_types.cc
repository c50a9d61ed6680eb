#include "agent/capture/optimizer_types.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "agent/capture/type_name.h"

namespace gradtap::agent {
namespace {

std::string NameOf(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
  return PlainTypeName(demangled != nullptr ? demangled.get() : type.name());
}

}  // namespace

bool OptimizerTypes::Note(const std::type_info& type) {
  const auto end = known_.begin() + static_cast<std::ptrdiff_t>(count_);
  if (std::find(known_.begin(), end, &type) != end || count_ == kMax) {
    return false;
  }
  std::string name = NameOf(type);
  const bool is_new =
      std::find(names_.begin(), names_.end(), name) == names_.end();
  if (is_new) names_.push_back(std::move(name));
  known_[count_++] = &type;
  return is_new;
}

}  // namespace gradtap::agent
