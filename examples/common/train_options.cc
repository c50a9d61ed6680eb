#include "examples/common/train_options.h"

#include <CLI/CLI.hpp>

namespace examples {

std::optional<int> ParseTrainOptions(int argc, char** argv, const Usage& usage,
                                     TrainOptions* options) {
  CLI::App app(usage.description);
  app.get_formatter()->column_width(24);
  app.option_defaults()->always_capture_default();
  app.add_option("--steps", options->steps, "Optimizer steps")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--batch", options->batch, "Examples in a batch")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{65536}));
  app.add_option("--seed", options->seed,
                 "Of weights and batches: equal seeds give equal runs");
  if (!usage.data_help.empty()) {
    app.add_option(usage.data_is_positional ? "data,--data" : "--data",
                   options->data, usage.data_help);
  }
  app.add_option("--run", options->run, "Name of the run")
      ->check([](const std::string& name) {
        return name.empty() ? "a run needs a name" : std::string();
      });
  app.add_option("--threads", options->threads,
                 "Threads of LibTorch; 0 leaves the choice to it")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--quiet", options->quiet, "Print the summary only");
  if (usage.add_options) usage.add_options(app);
  app.footer("Example:\n  " + usage.example +
             "\n\nGRADTAP_COLLECTOR=HOST:PORT names the collector (default "
             "127.0.0.1:7317);\nwithout one the training goes on all the same. "
             "GRADTAP_DISABLED=1 switches the\nagent off.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

}  // namespace examples
