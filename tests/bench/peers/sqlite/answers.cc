#include "bench/peers/sqlite/answers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "absl/status/status.h"
#include "bench/peers/sqlite/window_writer.h"
#include "server/store/rollup/statistic.h"
#include "server/store/window/tile_key.h"

namespace gradtap::bench {
namespace {

using server::kRollupParameters;
using server::kRollupRun;
using server::kTileParameters;
using server::RollupEntry;
using server::RollupStatistic;

constexpr std::size_t kMean = 0, kStd = 1;  // Of a data set's fields.
constexpr std::size_t kUpdate = 2;          // Of its roles.
constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

std::uint32_t NumberOf(std::size_t role) {
  return static_cast<std::uint32_t>(kTileRoles[role]);
}
// Fields of tiles are numbered from 1, and roll-ups of fields as those.
std::uint32_t FieldNumberOf(std::size_t field) {
  return static_cast<std::uint32_t>(field) + 1;
}

void Pool(bool by_magnitude, float value, float* worst) {
  const bool worse =
      by_magnitude ? std::abs(value) > std::abs(*worst) ||
                         (std::abs(value) == std::abs(*worst) && value > *worst)
                   : value > *worst;
  if (worse || std::isnan(*worst)) *worst = value;
}

std::uint32_t GroupOf(std::size_t parameter) {
  return server::RollupGroupOf(
      static_cast<std::uint32_t>(parameter / kTileParameters),
      static_cast<std::uint32_t>(parameter % kTileParameters));
}

}  // namespace

// ---- Tiles ----

void BlockReader::Start(const Database::Run& run, std::uint32_t window,
                        std::uint32_t block, const server::TilePart& part) {
  run_ = run;
  window_ = window;
  block_ = block;
  part_ = part;
  for (Column& column : columns_) column.decoded = false;
}

const server::FloatBlock& BlockReader::Get(std::size_t role,
                                           std::size_t field) {
  Column& column = columns_[role * kFields + field];
  if (column.decoded) return column.values;
  column.tile = database_->ReadTile(
      run_, {window_, NumberOf(role), FieldNumberOf(field), block_});
  const auto info = server::ReadTileInfo(column.tile);
  Check(info.status());
  server::TileReferences references;
  if ((info->references & server::kNeedsScale) != 0) {
    references.scale = &Get(role, kStd);
  }
  if ((info->references & server::kNeedsIncrement) != 0) {
    references.increment = &Get(kUpdate, kMean);
  }
  if ((info->references & server::kNeedsTwin) != 0) {
    references.twin = &Get(role, kMean);
  }
  Check(decoder_.DecodeFloats(column.tile, references, part_, &column.values));
  column.decoded = true;
  return column.values;
}

// ---- Questions ----

std::uint32_t Answers::Windows() const {
  return static_cast<std::uint32_t>((run_.steps + window_steps_ - 1) /
                                    window_steps_);
}

Reply Answers::Ask(const std::string& run, const Question& question) {
  run_ = database_->Find(run);
  window_steps_ = server::WindowStepsOf(LayoutOf(run_.parameters));
  Reply reply;
  switch (question.kind) {
    case Question::Kind::kColumn:
    case Question::Kind::kStep:
      AskSteps(question, &reply);
      break;
    case Question::Kind::kSeries:
      if (question.bucket_steps < kRollupRun) {
        AskSeries(question, &reply);
      } else {
        AskRolledSeries(question, &reply);
      }
      break;
    case Question::Kind::kHeatMap:
      if (question.bucket_steps % kRollupRun != 0) {
        AskHeatMap(question, &reply);
      } else {
        AskRolledHeatMap(question, &reply);
      }
      break;
  }
  return reply;
}

void Answers::AskSteps(const Question& question, Reply* reply) {
  const bool all = question.kind == Question::Kind::kStep;
  const std::size_t n = run_.parameters;
  std::vector<float> values(n * (all ? kFloats : 1));
  server::TilePart part;
  part.steps = static_cast<std::uint32_t>(question.step % window_steps_) + 1;
  const auto window = static_cast<std::uint32_t>(question.step / window_steps_);
  for (std::size_t first = 0; first < n; first += kTileParameters) {
    block_.Start(run_, window,
                 static_cast<std::uint32_t>(first / kTileParameters), part);
    for (std::size_t i = 0; i < (all ? kFloats : 1); ++i) {
      const server::FloatBlock& column =
          all ? block_.Get(i / kFields, i % kFields)
              : block_.Get(question.role, question.field);
      for (std::size_t p = 0; p < column.parameters; ++p) {
        values[i * n + first + p] = column.values[(p + 1) * column.steps - 1];
      }
    }
  }
  reply->Set(Reply::Form::kValues, values);
}

void Answers::AskSeries(const Question& question, Reply* reply) {
  std::vector<Extremes> cells(
      static_cast<std::size_t>((run_.steps + question.bucket_steps - 1) /
                               question.bucket_steps),
      {INFINITY, -INFINITY});
  server::TilePart part;
  part.first_parameter =
      static_cast<std::uint32_t>(question.parameter % kTileParameters);
  part.parameters = 1;
  std::int64_t step = 0;
  for (std::uint32_t window = 0; window < Windows(); ++window) {
    block_.Start(
        run_, window,
        static_cast<std::uint32_t>(question.parameter / kTileParameters), part);
    const server::FloatBlock& first =
        block_.Get(question.role, question.l2 ? kMean : question.field);
    const server::FloatBlock& second =
        question.l2 ? block_.Get(question.role, kStd) : first;
    for (std::size_t t = 0; t < first.values.size(); ++t, ++step) {
      double value = static_cast<double>(first.values[t]);
      if (question.l2) {
        const auto std = static_cast<double>(second.values[t]);
        value = std::sqrt(kNumel * (value * value + std * std));
      }
      Extremes& cell =
          cells[static_cast<std::size_t>(step / question.bucket_steps)];
      cell.min = std::min(cell.min, value);
      cell.max = std::max(cell.max, value);
    }
  }
  reply->Set(Reply::Form::kCells, cells);
}

void Answers::AskHeatMap(const Question& question, Reply* reply) {
  const std::size_t n = run_.parameters;
  const bool by_magnitude = WorstIsByMagnitude(question);
  const auto buckets = static_cast<std::size_t>(
      (run_.steps + question.bucket_steps - 1) / question.bucket_steps);
  std::vector<float> worst(n * buckets, kNone);
  std::vector<std::size_t> bucket_of(static_cast<std::size_t>(window_steps_));
  for (std::uint32_t window = 0; window < Windows(); ++window) {
    for (std::size_t t = 0; t < bucket_of.size(); ++t) {
      bucket_of[t] = static_cast<std::size_t>(
          (window * window_steps_ + static_cast<std::int64_t>(t)) /
          question.bucket_steps);
    }
    for (std::size_t first = 0; first < n; first += kTileParameters) {
      block_.Start(run_, window,
                   static_cast<std::uint32_t>(first / kTileParameters), {});
      const server::FloatBlock& column =
          block_.Get(question.role, question.field);
      for (std::size_t p = 0; p < column.parameters; ++p) {
        float* const row = worst.data() + (first + p) * buckets;
        const float* const values = column.values.data() + p * column.steps;
        for (std::size_t t = 0; t < column.steps; ++t) {
          Pool(by_magnitude, values[t], row + bucket_of[t]);
        }
      }
    }
  }
  reply->Set(Reply::Form::kValues, worst);
}

// ---- From roll-ups: runs of 64 steps ----

void Answers::AskRolledSeries(const Question& question, Reply* reply) {
  const std::uint32_t statistic =
      question.l2 ? static_cast<std::uint32_t>(RollupStatistic::kL2)
                  : FieldNumberOf(question.field);
  const auto row =
      static_cast<std::uint32_t>(question.parameter % kRollupParameters);
  std::vector<Point> points;
  std::int64_t bucket = -1;
  std::vector<RollupEntry> entries(
      static_cast<std::size_t>(window_steps_ / kRollupRun));
  const auto take = [&](std::uint32_t window, std::string_view bytes) {
    Check(rollups_.Open(bytes));
    Check(rollups_.Read(row, entries.data()));
    for (std::uint32_t i = 0; i < rollups_.shape().runs(); ++i) {
      const RollupEntry& e = entries[i];
      const std::int64_t first = window * window_steps_ + i * kRollupRun;
      const Point min{question.parameter, first + e.min_at,
                      static_cast<double>(e.min)};
      const Point max{question.parameter, first + e.max_at,
                      static_cast<double>(e.max)};
      if (first / question.bucket_steps != bucket) {
        bucket = first / question.bucket_steps;
        points.push_back(min);
        points.push_back(max);
        continue;
      }
      Point& lowest = points[points.size() - 2];
      if (min.value < lowest.value) lowest = min;
      if (max.value > points.back().value) points.back() = max;
    }
  };
  database_->ReadRollups(
      run_,
      {NumberOf(question.role), statistic, GroupOf(question.parameter), 0},
      take);
  reply->Set(Reply::Form::kPoints, points);
}

void Answers::AskRolledHeatMap(const Question& question, Reply* reply) {
  const std::size_t n = run_.parameters;
  const bool by_magnitude = WorstIsByMagnitude(question);
  const auto buckets = static_cast<std::size_t>(
      (run_.steps + question.bucket_steps - 1) / question.bucket_steps);
  std::vector<float> worst(n * buckets, kNone);
  std::vector<float> runs;
  std::vector<std::uint8_t> flags;
  for (std::size_t first = 0; first < n; first += kRollupParameters) {
    const auto take = [&](std::uint32_t window, std::string_view bytes) {
      Check(rollups_.Open(bytes));
      const std::size_t of_row = rollups_.shape().runs();
      runs.resize(of_row * rollups_.shape().parameters);
      flags.resize(runs.size());
      Check(rollups_.ReadWorst(by_magnitude ? server::RollupWorst::kMagnitude
                                            : server::RollupWorst::kMax,
                               runs.data(), flags.data()));
      for (std::size_t i = 0; i < runs.size(); ++i) {
        const std::int64_t step =
            window * window_steps_ +
            static_cast<std::int64_t>(i % of_row) * kRollupRun;
        Pool(by_magnitude, runs[i],
             &worst[(first + i / of_row) * buckets +
                    static_cast<std::size_t>(step / question.bucket_steps)]);
      }
    };
    database_->ReadRollups(run_,
                           {NumberOf(question.role),
                            FieldNumberOf(question.field), GroupOf(first), 0},
                           take);
  }
  reply->Set(Reply::Form::kValues, worst);
}

}  // namespace gradtap::bench
