#include "server/store/pieces.h"

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "server/store/bytes.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/window/chapter.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {
namespace {

using KeyOfStep = std::function<std::string(std::int64_t)>;

std::int64_t StepAtEnd(std::string_view key) {
  if (key.size() < 8) return 0;
  return ByteReader(key.substr(key.size() - 8)).I64();
}

// What stands at the last key that is not above that of `step`.
absl::StatusOr<std::optional<std::pair<std::int64_t, std::string>>> LastUpTo(
    const Engine& engine, const KeyOfStep& key_of, std::int64_t step,
    const rocksdb::Snapshot* snapshot) {
  const std::string from = key_of(std::numeric_limits<std::int64_t>::min());
  const rocksdb::Slice lower(from);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower;
  options.snapshot = snapshot;
  std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, engine.windows()));
  it->SeekForPrev(key_of(step));
  std::optional<std::pair<std::int64_t, std::string>> found;
  if (it->Valid()) {
    found.emplace(StepAtEnd(View(it->key())), it->value().ToString());
  } else if (!it->status().ok()) {
    return ToStatus(it->status(), kReading);
  }
  return found;
}

}  // namespace

absl::StatusOr<std::optional<StepSpan>> PieceAround(
    const Engine& engine, const BranchKey& branch, std::int64_t step,
    const rocksdb::Snapshot* snapshot) {
  const auto chapter = LastUpTo(
      engine,
      [&](std::int64_t at) {
        return keys::Chapter(branch.run_id, branch.stream, branch.branch, at);
      },
      step, snapshot);
  if (!chapter.ok()) return chapter.status();
  StepSpan span;
  if (chapter->has_value()) {
    const auto view = ChapterView::Parse((*chapter)->second);
    if (!view.ok()) return view.status();
    span = {(*chapter)->first, view->end()};
  }
  if (!chapter->has_value() || span.end <= step) {
    const auto window = LastUpTo(
        engine,
        [&](std::int64_t at) {
          return keys::Timeline(branch.run_id, branch.stream, branch.branch,
                                at);
        },
        step, snapshot);
    if (!window.ok()) return window.status();
    if (!window->has_value()) return std::optional<StepSpan>();
    const auto view = TimelineView::Parse((*window)->second);
    if (!view.ok()) return view.status();
    span = {(*window)->first, view->step(view->rows() - 1) + 1};
  }
  if (span.begin < step && step < span.end) return std::optional(span);
  return std::optional<StepSpan>();
}

}  // namespace gradtap::server
