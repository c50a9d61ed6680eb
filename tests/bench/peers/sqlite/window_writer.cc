#include "bench/peers/sqlite/window_writer.h"

#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/schema.h"

namespace gradtap::bench {
namespace {

// Collects what a window consists of.
class Sink : public server::WindowSink {
 public:
  Sink(const Database::Run& run, std::uint32_t window)
      : run_(run), window_(window) {}

  absl::Status PutTile(const server::TileKey& key,
                       std::string_view value) override {
    tiles_.emplace(
        Database::KeyOf(
            run_, TileName{window_, static_cast<std::uint32_t>(key.role),
                           static_cast<std::uint32_t>(key.field), key.block}),
        value);
    return absl::OkStatus();
  }
  absl::Status PutRollups(const server::RollupKey& key,
                          std::string_view value) override {
    rollups_.emplace(
        Database::KeyOf(run_,
                        RollupName{static_cast<std::uint32_t>(key.role),
                                   static_cast<std::uint32_t>(key.statistic),
                                   key.group, window_}),
        value);
    return absl::OkStatus();
  }
  absl::Status PutScalar(std::string_view, std::string_view) override {
    return absl::OkStatus();  // There are none.
  }

  const Database::Blobs& tiles() const { return tiles_; }
  const Database::Blobs& rollups() const { return rollups_; }

 private:
  const Database::Run& run_;
  const std::uint32_t window_;
  Database::Blobs tiles_, rollups_;
};

}  // namespace

server::TileLayout LayoutOf(std::uint32_t parameters) {
  Schema schema;
  schema.schema_id = 1;
  Parameter parameter;
  parameter.numel = kNumel;
  parameter.roles = {std::begin(kTileRoles), std::end(kTileRoles)};
  schema.parameters.assign(parameters, parameter);
  return server::TileLayout(schema);
}

WindowWriter::WindowWriter(Database* database, const std::string& run,
                           std::uint32_t parameters)
    : database_(database),
      layout_(LayoutOf(parameters)),
      window_steps_(server::WindowStepsOf(layout_)),
      row_(kFloats * parameters),
      run_(database->Make(run, parameters)),
      values_(row_ * window_steps_) {}

float* WindowWriter::Next() { return values_.data() + row_ * steps_; }

void WindowWriter::Took() {
  if (++steps_ == window_steps_) Write();
}

void WindowWriter::Finish() {
  if (steps_ > 0) Write();
}

void WindowWriter::Gather(std::uint32_t block, std::uint32_t steps) {
  block_.schema_id = 1;
  block_.block = block;
  block_.steps = steps;
  const std::size_t parameters = run_.parameters;
  for (std::size_t role = 0; role < kRoles; ++role) {
    server::RoleValues& to = block_.of(kTileRoles[role]);
    to.any = true;
    const std::uint32_t first = layout_.FirstPlace(kTileRoles[role], block);
    for (std::size_t field = 0; field < kFields; ++field) {
      server::FloatBlock& column = to.floats[field];
      column.parameters = layout_.Rows(kTileRoles[role], block);
      column.steps = steps;
      column.values.resize(column.size());
      for (std::size_t t = 0; t < steps; ++t) {
        const float* const from = values_.data() + t * row_ +
                                  (role * kFields + field) * parameters + first;
        for (std::size_t p = 0; p < column.parameters; ++p) {
          column.values[p * steps + t] = from[p];
        }
      }
    }
  }
}

void WindowWriter::Write() {
  Sink sink(run_, window_);
  server::RoleFields fields{};
  for (std::uint32_t block = 0; block < layout_.blocks(); ++block) {
    Gather(block, steps_);
    const absl::Status written = writer_.Write(layout_, block_, &sink, &fields);
    if (!written.ok()) throw std::runtime_error(written.ToString());
  }
  database_->PutWindow(sink.tiles(), sink.rollups(), steps_, &run_);
  ++window_;
  steps_ = 0;
}

}  // namespace gradtap::bench
