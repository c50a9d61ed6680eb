// Each limit's option sets its own field of the collector's options, and no
// other: one row an option, in the order of `gradtapd --help`.

#include "server/limit_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "server/service/collector.h"

namespace gradtap::server {
namespace {

using Options = CollectorOptions;
using Field = std::function<std::uint64_t(const Options&)>;

std::uint64_t NumberOf(std::uint64_t number) { return number; }
std::uint64_t NumberOf(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(time.count());
}

template <typename T>
Field Of(T Options::*field) {
  return [=](const Options& options) { return NumberOf(options.*field); };
}
template <typename S, typename T>
Field Of(S Options::*part, T S::*field) {
  return [=](const Options& options) { return NumberOf(options.*part.*field); };
}

struct Row {
  std::string option;
  std::string text;
  std::uint64_t number = 0;  // What it says: a count, bytes, milliseconds.
  std::vector<Field> fields;
};

std::vector<Row> Rows() {
  constexpr std::uint64_t kKiB = 1u << 10;
  constexpr std::uint64_t kMiB = 1u << 20;
  constexpr auto kIngest = &Options::ingest;
  constexpr auto kCaps = &Options::connections;
  constexpr auto kHttp = &Options::http_connections;
  return {
      {"--max-parameters",
       "11",
       11,
       {Of(kIngest, &IngestLimits::max_parameters)}},
      {"--max-name-bytes",
       "12",
       12,
       {Of(kIngest, &IngestLimits::max_name_bytes)}},
      {"--max-schema-bytes",
       "65KiB",
       65 * kKiB,
       {Of(kIngest, &IngestLimits::max_schema_bytes)}},
      {"--max-step-bytes",
       "66KiB",
       66 * kKiB,
       {Of(kIngest, &IngestLimits::max_step_bytes)}},
      {"--max-batch-bytes",
       "3MiB",
       3 * kMiB,
       {Of(kIngest, &IngestLimits::max_batch_bytes)}},
      {"--max-runs", "13", 13, {Of(kIngest, &IngestLimits::max_runs)}},
      {"--max-stored-streams",
       "14",
       14,
       {Of(kIngest, &IngestLimits::max_streams)}},
      {"--max-sessions", "15", 15, {Of(kIngest, &IngestLimits::max_sessions)}},
      {"--max-watches", "16", 16, {Of(&Options::max_watches)}},
      {"--max-live-streams", "17", 17, {Of(&Options::max_live_streams)}},
      {"--max-read-bytes",
       "5MiB",
       5 * kMiB,
       {Of(&Options::query, &QueryLimits::max_read_bytes)}},
      {"--max-connections",
       "18",
       18,
       {Of(kCaps, &ConnectionCaps::connections)}},
      {"--max-client-connections",
       "19",
       19,
       {Of(kCaps, &ConnectionCaps::of_a_client)}},
      {"--max-streams", "20", 20, {Of(&Options::max_streams)}},
      {"--max-calls", "25", 25, {Of(&Options::max_calls)}},
      {"--max-requests",
       "21",
       21,
       {Of(&Options::requests, &RateLimit::per_second)}},
      {"--handshake-time",
       "22s",
       22'000,
       {Of(&Options::handshake_time), Of(kCaps, &ConnectionCaps::request_time),
        Of(kHttp, &ConnectionLimits::request_time)}},
      {"--answer-time",
       "23s",
       23'000,
       {Of(kCaps, &ConnectionCaps::answer_time),
        Of(kHttp, &ConnectionLimits::answer_time)}},
      {"--idle-time", "24s", 24'000, {Of(kIngest, &IngestLimits::idle_time)}},
      {"--max-held-bytes",
       "6MiB",
       6 * kMiB,
       {Of(kCaps, &ConnectionCaps::held_bytes)}},
      {"--grpc-memory", "70MiB", 70 * kMiB, {Of(&Options::grpc_memory)}},
  };
}

// All numbers of a collector's limits. One more in a part does not compile
// until it stands here.
std::vector<std::uint64_t> Numbers(const Options& options) {
  std::vector<std::uint64_t> numbers;
  const auto add = [&numbers](const auto&... fields) {
    (numbers.push_back(NumberOf(fields)), ...);
  };
  {
    const auto& [parameters, name, schema, step, runs, streams, stream,
                 sessions, credit, pending, join, batch, hello, idle, guards] =
        options.ingest;
    static_cast<void>(guards);  // Not numbers.
    add(parameters, name, schema, step, runs, streams, stream, sessions, credit,
        pending, join, batch, hello, idle);
  }
  {
    const auto& [values, cells, read, gaps] = options.query;
    add(values, cells, read, gaps);
  }
  {
    const auto& [request, request_time, write, answer, client] =
        options.http_connections;
    add(request, request_time, write, answer, client);
  }
  {
    const auto& [connections, client, held, held_in_all, left, request,
                 answer] = options.connections;
    add(connections, client, held, held_in_all, left, request, answer);
  }
  {
    const auto& [pace, burst, session, clients] = options.requests;
    add(pace, burst, session, clients);
  }
  {
    const auto& [bytes, client] = options.answers;
    add(bytes, client);
  }
  add(options.http_heartbeat, options.max_watches, options.max_streams,
      options.max_calls, options.grpc_memory, options.handshake_time,
      options.max_live_streams, options.query_threads, options.drain_timeout,
      options.alert_resend);
  return numbers;
}

std::size_t Changed(const Options& options) {
  const std::vector<std::uint64_t> before = Numbers({}), now = Numbers(options);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < now.size(); ++i) changed += now[i] != before[i];
  return changed;
}

Options Parsed(const std::string& line) {
  Options options;
  CLI::App app;
  AddLimitOptions(app, &options);
  app.parse(line);
  return options;
}

TEST(LimitOptionsTest, EachOptionSetsItsOwnFieldsAndNoOther) {
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.option);
    const Options options = Parsed(row.option + " " + row.text);
    for (const Field& field : row.fields) EXPECT_EQ(field(options), row.number);
    EXPECT_EQ(Changed(options), row.fields.size());
  }
}

TEST(LimitOptionsTest, AllOptionsAtOnceSetEachItsOwnFields) {
  std::string line;
  for (const Row& row : Rows()) line += row.option + " " + row.text + " ";
  const Options options = Parsed(line);
  std::size_t fields = 0;
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.option);
    for (const Field& field : row.fields) EXPECT_EQ(field(options), row.number);
    fields += row.fields.size();
  }
  EXPECT_EQ(Changed(options), fields);
}

TEST(LimitOptionsTest, EveryOptionThatThereIsHasARow) {
  std::set<std::string> known;
  std::set<std::uint64_t> numbers;
  for (const Row& row : Rows()) {
    known.insert(row.option);
    EXPECT_TRUE(numbers.insert(row.number).second) << row.option;
  }
  Options options;
  CLI::App app;
  app.set_help_flag();  // It is none of ours.
  AddLimitOptions(app, &options);
  std::set<std::string> registered;
  for (const CLI::Option* option : app.get_options()) {
    registered.insert(option->get_name());
  }
  EXPECT_EQ(registered, known);
}

}  // namespace
}  // namespace gradtap::server
