// A target as a test: its seeds, the files of a folder, and changes of those
// that a fixed seed draws. `--count N`: how many changes.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz.h"

namespace gradtap::fuzz {
namespace {

// A few changes such as libFuzzer makes: bits, bytes, numbers, pieces that are
// cut out, doubled, or come from another input.
std::string Changed(std::string text, const std::vector<std::string>& others,
                    std::mt19937_64& random) {
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(random() % std::max<std::size_t>(n, 1));
  };
  const std::size_t changes = 1 + below(4);
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t count =
        below(std::min<std::size_t>(text.size() - at, 64) + 1);
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] ^= static_cast<char>(1u << below(8));
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 2: {
        static constexpr std::uint64_t kOdd[] = {
            0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, ~0ull};
        const std::uint64_t number = kOdd[below(std::size(kOdd))];
        const std::size_t size = std::size_t{1} << below(4);
        text.replace(at, std::min(size, text.size() - at),
                     reinterpret_cast<const char*>(&number), size);
        break;
      }
      case 3:
        text.erase(at, count);
        break;
      case 4:
        text.insert(at, text.substr(at, count));
        break;
      case 5:
        text.resize(at);
        break;
      default: {
        const std::string& other = others[below(others.size())];
        text.insert(at, other.substr(below(other.size() + 1), 1 + below(64)));
        break;
      }
    }
  }
  return text;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int Replay(const std::filesystem::path& corpus, long count) {
  std::vector<std::string> inputs = Seeds();
  if (inputs.empty()) {
    std::fprintf(stderr, "the target has no seed\n");
    return 1;
  }
  if (std::filesystem::is_directory(corpus)) {
    for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
      inputs.push_back(ReadFile(entry.path()));
    }
  }
  for (const std::string& input : inputs) Try(input);
  std::mt19937_64 random(1);
  for (long i = 0; i < count; ++i) {
    const std::string& from = inputs[random() % inputs.size()];
    Try(Changed(from, inputs, random));
  }
  std::printf("%zu inputs, %ld changes of them\n", inputs.size(), count);
  return 0;
}

}  // namespace
}  // namespace gradtap::fuzz

int main(int argc, char** argv) {
  std::string corpus;
  long count = 20000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string_view(argv[i]) == "--corpus") corpus = argv[i + 1];
    if (std::string_view(argv[i]) == "--count") count = std::atol(argv[i + 1]);
  }
  return gradtap::fuzz::Replay(corpus, count);
}
