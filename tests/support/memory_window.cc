#include "tests/support/memory_window.h"

#include <map>
#include <string_view>
#include <tuple>

#include "core/codec.h"
#include "server/store/window/window_builder.h"

namespace gradtap::testing {
namespace {

using server::TileKey;

struct Stored final : public server::WindowSink {
  absl::Status PutTile(const TileKey& key, std::string_view value) override {
    tiles[{key.role, key.field, key.block}] = std::string(value);
    return absl::OkStatus();
  }
  absl::Status PutRollups(const server::RollupKey&, std::string_view) override {
    return absl::OkStatus();
  }
  absl::Status PutScalar(std::string_view name,
                         std::string_view value) override {
    scalars[std::string(name)] = std::string(value);
    return absl::OkStatus();
  }

  std::map<std::tuple<Role, server::WindowField, std::uint32_t>, std::string>
      tiles;
  std::map<std::string, std::string, std::less<>> scalars;
};

class MemorySource final : public server::WindowSource {
 public:
  explicit MemorySource(Stored stored) : stored_(std::move(stored)) {}

  std::unique_ptr<server::WindowSource> Clone() const override {
    return std::make_unique<MemorySource>(stored_);
  }

  absl::StatusOr<std::string_view> ReadTile(const TileKey& key) override {
    const auto it = stored_.tiles.find({key.role, key.field, key.block});
    return it == stored_.tiles.end() ? std::string_view()
                                     : std::string_view(it->second);
  }
  absl::StatusOr<std::string_view> ReadScalar(std::string_view name) override {
    return std::string_view(stored_.scalars.find(name)->second);
  }

 private:
  const Stored stored_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<server::SealedWindow>> SealInMemory(
    const std::vector<std::pair<std::uint64_t, std::string>>& rows,
    const Schema& schema) {
  auto layout = std::make_shared<const server::TileLayout>(schema);
  server::WindowBuilder builder([&](std::uint32_t) { return layout; }, 1);
  for (const auto& [ordinal, body] : rows) {
    const auto taken = builder.Take(*StepView::Parse(body), ordinal);
    if (!taken.ok()) return taken.status();
    if (!*taken) return absl::InvalidArgumentError("too many for one window");
  }
  Stored stored;
  server::BlockWriter writer;
  absl::Status s;
  for (;;) {
    s = builder.WriteSlab(&writer, &stored);
    if (!s.ok()) return s;
    if (!builder.NextSlab()) break;
    for (const auto& [ordinal, body] : rows) {
      builder.TakeAgain(*StepView::Parse(body));
    }
  }
  s = builder.WriteScalars(writer.encoder(), &stored);
  if (!s.ok()) return s;
  return server::SealedWindow::Open(
      std::make_unique<MemorySource>(std::move(stored)), builder.Timeline(),
      std::move(layout));
}

}  // namespace gradtap::testing
