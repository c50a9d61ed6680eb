#include "server/limit_options.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "core/codec.h"
#include "server/keeping/option_values.h"
#include "server/service/collector.h"

namespace gradtap::server {
namespace {

constexpr char kGroup[] = "Limits";

// A whole number of [1, most].
template <typename To>
void AddCount(CLI::App& app, const std::string& name, std::uint64_t most,
              To* to, const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, most, to](const std::string& text) {
           std::uint64_t value = 0;
           if (text.empty() ||
               text.find_first_not_of("0123456789") != std::string::npos ||
               !CLI::detail::lexical_cast(text, value) || value < 1 ||
               value > most) {
             throw CLI::ValidationError(
                 name, "'" + text + "' is no whole number from 1 to " +
                           std::to_string(most));
           }
           *to = static_cast<To>(value);
         },
         help + "; default: " + std::to_string(*to))
      ->option_text("N")
      ->group(kGroup);
}

// A size of [least, most].
template <typename To>
void AddSize(CLI::App& app, const std::string& name, std::uint64_t least,
             std::uint64_t most, To* to, const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [=](const std::string& text) {
           const auto value = ParseBytes(text);
           if (!value.ok()) {
             throw CLI::ValidationError(name,
                                        std::string(value.status().message()));
           }
           const auto bytes = static_cast<std::uint64_t>(*value);
           if (bytes < least || bytes > most) {
             throw CLI::ValidationError(
                 name, "'" + text + "' is not within " +
                           std::to_string(least >> 10) + "KiB and " +
                           std::to_string(most >> 20) + "MiB");
           }
           *to = static_cast<To>(bytes);
         },
         help + "; default: " + std::to_string(*to >> 20) + "MiB")
      ->option_text("SIZE")
      ->group(kGroup);
}

}  // namespace

void AddLimitOptions(CLI::App& app, CollectorOptions* options) {
  constexpr std::uint64_t kKiB = 1u << 10;
  constexpr std::uint64_t kGiB = 1u << 30;
  IngestLimits& ingest = options->ingest;
  AddCount(app, "--max-parameters", kMaxSchemaParameters,
           &ingest.max_parameters,
           "Parameters of a model: a larger table is refused");
  AddSize(app, "--max-schema-bytes", 64 * kKiB, kGiB, &ingest.max_schema_bytes,
          "Encoded size of a table of parameters");
  AddSize(app, "--max-step-bytes", 64 * kKiB, 4 * kGiB, &ingest.max_step_bytes,
          "Encoded size of a step");
  AddCount(app, "--max-runs", 1'000'000, &ingest.max_runs,
           "Runs that are stored: the first step of another one is refused");
  AddCount(app, "--max-sessions", 100'000, &ingest.max_sessions,
           "Agents that stream at a time; each may take 8 MiB and more");
  AddCount(app, "--max-watches", 100'000, &options->max_watches,
           "Live watchers over gRPC at a time");
  AddCount(app, "--max-streams", 100'000, &options->max_streams,
           "Calls at a time of one connection of gRPC");
  AddSize(app, "--grpc-memory", 16u << 20, 64 * kGiB, &options->grpc_memory,
          "What gRPC's buffers may take, of all connections");
  AddSize(app, "--max-read-bytes", 1u << 20, 1024 * kGiB,
          &options->query.max_read_bytes, "Stored bytes that one query reads");
}

}  // namespace gradtap::server
