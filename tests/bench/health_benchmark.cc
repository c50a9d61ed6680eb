// What the health rules cost a record, and what they raise over recorded runs.
//
//   health_benchmark [FOLDER NAME...]
//
// Recordings are those of bench/recording.h; without any it takes a short one
// that is made up, to prove that it runs. Prints for each: nanoseconds of the
// thread's own time a record, of reading a stored row, of taking out what the
// rules look at, and of judging it; the same as shares of what ingest takes,
// 250 ns a record (README.md); and each alert that the default rules raise. A
// recording has no loss.

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/recording.h"
#include "core/codec.h"
#include "proto/text/rules_text.h"
#include "server/health/alert_book.h"
#include "server/health/health_step.h"
#include "server/health/rank_health.h"

namespace gradtap::bench {
namespace {

using server::AlertBook;
using server::HealthStep;
using server::RankHealth;
using server::Verdicts;

// 36 million values a second of one thread, nine a record.
constexpr double kIngestNs = 250;
constexpr int kPasses = 5;

double Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

constexpr std::array<std::pair<const char*, Role>, 4> kRoles = {
    {{"weight", Role::kWeight},
     {"grad", Role::kGrad},
     {"update", Role::kUpdate},
     {"buffer", Role::kBuffer}}};

// "conv1.weight [16, 1, 3, 3]": the name, and as many dimensions.
Parameter ParameterOf(const std::string& line) {
  Parameter parameter;
  const std::size_t bracket = line.find(" [");
  parameter.name = line.substr(0, bracket);
  parameter.requires_grad = true;
  const std::string sizes =
      bracket == line.npos ? "" : line.substr(bracket + 2);
  if (!sizes.empty() && sizes[0] != ']') {
    parameter.shape.assign(static_cast<std::size_t>(
                               1 + std::count(sizes.begin(), sizes.end(), ',')),
                           2);
  }
  parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
  if (line.rfind("buffer", 0) == 0) {
    parameter.kind = Kind::kBuffer;
    parameter.roles = {Role::kBuffer};
    parameter.requires_grad = false;
  }
  return parameter;
}

std::shared_ptr<const Schema> SchemaOf(const Recording& recording,
                                       const std::string& folder) {
  auto schema = std::make_shared<Schema>();
  schema->schema_id = 1;
  std::ifstream names(folder + "/" + recording.name + ".txt");
  for (std::string line; std::getline(names, line);) {
    schema->parameters.push_back(ParameterOf(line));
  }
  const RecordedRole* weights = recording.Find("weight");
  while (schema->parameters.size() < weights->parameters) {
    schema->parameters.push_back(ParameterOf(
        "p" + std::to_string(schema->parameters.size()) + " [2, 2]"));
  }
  return schema;
}

std::string RowOf(const Recording& recording, std::size_t step) {
  StepData data;
  data.step = static_cast<std::int64_t>(step);
  data.wall_time_unix_ns =
      1'700'000'000'000'000'000 + static_cast<std::int64_t>(step) * 50'000'000;
  data.schema_id = 1;
  for (const auto& [name, role] : kRoles) {
    const RecordedRole* of = recording.Find(name);
    if (of == nullptr) continue;
    RoleColumns columns;
    columns.role = role;
    columns.Resize(of->parameters);
    const float* values = of->values.data() + step * of->parameters * 5;
    for (std::size_t p = 0; p < of->parameters; ++p, values += 5) {
      Record record;
      record.mean = values[0];
      record.std = values[1];
      record.abs_mean = values[2];
      record.min = values[3];
      record.max = values[4];
      // The first step has no update.
      if (role == Role::kUpdate && step == 0) {
        columns.SetAbsent(p);
      } else {
        columns.Set(p, record);
      }
    }
    data.roles.push_back(std::move(columns));
  }
  std::string record(EncodedStepSize(data), '\0');
  EncodeStep(data, {record.data(), record.size()});
  return std::string(ParseRecord(record)->body);
}

struct Times {
  double open = 1e9, read = 1e9, judge = 1e9;  // Seconds; the fastest pass.
};

void Print(const std::string& name, std::size_t steps, double records,
           const Times& times) {
  const auto ns = [records](double seconds) { return seconds * 1e9 / records; };
  const double all = ns(times.open) + ns(times.read) + ns(times.judge);
  std::printf("%s: %zu steps, %.0f records\n", name.c_str(), steps, records);
  std::printf(
      "  ns a record: reading the row %.2f, taking out %.2f, judging "
      "%.2f; all %.2f\n",
      ns(times.open), ns(times.read), ns(times.judge), all);
  std::printf("  of ingest: judging %.1f %%, all %.1f %%\n",
              100 * ns(times.judge) / kIngestNs, 100 * all / kIngestNs);
}

// All that the rules do with the rows of a stream.
bool JudgeAll(const std::vector<std::string>& rows,
              const std::shared_ptr<const server::Rules>& rules,
              const std::shared_ptr<const Schema>& schema,
              const std::string& run, std::vector<v1::Alert>* changes) {
  RankHealth health(rules, 0);
  health.SetSchema(schema);
  std::uint64_t next_id = 1;
  AlertBook book(rules, run, &next_id);
  changes->clear();
  StepView view;
  HealthStep step;
  Verdicts verdicts;
  for (const std::string& row : rows) {
    if (!view.Reparse(row).ok()) return false;
    ReadHealthStep(view, "loss", &step);
    const std::int64_t before = health.last_step();
    health.Look(step, &verdicts);
    for (std::size_t r = 1; r < server::kRuleNumbers; ++r) {
      book.Apply(static_cast<v1::HealthRule>(r),
                 {0, step.step, before, step.time_unix_ns, step.time_unix_ns},
                 verdicts[r], changes);
    }
  }
  return true;
}

bool Measure(const Recording& recording, const std::string& folder) {
  const std::shared_ptr<const Schema> schema = SchemaOf(recording, folder);
  const auto rules = server::Rules::Create(DefaultRules());
  if (!rules.ok()) return false;
  std::vector<std::string> rows;
  for (std::size_t step = 0; step < recording.steps; ++step) {
    rows.push_back(RowOf(recording, step));
  }
  Times times;
  double records = 0;
  std::vector<v1::Alert> changes;
  for (int pass = 0; pass < kPasses; ++pass) {
    // Each loop does what the one before did, and one thing more: the clock
    // itself takes as long as a small step.
    StepView view;
    const double begin = Now();
    for (const std::string& row : rows) {
      if (!view.Reparse(row).ok()) return false;
    }
    const double opened = Now();
    HealthStep step;
    records = 0;
    for (const std::string& row : rows) {
      if (!view.Reparse(row).ok()) return false;
      ReadHealthStep(view, "loss", &step);
      for (const auto& columns : step.roles) records += columns.places;
    }
    const double read = Now();
    if (!JudgeAll(rows, *rules, schema, recording.name, &changes)) return false;
    const double judged = Now();
    times.open = std::min(times.open, opened - begin);
    times.read = std::min(times.read, read - opened);
    times.judge = std::min(times.judge, judged - read);
  }
  times.judge -= times.read;
  times.read -= times.open;
  Print(recording.name, recording.steps, records, times);
  std::printf("  alerts begun or ended with the default rules: %zu\n",
              changes.size());
  for (const v1::Alert& alert : changes) {
    std::printf("  %s step %lld: %s\n", alert.active() ? "begins" : "ends",
                static_cast<long long>(alert.active() ? alert.first_step()
                                                      : alert.ended_step()),
                alert.summary().c_str());
  }
  return true;
}

int Run(int argc, char** argv) {
  if (argc < 3) return Measure(MadeUpRecording(200, 64), "") ? 0 : 1;
  for (int i = 2; i < argc; ++i) {
    const Recording recording = ReadRecording(argv[1], argv[i]);
    if (recording.steps == 0) {
      std::fprintf(stderr, "no recording %s in %s\n", argv[i], argv[1]);
      return 1;
    }
    if (!Measure(recording, argv[1])) return 1;
  }
  return Measure(MadeUpRecording(10'000, 64), "") ? 0 : 1;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) { return gradtap::bench::Run(argc, argv); }
