// Reading roll-ups from RocksdbStore.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/bytes.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/pieces.h"
#include "server/store/rocksdb_store.h"
#include "server/store/rollup/block.h"
#include "server/store/window/chapter.h"
#include "server/store/window/tile_key.h"

namespace gradtap::server {
namespace {

std::int64_t StepAtEnd(std::string_view key) {
  if (key.size() < 8) return 0;
  return ByteReader(key.substr(key.size() - 8)).I64();
}

// When the steps of pieces were; it is asked by rising steps.
class PieceSteps {
 public:
  PieceSteps(std::shared_ptr<Engine> engine, const BranchKey& branch)
      : engine_(std::move(engine)), branch_(branch) {}

  // `places` are all of one piece.
  absl::Status AddAll(std::span<const PiecePlace> places,
                      std::vector<StepAndTime>* all) {
    if (const absl::Status s = Open(places.front()); !s.ok()) return s;
    for (const PiecePlace& place : places) {
      if (place.offset >= recorded()) return Damaged("roll-up");
      if (chapter_.has_value()) chapter_->Prefetch(place.offset);
    }
    for (const PiecePlace& place : places) all->push_back(At(place));
    return absl::OkStatus();
  }

 private:
  StepAndTime At(const PiecePlace& place) const {
    if (chapter_.has_value()) return chapter_->At(place.offset);
    const std::uint32_t row = window_->RowOfRecorded(place.offset);
    return StepAndTime{window_->step(row), window_->time(row)};
  }

  std::uint32_t recorded() const {
    if (chapter_.has_value()) return chapter_->recorded();
    return window_.has_value() ? window_->recorded() : 0;
  }

  // A chapter begins where its first window does: `recorded` tells them apart.
  absl::Status Open(const PiecePlace& place) {
    chapter_.reset();
    window_.reset();
    first_step_ = place.first_step;
    if (place.recorded >= 2 * kTileSteps) {
      const auto found = FindChapter();
      if (!found.ok()) return found.status();
      if (*found) {
        const auto view = ChapterView::Parse(View(chapters_->value()));
        if (!view.ok()) return view.status();
        if (view->recorded() == place.recorded) {
          chapter_ = *view;
          return absl::OkStatus();
        }
      }
    }
    bytes_.Reset();
    const absl::Status s = ToStatus(
        engine_->db()->Get(rocksdb::ReadOptions(), engine_->windows(),
                           keys::Timeline(branch_.run_id, branch_.stream,
                                          branch_.branch, first_step_),
                           &bytes_),
        kReading);
    if (!s.ok()) return s;
    const auto view = TimelineView::Parse(View(bytes_));
    if (!view.ok()) return view.status();
    window_ = *view;
    return window_->recorded() == place.recorded ? absl::OkStatus()
                                                 : Damaged("roll-up");
  }

  // Most often it is the one after that which was found last.
  absl::StatusOr<bool> FindChapter() {
    const std::string wanted = keys::Chapter(branch_.run_id, branch_.stream,
                                             branch_.branch, first_step_);
    if (chapters_ == nullptr) {
      chapters_.reset(engine_->db()->NewIterator(rocksdb::ReadOptions(),
                                                 engine_->windows()));
    } else if (chapters_->Valid()) {
      chapters_->Next();
    }
    if (!chapters_->Valid() || View(chapters_->key()) != wanted) {
      chapters_->Seek(wanted);
    }
    if (chapters_->Valid()) return View(chapters_->key()) == wanted;
    const absl::Status s = ToStatus(chapters_->status(), kReading);
    if (!s.ok()) return s;
    return false;
  }

  const std::shared_ptr<Engine> engine_;
  const BranchKey branch_;
  std::int64_t first_step_ = 0;
  std::unique_ptr<rocksdb::Iterator> chapters_;  // chapter_ views its value.
  rocksdb::PinnableSlice bytes_;                 // That of window_.
  std::optional<ChapterView> chapter_;
  std::optional<TimelineView> window_;
};

const rocksdb::Snapshot* SnapshotOf(const RolledSpan& span) {
  return span.as_of == nullptr ? nullptr : span.as_of->snapshot();
}

// Of a scan over many groups, whose values are small and follow each other.
constexpr std::size_t kReadAhead = std::size_t{1} << 20;

// One group's values as a piece.
class WorstReader {
 public:
  WorstReader(const TileLayout& layout, Role role)
      : layout_(layout), role_(role) {}

  // The piece is valid until the next call.
  absl::StatusOr<WorstPiece> Read(std::uint32_t group, std::int64_t step,
                                  std::string_view bytes, RollupWorst worst) {
    if (absl::Status s = reader_.Open(bytes); !s.ok()) return s;
    WorstPiece piece;
    const std::uint32_t block = group / kGroupsOfBlock;
    const std::uint32_t row = group % kGroupsOfBlock * kRollupParameters;
    piece.places = reader_.shape().parameters;
    if (block >= layout_.blocks() ||
        row + piece.places > layout_.Rows(role_, block)) {
      return Damaged("roll-up");
    }
    piece.first_place = layout_.FirstPlace(role_, block) + row;
    piece.first_step = step;
    piece.runs = reader_.shape().runs();
    const std::size_t entries = std::size_t{piece.places} * piece.runs;
    worst_.resize(entries);
    flags_.resize(entries);
    absl::Status s = reader_.ReadWorst(worst, worst_.data(), flags_.data());
    if (!s.ok()) return s;
    piece.worst = worst_.data();
    piece.flags = flags_.data();
    piece.bytes = bytes.size();
    return piece;
  }

 private:
  const TileLayout& layout_;
  const Role role_;
  RollupReader reader_;
  std::vector<float> worst_;
  std::vector<std::uint8_t> flags_;
};

}  // namespace

absl::StatusOr<RolledSpan> RocksdbStore::RolledUp(StreamId stream,
                                                  std::uint32_t branch,
                                                  std::int64_t begin,
                                                  std::int64_t end) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  std::optional<Sealed> sealed;
  {
    MutexLock lock(mu_);
    const auto found = catalog_.sealed.find({stream, branch});
    if (found != catalog_.sealed.end()) sealed = found->second;
  }
  const RolledSpan none{begin, begin};
  if (!sealed.has_value()) return none;
  const BranchKey key{reader->run_id, stream, branch};
  RolledSpan span{begin, std::min(end, sealed->end)};
  span.as_of = std::make_shared<const StoreMoment>(reader->engine);
  const auto first = PieceAround(*reader->engine, key, begin, SnapshotOf(span));
  if (!first.ok()) return first.status();
  if (first->has_value()) span.begin = (*first)->end;
  // At the end of what was sealed, too: since it was looked up another window
  // may have been sealed, and joined with those before it.
  const auto last =
      PieceAround(*reader->engine, key, span.end, SnapshotOf(span));
  if (!last.ok()) return last.status();
  if (last->has_value()) span.end = (*last)->begin;
  return span.begin < span.end ? span : none;
}

absl::Status RocksdbStore::ScanRollups(
    StreamId stream, std::uint32_t branch, const RolledSpan& span,
    const RollupSelection& selection,
    const std::function<bool(const RollupPiece&)>& visit) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  const auto layout = LayoutOf(stream, selection.schema_id);
  if (!layout.ok()) return layout.status();
  if (selection.place >= (*layout)->places(selection.role)) {
    return absl::OkStatus();
  }
  const std::uint32_t row = (*layout)->RowOf(selection.role, selection.place);
  const std::uint32_t group =
      RollupGroupOf((*layout)->BlockOf(selection.role, selection.place), row);
  const auto key_of = [&](std::int64_t step) {
    return keys::Rollup(reader->run_id, stream, branch, selection.level,
                        static_cast<std::uint8_t>(selection.role),
                        static_cast<std::uint8_t>(selection.statistic),
                        selection.schema_id, group, step);
  };
  const std::string from = key_of(span.begin);
  const std::string to = key_of(span.end);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.snapshot = SnapshotOf(span);
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      reader->engine->db()->NewIterator(options, reader->engine->rollups()));
  RollupReader rollups;
  std::vector<RollupEntry> entries;
  for (it->Seek(from); it->Valid(); it->Next()) {
    absl::Status s = rollups.Open(View(it->value()));
    if (!s.ok()) return s;
    entries.resize(rollups.shape().runs());
    s = rollups.Read(row % kRollupParameters, entries.data());
    if (!s.ok()) return s;
    if (!visit({StepAtEnd(View(it->key())), rollups.shape().steps,
                rollups.shape().run, entries})) {
      return absl::OkStatus();
    }
  }
  return ToStatus(it->status(), kReading);
}

absl::Status RocksdbStore::ScanWorst(
    StreamId stream, std::uint32_t branch, const RolledSpan& span,
    const WorstSelection& selection,
    const std::function<bool(const WorstPiece&)>& visit) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  const auto layout = LayoutOf(stream, selection.schema_id);
  if (!layout.ok()) return layout.status();
  const std::uint32_t places =
      std::min(selection.end_place, (*layout)->places(selection.role));
  if (selection.first_place >= places) return absl::OkStatus();
  const auto group_of = [&](std::uint32_t place) {
    return RollupGroupOf((*layout)->BlockOf(selection.role, place),
                         (*layout)->RowOf(selection.role, place));
  };
  const auto key_of = [&](std::uint32_t group, std::int64_t step) {
    return keys::Rollup(reader->run_id, stream, branch, 0,
                        static_cast<std::uint8_t>(selection.role),
                        static_cast<std::uint8_t>(selection.statistic),
                        selection.schema_id, group, step);
  };
  const std::string to = key_of(group_of(places - 1), span.end);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.snapshot = SnapshotOf(span);
  options.iterate_upper_bound = &upper;
  options.fill_cache = false;
  options.readahead_size = kReadAhead;
  std::unique_ptr<rocksdb::Iterator> it(
      reader->engine->db()->NewIterator(options, reader->engine->rollups()));
  WorstReader rollups(**layout, selection.role);
  it->Seek(key_of(group_of(selection.first_place), span.begin));
  while (it->Valid()) {
    ByteReader tail(View(it->key()).substr(it->key().size() - 12));
    const std::uint32_t group = tail.U32();
    const std::int64_t step = tail.I64();
    if (step < span.begin) {
      it->Seek(key_of(group, span.begin));
      continue;
    }
    if (step >= span.end) {
      it->Seek(key_of(group + 1, span.begin));
      continue;
    }
    const auto piece =
        rollups.Read(group, step, View(it->value()), selection.worst);
    if (!piece.ok()) return piece.status();
    if (!visit(*piece)) return absl::OkStatus();
    it->Next();
  }
  return ToStatus(it->status(), kReading);
}

absl::Status RocksdbStore::ScanTimelines(
    StreamId stream, std::uint32_t branch, std::int64_t begin, std::int64_t end,
    const std::function<bool(std::int64_t, const TimelineView&)>& visit) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  const std::string from =
      keys::Timeline(reader->run_id, stream, branch, begin);
  const std::string to = keys::Timeline(reader->run_id, stream, branch, end);
  const rocksdb::Slice upper(to);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      reader->engine->db()->NewIterator(options, reader->engine->windows()));
  for (it->Seek(from); it->Valid(); it->Next()) {
    const auto view = TimelineView::Parse(View(it->value()));
    if (!view.ok()) return view.status();
    if (!visit(StepAtEnd(View(it->key())), *view)) return absl::OkStatus();
  }
  return ToStatus(it->status(), kReading);
}

absl::StatusOr<std::vector<StepAndTime>> RocksdbStore::ResolvePlaces(
    StreamId stream, std::uint32_t branch, std::span<const PiecePlace> places) {
  const auto reader = ReaderOfStream(stream);
  if (!reader.ok()) return reader.status();
  std::vector<StepAndTime> resolved;
  resolved.reserve(places.size());
  PieceSteps steps(reader->engine, {reader->run_id, stream, branch});
  for (std::size_t i = 0, end = 0; i < places.size(); i = end) {
    while (end < places.size() &&
           places[end].first_step == places[i].first_step &&
           places[end].recorded == places[i].recorded) {
      ++end;
    }
    const absl::Status s = steps.AddAll(places.subspan(i, end - i), &resolved);
    if (!s.ok()) return s;
  }
  return resolved;
}

}  // namespace gradtap::server
