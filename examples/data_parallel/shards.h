// Parameters of which each rank owns some rows: it alone moves them, and all
// ranks gather the whole before the next batch.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_DATA_PARALLEL_SHARDS_H_
#define GRADTAP_EXAMPLES_DATA_PARALLEL_SHARDS_H_

#include <gradtap/agent.h>
#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "examples/data_parallel/group.h"

namespace examples {

// One thread. The module must outlive it.
class Shards {
 public:
  // Takes this rank's rows of each parameter of `module`, which is the same on
  // all ranks.
  Shards(const torch::nn::Module& module, Group* group);

  // This rank's rows, what its optimizer moves.
  std::vector<torch::Tensor> parameters() const;
  // The same under the parameters' names.
  std::vector<gradtap::NamedTensor> named() const;

  // The rows' gradients are the whole gradients' rows: views, so what becomes
  // of those becomes of these. After each backward.
  void TakeGradients();
  // Makes the module's parameters whole again, after the optimizer's step. A
  // collective.
  void Gather();

 private:
  struct Shard {
    std::string name;
    torch::Tensor whole;
    torch::Tensor rows;
    std::int64_t first = 0;  // Row.
  };

  std::vector<Shard> shards_;
  Group* const group_;
};

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_DATA_PARALLEL_SHARDS_H_
