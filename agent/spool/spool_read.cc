// What a spool has: records, and what stands in place of those that cannot be
// read.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/spool/spool.h"
#include "core/limits.h"
#include "core/names.h"

namespace gradtap::agent {

// The last segment that begins at or before `seq`.
std::size_t Spool::FindSegment(std::uint64_t seq) const {
  const auto after = std::upper_bound(
      segments_.begin(), segments_.end(), seq,
      [](std::uint64_t s, const Segment& x) { return s < x.first_seq; });
  return static_cast<std::size_t>(after - segments_.begin()) - 1;
}

// Two segments are kept: records are read where they are sent, and again where
// they are freed.
absl::StatusOr<const Spool::Loaded*> Spool::Load(const Segment& segment) {
  const auto holds = [&segment](const Loaded& loaded) {
    return !loaded.bytes.empty() && loaded.first_seq == segment.first_seq &&
           loaded.content.records.size() >=
               segment.next_seq - segment.first_seq;
  };
  if (holds(loaded_[0])) return &loaded_[0];
  std::swap(loaded_[0], loaded_[1]);
  if (holds(loaded_[0])) return &loaded_[0];
  loaded_[0] = Loaded();
  auto bytes = ReadFile(segment.name);
  if (!bytes.ok()) return bytes.status();
  SegmentContent content = ParseSegment(*bytes, segment.first_seq);
  if (content.records.size() < segment.next_seq - segment.first_seq) {
    return absl::DataLossError(absl::StrCat(
        "'", EscapeForTerminal(path()), "/", segment.name,
        "' has changed since it was written or looked at: ", content.damage));
  }
  loaded_[0].first_seq = segment.first_seq;
  loaded_[0].bytes = *std::move(bytes);
  loaded_[0].content = std::move(content);
  return &loaded_[0];
}

absl::StatusOr<EntryView> Spool::Read(std::uint64_t seq) {
  if (seq < first_seq_ || seq >= next_seq_) {
    return absl::OutOfRangeError(absl::StrCat(
        "record ", seq, " is not one of ", first_seq_, " to ", next_seq_ - 1));
  }
  const std::size_t at = FindSegment(seq);
  const Segment& segment = segments_[at];
  if (seq >= segment.next_seq) {
    if (folder_->use() == SpoolUse::kCopy) return NotInCopy(at);
    return Missing(seq, at);
  }
  if (open_fd_ >= 0 && at + 1 == segments_.size()) (void)CloseSegment();
  const auto loaded = Load(segment);
  if (!loaded.ok()) return loaded.status();
  const SegmentRecord& record =
      (*loaded)->content.records[seq - segment.first_seq];
  EntryView entry;
  entry.seq = seq;
  entry.meta = record.meta;
  entry.bytes =
      std::string_view((*loaded)->bytes).substr(record.offset, record.size);
  return entry;
}

absl::Status Spool::NotInCopy(std::size_t before) const {
  std::size_t first = before;
  while (first > 0 && segments_[first].next_seq == segments_[first].first_seq) {
    --first;
  }
  std::size_t after = before + 1;
  while (after + 1 < segments_.size() &&
         segments_[after].next_seq == segments_[after].first_seq) {
    ++after;
  }
  return absl::DataLossError(
      absl::StrCat("records ", segments_[first].next_seq, " to ",
                   segments_[after].first_seq - 1, " are missing in the copy '",
                   EscapeForTerminal(path()),
                   "', or cannot be read: the original may have them still"));
}

// `before` is the segment before the hole that `seq` is in.
EntryView Spool::Missing(std::uint64_t seq, std::size_t before) {
  // A segment without a readable record is part of the hole.
  std::size_t after = before + 1;
  while (after < segments_.size() &&
         segments_[after].next_seq == segments_[after].first_seq) {
    ++after;
  }
  while (before > 0 &&
         segments_[before].next_seq == segments_[before].first_seq) {
    --before;
  }
  if (after == segments_.size()) {
    return StandIn(seq, first_seq_, next_seq_, std::nullopt, std::nullopt, "");
  }
  const std::uint64_t from = segments_[before].next_seq;
  while (before > 0 && !segments_[before].last) --before;
  std::optional<LoopPlace> known = segments_[before].last;
  // One of a schema alone tells of no step: what follows it does.
  std::size_t at = after;
  while (!segments_[at].first && at + 1 < segments_.size() &&
         segments_[at].next_seq == segments_[at + 1].first_seq) {
    ++at;
  }
  std::optional<LoopPlace> next = segments_[at].first;
  const bool last = at + 1 == segments_.size();
  if (!next && last) next = behind_;
  // The next hole is told with this one.
  if (!next && (!last || hole_behind_)) known.reset();
  return StandIn(seq, from, segments_[after].first_seq, std::move(known), next,
                 "a segment of the spool cannot be read");
}

EntryView Spool::StandIn(std::uint64_t seq, std::uint64_t from,
                         std::uint64_t next_seq,
                         std::optional<LoopPlace> before,
                         const std::optional<LoopPlace>& next,
                         std::string_view detail) {
  if (const KeptSchema* const kept = Kept(seq)) return kept->At(seq);
  EntryView entry;
  entry.seq = seq;
  entry.meta.kind = EntryKind::kEnd;
  // All of it: nothing will be asked for but to be told again.
  if (delivered_before_ > from && delivered_before_ < next_seq) {
    from = delivered_before_;
    before.reset();
  }
  if (seq < from) return entry;
  Hole hole;
  hole.records = next_seq - from;
  std::uint64_t behind = next_seq - 1 - seq;
  for (const Schema& kept : schemas_) {
    hole.records -= kept.schema.Within(from, next_seq);
    behind -= kept.schema.Within(seq, next_seq);
  }
  // The first record of all is a schema.
  hole.from_start = from == 1;
  if (hole.from_start && Kept(1) == nullptr) --hole.records;
  if (!next && !before) return entry;
  if (next) {
    hole.next = *next;
  } else {
    // Nothing but an End, or a schema, is behind it.
    const std::uint64_t parts = std::max<std::uint32_t>(1, before->parts);
    const std::uint64_t steps = (hole.records + parts - 1) / parts;
    hole.next = {before->branch, before->step, before->parts};
    hole.next.step += static_cast<std::int64_t>(std::min<std::uint64_t>(
        steps + 1, static_cast<std::uint64_t>(kMaxStep - before->step)));
  }
  hole.before = std::move(before);
  hole.detail = detail;
  HoleRecord record = RecordOfHole(hole, behind);
  entry.meta = record.meta;
  stand_in_ = std::move(record.bytes);
  entry.bytes = stand_in_;
  return entry;
}

std::optional<LoopPlace> Spool::last_place() const {
  for (auto it = segments_.rbegin(); it != segments_.rend(); ++it) {
    if (it->last) return it->last;
  }
  return std::nullopt;
}

}  // namespace gradtap::agent
