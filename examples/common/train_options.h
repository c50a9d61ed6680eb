// The command line that all examples share.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_COMMON_TRAIN_OPTIONS_H_
#define GRADTAP_EXAMPLES_COMMON_TRAIN_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace examples {

struct TrainOptions {
  std::int64_t steps = 0;  // Range: [0, 2^40].
  std::int64_t batch = 0;  // Range: [1, 65536].
  std::uint64_t seed = 1;
  std::string data;  // A file or folder; what it is, the example says.
  std::string run;
  int threads = 0;  // 0: as many as LibTorch takes by itself.
  bool quiet = false;
};

struct Usage {
  std::string description;
  std::string data_help;  // Empty: there is no `--data`.
  std::string example;
  // `--data` may also be given without its name.
  bool data_is_positional = false;
  // Adds the example's own options; may be null.
  std::function<void(CLI::App& app)> add_options;
};

// Reads the command line over the defaults in `*options`. Returns nothing to go
// on, or the exit code: 0 after --help, 2 after an error (told on stderr).
std::optional<int> ParseTrainOptions(int argc, char** argv, const Usage& usage,
                                     TrainOptions* options);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_COMMON_TRAIN_OPTIONS_H_
