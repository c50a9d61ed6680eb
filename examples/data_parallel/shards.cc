#include "examples/data_parallel/shards.h"

namespace examples {

Shards::Shards(const torch::nn::Module& module, Group* group) : group_(group) {
  for (const auto& item : module.named_parameters()) {
    Shard shard;
    shard.name = item.key();
    shard.whole = item.value();
    const std::int64_t rows = shard.whole.size(0);
    shard.first = rows * group->rank() / group->size();
    const std::int64_t end = rows * (group->rank() + 1) / group->size();
    shard.rows = shard.whole.detach()
                     .narrow(0, shard.first, end - shard.first)
                     .clone()
                     .requires_grad_();
    shards_.push_back(std::move(shard));
  }
}

std::vector<torch::Tensor> Shards::parameters() const {
  std::vector<torch::Tensor> parameters;
  for (const Shard& shard : shards_) parameters.push_back(shard.rows);
  return parameters;
}

std::vector<gradtap::NamedTensor> Shards::named() const {
  std::vector<gradtap::NamedTensor> named;
  for (const Shard& shard : shards_) named.emplace_back(shard.name, shard.rows);
  return named;
}

void Shards::TakeGradients() {
  for (Shard& shard : shards_) {
    shard.rows.mutable_grad() =
        shard.whole.grad().narrow(0, shard.first, shard.rows.size(0));
  }
}

// Each rank adds its rows to zeros.
void Shards::Gather() {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> whole;
  for (Shard& shard : shards_) {
    shard.whole.zero_();
    shard.whole.narrow(0, shard.first, shard.rows.size(0)).copy_(shard.rows);
    whole.push_back(shard.whole);
  }
  group_->Sum(whole);
}

}  // namespace examples
