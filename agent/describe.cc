// DescribeParameters: the table with no agent.

#include <stdexcept>
#include <string>
#include <utility>

#include "agent/capture/capture.h"
#include "agent/include/gradtap/agent.h"
#include "core/name_filter.h"

namespace gradtap {
namespace {

void AddToTotals(const ParameterDescription& p, ParameterTable* table) {
  if (p.buffer) {
    ++table->buffer_count;
    table->buffer_numel += p.numel;
    table->buffer_bytes += p.bytes;
    return;
  }
  ++table->parameter_count;
  table->parameter_numel += p.numel;
  table->parameter_bytes += p.bytes;
  if (p.requires_grad) table->trainable_numel += p.numel;
}

}  // namespace

ParameterTable DescribeParameters(const torch::nn::Module& model,
                                  const std::vector<std::string>& include,
                                  const std::vector<std::string>& exclude) {
  const auto filter = NameFilter::Create(include, exclude);
  if (!filter.ok()) {
    throw std::invalid_argument(std::string(filter.status().message()));
  }
  ParameterTable table;
  for (Parameter& p : agent::ListParameters(model, *filter)) {
    ParameterDescription d;
    d.name = std::move(p.name);
    d.buffer = p.kind == Kind::kBuffer;
    d.module_path = std::move(p.module_path);
    d.module_type = std::move(p.module_type);
    d.dtype = std::move(p.dtype);
    d.shape = std::move(p.shape);
    d.device = std::move(p.device);
    d.layout = std::move(p.layout);
    d.requires_grad = p.requires_grad;
    d.numel = p.numel;
    d.bytes = p.bytes;
    d.aliases = std::move(p.aliases);
    d.unsupported_reason = std::move(p.unsupported_reason);
    AddToTotals(d, &table);
    table.parameters.push_back(std::move(d));
  }
  return table;
}

}  // namespace gradtap
