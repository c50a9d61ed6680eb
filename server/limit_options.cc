#include "server/limit_options.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "core/codec.h"
#include "core/names.h"
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

// From a second to an hour.
void AddTime(CLI::App& app, const std::string& name,
             std::function<void(std::chrono::milliseconds)> set,
             const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [=](const std::string& text) {
           const auto time = ParseDuration(text);
           if (!time.ok()) {
             throw CLI::ValidationError(name,
                                        std::string(time.status().message()));
           }
           if (*time < std::chrono::seconds(1) ||
               *time > std::chrono::hours(1)) {
             throw CLI::ValidationError(
                 name, "'" + text + "' is not within 1s and 1h");
           }
           set(std::chrono::duration_cast<std::chrono::milliseconds>(*time));
         },
         help)
      ->option_text("TIME")
      ->group(kGroup);
}

// Who is at the doors, and how often.
void AddDoorLimits(CLI::App& app, CollectorOptions* options) {
  constexpr std::uint64_t kMiB = 1u << 20;
  constexpr std::uint64_t kGiB = 1u << 30;
  AddCount(app, "--max-connections", 1'000'000,
           &options->connections.connections,
           "Connections of gRPC at a time; no more than there are file "
           "descriptors for");
  AddCount(app, "--max-client-connections", 1'000'000,
           &options->connections.of_a_client,
           "Of them those of one address; of IPv6, of one /64");
  AddCount(app, "--max-streams", 100'000, &options->max_streams,
           "Calls at a time of one connection of gRPC");
  AddCount(app, "--max-calls", 1'000'000, &options->max_calls,
           "Calls at a time of all connections, besides those of agents and of "
           "who watches; three quarters of them of one client");
  AddCount(app, "--max-requests", 1'000'000, &options->requests.per_second,
           "Queries and beginning sessions a second of one client (its token, "
           "else its address), ten seconds' worth of them at once");
  AddTime(
      app, "--handshake-time",
      [options](std::chrono::milliseconds time) {
        options->handshake_time = time;
        options->connections.request_time = time;
        options->http_connections.request_time = time;
      },
      "Within which a connection has to say what it speaks, an agent its "
      "Hello, a call its request, and a request over HTTP all of itself; "
      "default: 10s");
  AddTime(
      app, "--answer-time",
      [options](std::chrono::milliseconds time) {
        options->connections.answer_time = time;
        options->http_connections.answer_time = time;
      },
      "Within which an answer, or a message of a watch, has to be read; "
      "default: 2min");
  AddTime(
      app, "--idle-time",
      [options](std::chrono::milliseconds time) {
        options->ingest.idle_time = time;
      },
      "After which an agent that says nothing is taken to have gone; it sends "
      "a "
      "heartbeat every 10 s; default: 30s");
  AddSize(app, "--max-held-bytes", 5 * kMiB, kGiB,
          &options->connections.held_bytes,
          "What one connection of gRPC may have sent of messages that are not "
          "whole yet");
  AddSize(app, "--grpc-memory", 64 * kMiB, 64 * kGiB, &options->grpc_memory,
          "What gRPC's buffers may take, of all connections");
}

}  // namespace

void AddLimitOptions(CLI::App& app, CollectorOptions* options) {
  constexpr std::uint64_t kKiB = 1u << 10;
  constexpr std::uint64_t kGiB = 1u << 30;
  IngestLimits& ingest = options->ingest;
  AddCount(app, "--max-parameters", kMaxSchemaParameters,
           &ingest.max_parameters,
           "Parameters of a model: a larger table is refused");
  AddCount(app, "--max-name-bytes", kMaxNameBytes, &ingest.max_name_bytes,
           "Length of a parameter's name: a table with a longer one is "
           "refused");
  AddSize(app, "--max-schema-bytes", 64 * kKiB, kGiB, &ingest.max_schema_bytes,
          "Encoded size of a table of parameters");
  AddSize(app, "--max-step-bytes", 64 * kKiB, 4 * kGiB, &ingest.max_step_bytes,
          "Encoded size of a step");
  AddSize(app, "--max-batch-bytes", kGiB >> 10, 64 * (kGiB >> 10),
          &ingest.max_batch_bytes,
          "Size of what an agent sends at a time, compressed and not");
  AddCount(app, "--max-runs", 1'000'000, &ingest.max_runs,
           "Runs that are stored: the first step of another one is refused");
  AddCount(app, "--max-stored-streams", 10'000'000, &ingest.max_streams,
           "Processes whose records are stored, of all runs: the first step of "
           "another one is refused");
  AddCount(app, "--max-sessions", 100'000, &ingest.max_sessions,
           "Agents that stream at a time; each may take 8 MiB and more");
  AddCount(app, "--max-watches", 100'000, &options->max_watches,
           "Live watchers over gRPC at a time");
  AddCount(app, "--max-live-streams", 60, &options->max_live_streams,
           "Live streams over HTTP at a time, of the 64 connections that are "
           "served");
  AddSize(app, "--max-read-bytes", 1u << 20, 1024 * kGiB,
          &options->query.max_read_bytes, "Stored bytes that one query reads");
  AddDoorLimits(app, options);
}

}  // namespace gradtap::server
