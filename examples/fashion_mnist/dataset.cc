#include "examples/fashion_mnist/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace examples {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 30;

[[noreturn]] void Fail(const std::string& path, const std::string& what) {
  throw std::runtime_error(path + ": " + what);
}

// An idx file: two zero bytes, the element type (8: unsigned byte), the number
// of dimensions, each dimension as big-endian uint32, then the elements.
class IdxFile {
 public:
  explicit IdxFile(const std::string& path)
      : path_(path), file_(::gzopen(path.c_str(), "rb"), &::gzclose) {
    if (file_ == nullptr) {
      Fail(path,
           "cannot be opened; the data is in Debian's package "
           "dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or "
           "name its folder with --data");
    }
    std::uint8_t head[4];
    Read(head, sizeof head);
    if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] == 0 ||
        head[3] > 3) {
      Fail(path, "is not an idx file of bytes");
    }
    std::int64_t elements = 1;
    for (int i = 0; i < head[3]; ++i) {
      std::uint8_t b[4];
      Read(b, sizeof b);
      sizes_.push_back((std::int64_t{b[0]} << 24) | (b[1] << 16) | (b[2] << 8) |
                       b[3]);
      if (sizes_.back() > kMaxElements / std::max<std::int64_t>(elements, 1)) {
        Fail(path, "names too many elements");
      }
      elements *= sizes_.back();
    }
    elements_ = elements;
  }

  const std::vector<std::int64_t>& sizes() const { return sizes_; }

  std::vector<std::uint8_t> ReadElements() {
    std::vector<std::uint8_t> elements(static_cast<std::size_t>(elements_));
    Read(elements.data(), elements.size());
    return elements;
  }

 private:
  void Read(std::uint8_t* to, std::size_t bytes) {
    const int got = ::gzread(file_.get(), to, static_cast<unsigned>(bytes));
    if (got < 0 || static_cast<std::size_t>(got) != bytes) {
      Fail(path_, "ends early or is damaged");
    }
  }

  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
  std::vector<std::int64_t> sizes_;
  std::int64_t elements_ = 0;
};

}  // namespace

ImageSet ReadImages(const std::string& folder, const std::string& prefix) {
  const std::string images_path =
      folder + "/" + prefix + "-images-idx3-ubyte.gz";
  const std::string labels_path =
      folder + "/" + prefix + "-labels-idx1-ubyte.gz";
  IdxFile images(images_path);
  IdxFile labels(labels_path);
  if (images.sizes().size() != 3 || images.sizes()[0] == 0) {
    Fail(images_path, "holds no images");
  }
  if (labels.sizes() != std::vector<std::int64_t>{images.sizes()[0]}) {
    Fail(labels_path, "does not have one label for each image");
  }
  ImageSet set;
  set.count = images.sizes()[0];
  set.rows = images.sizes()[1];
  set.columns = images.sizes()[2];
  set.pixels = images.ReadElements();
  set.labels = labels.ReadElements();
  if (*std::max_element(set.labels.begin(), set.labels.end()) > 9) {
    Fail(labels_path, "has a label above 9");
  }
  return set;
}

}  // namespace examples
