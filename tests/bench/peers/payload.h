// What is sent to a peer, encoded before the clock runs: pieces of a file that
// stands in the page cache.
//
// One thread writes. Layer: tests; std only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_PAYLOAD_H_
#define GRADTAP_TESTS_BENCH_PEERS_PAYLOAD_H_

#include <charconv>
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bench/peers/data_set.h"

namespace gradtap::bench {

// Floats are the shortest decimals that read back as the same float.
template <typename T>
void AppendNumber(std::string* out, T value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  out->append(text, end);
}

template <typename T>
void AppendLittleEndian(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

class Payload {
 public:
  explicit Payload(const std::string& path) : path_(path) {
    out_.open(path, std::ios::binary);
  }

  // Ends a piece when it has `piece_bytes`; call it between two records.
  void Add(std::string* buffer, std::size_t piece_bytes) {
    if (buffer->size() < piece_bytes) return;
    Cut(buffer);
  }
  void Cut(std::string* buffer) {
    if (buffer->empty()) return;
    out_ << *buffer;
    ends_.push_back((ends_.empty() ? 0 : ends_.back()) + buffer->size());
    buffer->clear();
  }
  // No more of it; the pieces can be had.
  void Close() {
    out_.close();
    if (!out_) throw std::runtime_error("cannot write " + path_);
    file_ = MappedFile(path_);
    file_.Touch();
  }

  std::size_t pieces() const { return ends_.size(); }
  std::string_view piece(std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return {file_.data() + begin, ends_[i] - begin};
  }

 private:
  const std::string path_;
  std::ofstream out_;
  std::vector<std::size_t> ends_;
  MappedFile file_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_PAYLOAD_H_
