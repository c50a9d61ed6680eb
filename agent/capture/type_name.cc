#include "agent/capture/type_name.h"

#include <cstddef>

namespace gradtap::agent {
namespace {

void EraseAll(std::string_view what, std::string* text) {
  for (std::size_t at = text->find(what); at != std::string::npos;
       at = text->find(what, at)) {
    text->erase(at, what.size());
  }
}

// Without what stands between balanced angle brackets; as it is if they are
// not balanced.
std::string WithoutTemplateArguments(const std::string& text) {
  std::string out;
  int depth = 0;
  for (const char c : text) {
    if (c == '<') ++depth;
    if (depth == 0) out += c;
    if (c == '>' && --depth < 0) return text;
  }
  return depth == 0 ? out : text;
}

// "f(int)::{lambda()#1}::operator()() const::Net" is "Net".
void EraseEnclosingFunction(std::string* text) {
  const std::size_t parenthesis = text->rfind(')');
  if (parenthesis == std::string::npos) return;
  const std::size_t colons = text->find("::", parenthesis);
  if (colons == std::string::npos) return;
  text->erase(0, colons + 2);
}

}  // namespace

std::string PlainTypeName(std::string_view demangled) {
  constexpr std::string_view kTorch = "torch::nn::";
  constexpr std::string_view kImpl = "Impl";
  std::string name(demangled);
  EraseAll("[abi:cxx11]", &name);
  EraseAll("(anonymous namespace)::", &name);
  EraseAll("{anonymous}::", &name);
  name = WithoutTemplateArguments(name);
  EraseEnclosingFunction(&name);
  if (name.rfind(kTorch, 0) == 0) name.erase(0, kTorch.size());
  const std::size_t last = name.rfind("::");
  const std::size_t own = last == std::string::npos ? 0 : last + 2;
  if (name.size() > own + kImpl.size() &&
      name.compare(name.size() - kImpl.size(), kImpl.size(), kImpl) == 0) {
    name.erase(name.size() - kImpl.size());
  }
  return name.empty() ? std::string(demangled) : name;
}

}  // namespace gradtap::agent
