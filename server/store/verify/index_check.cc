#include "server/store/verify/index_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"

namespace gradtap::server {
namespace {

bool Same(const keys::OrdinalValue& a, const keys::OrdinalValue& b) {
  return a.is_gap == b.is_gap && a.stream == b.stream && a.branch == b.branch &&
         a.step == b.step;
}

rocksdb::Iterator* NewIterator(const Engine& engine,
                               const rocksdb::Slice* upper) {
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = upper;
  return engine.db()->NewIterator(options, engine.index());
}

}  // namespace

OrdinalCheck::OrdinalCheck(const Engine& engine, std::uint64_t run_id,
                           Findings* findings)
    : engine_(engine),
      run_id_(run_id),
      findings_(findings),
      end_(keys::After(keys::OfRun(keys::kOrdinal, run_id))),
      upper_(end_),
      it_(NewIterator(engine, &upper_)) {}

void OrdinalCheck::Expect(std::uint64_t ordinal, const keys::OrdinalValue& at,
                          const std::string& place) {
  ++expected_;
  const std::string key = keys::Ordinal(run_id_, ordinal);
  // Most often the next one.
  if (it_->Valid()) it_->Next();
  if (!it_->Valid() || it_->key() != rocksdb::Slice(key)) it_->Seek(key);
  if (!it_->Valid() || it_->key() != rocksdb::Slice(key)) {
    findings_->Report(place, absl::StrCat("step ", at.step, ": its ordinal ",
                                          ordinal, " is not in the index"));
    return;
  }
  const auto stored = keys::DecodeOrdinalValue(View(it_->value()));
  if (!stored.has_value() || !Same(*stored, at)) {
    findings_->Report(place, absl::StrCat("step ", at.step,
                                          ": the index has something else "
                                          "under its ordinal ",
                                          ordinal));
  }
}

void OrdinalCheck::Finish(std::uint64_t last, const std::string& place) {
  std::uint64_t next = 1;
  ForEachKey(
      engine_, engine_.index(), keys::OfRun(keys::kOrdinal, run_id_), end_,
      place, findings_, [&](std::string_view key, std::string_view value) {
        ByteReader reader(key.substr(9));
        const std::uint64_t ordinal = reader.U64();
        if (!reader.ok() || !reader.at_end() ||
            !keys::DecodeOrdinalValue(value).has_value()) {
          findings_->Report(place, "an entry of the index is damaged");
          return;
        }
        if (ordinal != next) {
          findings_->Report(place, absl::StrCat("the index goes from ordinal ",
                                                next - 1, " to ", ordinal));
        }
        next = ordinal + 1;
      });
  if (next != last + 1) {
    findings_->Report(place,
                      absl::StrCat("the index ends with ordinal ", next - 1,
                                   " and the run with ", last));
  }
  if (expected_ != last) {
    findings_->Report(
        place, absl::StrCat("there are ", expected_,
                            " rows and gaps, and ordinals up to ", last));
  }
}

Layouts CheckSchemas(const Engine& engine, std::uint64_t run_id,
                     const StreamEntry& stream, const std::string& place,
                     Findings* findings) {
  Layouts layouts;
  const std::string begin = keys::OfStream(keys::kSchema, run_id, stream.id);
  ForEachKey(
      engine, engine.index(), begin, keys::After(begin), place, findings,
      [&](std::string_view key, std::string_view value) {
        ByteReader reader(key.substr(begin.size()));
        const std::uint32_t id = reader.U32();
        const auto schema = DecodeSchema(value);
        ++findings->summary.schemas;
        if (!reader.ok() || !reader.at_end() || !schema.ok()) {
          findings->Report(place, absl::StrCat("schema ", id, " is damaged: ",
                                               schema.status().ToString()));
          return;
        }
        if (schema->schema_id != id || id > stream.schema_id) {
          findings->Report(
              place, absl::StrCat("schema ", id, " stands in a wrong place"));
        }
        layouts[id] = std::make_shared<const TileLayout>(*schema);
      });
  if (stream.schema_id != 0 && layouts.count(stream.schema_id) == 0) {
    findings->Report(place, absl::StrCat("its newest schema ", stream.schema_id,
                                         " is not there"));
  }
  return layouts;
}

std::vector<GapBounds> CheckGaps(const Engine& engine, std::uint64_t run_id,
                                 const StreamEntry& stream,
                                 const std::string& place,
                                 OrdinalCheck* ordinals, Findings* findings) {
  std::vector<GapBounds> bounds(stream.branches.size());
  std::uint64_t lost = 0;
  const std::string begin = keys::OfStream(keys::kGap, run_id, stream.id);
  ForEachKey(
      engine, engine.index(), begin, keys::After(begin), place, findings,
      [&](std::string_view key, std::string_view value) {
        ByteReader reader(key.substr(begin.size()));
        const std::uint32_t branch = reader.U32();
        const std::int64_t first = reader.I64();
        const std::uint64_t ordinal = reader.U64();
        const auto gap = DecodeGapValue(value);
        ++findings->summary.gaps;
        if (!reader.ok() || !reader.at_end() || !gap.ok() ||
            branch >= bounds.size() || gap->first_step != first ||
            gap->last_step < first) {
          findings->Report(place, absl::StrCat("branch ", branch, ", step ",
                                               first, ": a gap is damaged"));
          return;
        }
        GapBounds& of = bounds[branch];
        of.first_step = of.gaps == 0 ? first : std::min(of.first_step, first);
        of.last_step = std::max(of.last_step, gap->last_step);
        ++of.gaps;
        if (IsLost(gap->cause)) lost += gap->steps;
        ordinals->Expect(ordinal, {true, stream.id, branch, first}, place);
      });
  if (lost != stream.lost_steps) {
    findings->Report(
        place, absl::StrCat("its gaps have lost ", lost,
                            " steps, and its cursor says ", stream.lost_steps));
  }
  return bounds;
}

void CheckParts(const Engine& engine, std::uint64_t run_id,
                const StreamEntry& stream, const std::string& place,
                Findings* findings) {
  const std::string begin = keys::OfStream(keys::kPart, run_id, stream.id);
  ForEachKey(
      engine, engine.index(), begin, keys::After(begin), place, findings,
      [&](std::string_view key, std::string_view) {
        ByteReader reader(key.substr(begin.size()));
        const std::uint64_t seq = reader.U64();
        if (!reader.ok() || !reader.at_end() || seq > stream.durable_seq) {
          findings->Report(place, absl::StrCat("a piece of the record ", seq,
                                               " is beyond its cursor"));
        }
      });
}

}  // namespace gradtap::server
