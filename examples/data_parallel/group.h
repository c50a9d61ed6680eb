// The processes that train one model together, over c10d's Gloo on this
// machine's loopback interface.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_DATA_PARALLEL_GROUP_H_
#define GRADTAP_EXAMPLES_DATA_PARALLEL_GROUP_H_

#include <torch/torch.h>

#include <string>
#include <vector>

namespace c10d {
class ProcessGroupGloo;
}  // namespace c10d

namespace examples {

// One thread. Each call but rank() and size() is a collective: all ranks make
// it, with tensors of the same shapes, and wait for one another. Throws what
// c10d throws if a rank is gone.
class Group {
 public:
  // Waits until `size` processes have met at `store`, a file that did not exist
  // before. A group of one is no group: it needs no store.
  Group(const std::string& store, int rank, int size);
  ~Group();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // In place: each element becomes the mean, or the sum, of all ranks'.
  void Average(const std::vector<torch::Tensor>& tensors);
  void Sum(const std::vector<torch::Tensor>& tensors);

 private:
  const int rank_;
  const int size_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo_;  // Null: a group of one.
};

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_DATA_PARALLEL_GROUP_H_
