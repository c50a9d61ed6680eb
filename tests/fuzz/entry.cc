// A target under libFuzzer. --write-seeds=DIR writes its seeds there and ends.

#include <cstddef>
#include <cstdint>
#include <fstream>

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kOption = "--write-seeds=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view word = (*argv)[i];
    if (word.substr(0, kOption.size()) != kOption) continue;
    const std::string dir(word.substr(kOption.size()));
    int number = 0;
    for (const std::string& seed : gradtap::fuzz::Seeds()) {
      std::ofstream(dir + "/seed" + std::to_string(number++), std::ios::binary)
          << seed;
    }
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  gradtap::fuzz::Try({reinterpret_cast<const char*>(data), size});
  return 0;
}
