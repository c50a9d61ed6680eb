// Fashion-MNIST from its four idx files.
//
// Layer: examples. This file: std; no torch.

#ifndef GRADTAP_EXAMPLES_FASHION_MNIST_DATASET_H_
#define GRADTAP_EXAMPLES_FASHION_MNIST_DATASET_H_

#include <cstdint>
#include <string>
#include <vector>

namespace examples {

inline constexpr char kFashionMnistFolder[] =
    "/usr/share/datasets/fashion-mnist";

struct ImageSet {
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::uint8_t> pixels;  // count * rows * columns.
  std::vector<std::uint8_t> labels;  // count, each 0 to 9.
};

// Reads FOLDER/PREFIX-images-idx3-ubyte.gz and its labels; PREFIX is "train" or
// "t10k". Throws std::runtime_error that names the file, what is wrong with it
// and, if it is not there, the package that has it.
ImageSet ReadImages(const std::string& folder, const std::string& prefix);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_FASHION_MNIST_DATASET_H_
