#include "agent/scalars.h"

#include <limits>
#include <unordered_set>

#include "agent/capture/capture.h"
#include "core/names.h"

namespace gradtap::agent {

bool ScalarFiller::SameNames(std::span<const Scalar> from) const {
  if (from.size() != names_.size()) return false;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i].name() != names_[i].given) return false;
  }
  return true;
}

void ScalarFiller::TakeNames(std::span<const Scalar> from) {
  names_.clear();
  std::unordered_set<std::string> used;
  for (const Scalar& scalar : from) {
    Name name{scalar.name(), SafeName(scalar.name()), ""};
    if (name.safe.rfind("agent.", 0) == 0) {
      name.refusal = "names that begin with 'agent.' are the agent's own";
    } else if (used.size() == kMaxScalars) {
      name.refusal = "a step has at most " + std::to_string(kMaxScalars);
    } else if (!used.insert(name.safe).second) {
      name.refusal = "the step has one of this name already";
    }
    names_.push_back(std::move(name));
  }
}

void ScalarFiller::Fill(std::span<const Scalar> from, const Report& report,
                        const Later& later, std::vector<ScalarValue>* to) {
  size_ = 0;
  if (!SameNames(from)) TakeNames(from);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const Name& name = names_[i];
    const auto refuse = [&](std::string_view why) {
      report("scalar '" + name.safe + "' is left out: " + std::string(why));
    };
    if (!name.refusal.empty()) {
      refuse(name.refusal);
      continue;
    }
    double value = from[i].value();
    if (from[i].tensor() != nullptr && later != nullptr &&
        later(*from[i].tensor(), size_)) {
      value = std::numeric_limits<double>::quiet_NaN();
    } else if (from[i].tensor() != nullptr) {
      const absl::StatusOr<double> read = ReadScalar(*from[i].tensor());
      if (!read.ok()) {
        const absl::string_view why = read.status().message();
        refuse(std::string_view(why.data(), why.size()));
        continue;
      }
      value = *read;
    }
    ScalarValue* const next = Next(to);
    if (next->name != name.safe) next->name = name.safe;
    next->value = value;
  }
}

bool ScalarFiller::Has(std::string_view name,
                       const std::vector<ScalarValue>& in) const {
  for (std::size_t i = 0; i < size_; ++i) {
    if (in[i].name == name) return true;
  }
  return false;
}

void ScalarFiller::Append(const char* name, double value,
                          std::vector<ScalarValue>* to) {
  ScalarValue* const next = Next(to);
  if (next->name != name) next->name = name;
  next->value = value;
}

ScalarValue* ScalarFiller::Next(std::vector<ScalarValue>* to) {
  if (size_ == to->size()) to->emplace_back();
  return &(*to)[size_++];
}

}  // namespace gradtap::agent
