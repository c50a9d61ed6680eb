// The wire bytes of gradtap.v1.Record, written once and read without a copy.
//
// What Encode*() writes is what stands in the agent's ring, what travels in a
// Batch, and what the collector stores: nothing is encoded twice. The grammar
// is that of proto/gradtap/v1/record.proto; a test holds both directions
// against protobuf's own parser.
//
// Layer: core. Any thread may call anything here on its own data.

#ifndef GRADTAP_CORE_CODEC_H_
#define GRADTAP_CORE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap {

namespace wire {
class Reader;
}  // namespace wire

// A record larger than this travels in parts.
inline constexpr std::size_t kMaxPartBytes = 512 * 1024;
// DecodeSchema() refuses a schema with more parameters, unless told a lower
// limit: a parameter takes 60 times more memory than its shortest encoding.
inline constexpr std::size_t kMaxSchemaParameters = 1'000'000;

// ---- Writing. Each returns or writes one encoded gradtap.v1.Record. ----

// Exact size of the Record that holds `step`. No allocation.
std::size_t EncodedStepSize(const StepData& step);
// Writes exactly EncodedStepSize(step) bytes to `out`, which must be that long.
// No allocation.
void EncodeStep(const StepData& step, std::span<char> out);

std::string EncodeSchema(const Schema& schema);
std::string EncodeGap(const GapData& gap);
// The same into `*out`, which keeps its memory: no allocation in the long run,
// if the gap has no detail.
void EncodeGap(const GapData& gap, std::string* out);
std::string EncodeRollback(const RollbackData& rollback);
std::string EncodeEnd(const EndData& end);

// A Record that holds Part{index, count, data}: the head goes before `data`.
// Head and data together are the encoded Record.
std::string EncodePartHead(std::uint32_t index, std::uint32_t count,
                           std::size_t data_bytes);

// Appends one element of RecordList.records: tag, length and the bytes.
void AppendToRecordList(std::string_view record, std::string* list);
// What that adds besides the record's own bytes; at most 6.
std::size_t RecordListOverhead(std::size_t record_bytes);

// A fingerprint of the table, without schema_id and optimizers; never zero.
std::uint64_t FingerprintOf(const std::vector<Parameter>& parameters);

// ---- Reading. Input is untrusted: a malformed one is kInvalidArgument, saying
// what is wrong; nothing is allocated beyond a small factor of its size. ----

enum class RecordKind : std::uint8_t {
  kUnknown = 0,  // A kind of a newer version.
  kSchema = 1,
  kStep = 2,
  kGap = 3,
  kRollback = 4,
  kEnd = 5,
  kPart = 6,
};

// Splits a RecordList into its records; views into `list`.
absl::StatusOr<std::vector<std::string_view>> SplitRecordList(
    std::string_view list);

struct RecordView {
  RecordKind kind = RecordKind::kUnknown;
  std::string_view body;  // The inner message's bytes.
};
absl::StatusOr<RecordView> ParseRecord(std::string_view record);

// Counts the parameters before it allocates for any. kResourceExhausted if
// there are more than `max_parameters`, or aliases or shapes as of many more.
absl::StatusOr<Schema> DecodeSchema(
    std::string_view body, std::size_t max_parameters = kMaxSchemaParameters);
absl::StatusOr<GapData> DecodeGap(std::string_view body);
absl::StatusOr<RollbackData> DecodeRollback(std::string_view body);
absl::StatusOr<EndData> DecodeEnd(std::string_view body);

struct PartView {
  std::uint32_t index = 0;
  std::uint32_t count = 0;
  std::string_view data;
};
absl::StatusOr<PartView> DecodePart(std::string_view body);

// A parsed Step over bytes that it does not own: float columns are read where
// they stand. Every column has been checked to have `size` places, every sparse
// index to be within it.
class StepView {
 public:
  // `body` is the Step message (RecordView::body) and must outlive the view.
  static absl::StatusOr<StepView> Parse(std::string_view body);
  // The same into this one, which keeps its memory. After an error it is not to
  // be read.
  absl::Status Reparse(std::string_view body);

  std::int64_t step() const { return step_; }
  std::int64_t wall_time_unix_ns() const { return wall_time_unix_ns_; }
  std::uint32_t schema_id() const { return schema_id_; }
  std::uint32_t interval_steps() const { return interval_steps_; }
  GapCause skipped() const { return skipped_; }
  // Checked; empty unless the step was skipped and a reason was given.
  std::string_view skipped_detail() const { return skipped_detail_; }

  // Null if the step has no such role.
  struct Columns;
  const Columns* Find(Role role) const;
  const std::vector<Columns>& columns() const { return columns_; }

  // Decoded on request, in wire order. Names are checked to be valid UTF-8 of
  // 1 to 512 bytes by Parse().
  struct ScalarView {
    std::string_view name;
    double value = 0;
  };
  const std::vector<ScalarView>& scalars() const { return scalars_; }
  std::vector<HistogramData> DecodeHistograms() const;
  bool has_histograms() const { return !histograms_.empty(); }
  // One histogram where it stands: the encoded gradtap.v1.Histogram.
  struct HistogramView {
    Role role = Role::kUnspecified;
    std::uint32_t place = 0;
    std::string_view body;
  };
  // In wire order. Parse() has checked them: of a place of the step's columns,
  // no place twice, bins of the layout, a total that fits 63 bits.
  const std::vector<HistogramView>& histograms() const { return histograms_; }

  // A sparse column decoded: ascending (place, count) pairs.
  struct Counts {
    std::vector<std::uint32_t> place;
    std::vector<std::uint64_t> count;
    std::uint64_t At(std::uint32_t p) const;  // 0 if not listed. O(log n).
  };

  struct Columns {
    Role role = Role::kUnspecified;
    std::uint32_t size = 0;
    std::string_view absent;  // Bitmap, or empty.
    // size * 4 bytes each, little-endian, possibly unaligned.
    std::string_view mean, std, abs_mean, min, max;
    Counts zero, nan, pos_inf, neg_inf;

    bool IsAbsent(std::uint32_t place) const {
      return !absent.empty() &&
             ((static_cast<unsigned char>(absent[place / 8]) >> (place % 8)) &
              1) != 0;
    }
    // The record at a place below size; meaningless if it is absent.
    Record Get(std::uint32_t place) const;
  };

 private:
  absl::Status ReadField(const wire::Reader& reader);

  std::int64_t step_ = 0;
  std::int64_t wall_time_unix_ns_ = 0;
  std::uint32_t schema_id_ = 0;
  std::uint32_t interval_steps_ = 0;
  GapCause skipped_ = GapCause::kUnspecified;
  std::string_view skipped_detail_;
  std::vector<Columns> columns_;
  std::vector<ScalarView> scalars_;
  std::vector<HistogramView> histograms_;
};

// ---- Histograms apart from their step, as the collector stores them. ----

// Places of a role whose histograms share a block.
inline constexpr std::uint32_t kHistogramBlockPlaces = 256;

// The histograms of places [256 * block, 256 * block + 256) of one role: an
// encoded gradtap.v1.Step that has nothing else, in the order of places.
// Appended to what is left of the step it gives the step again.
struct HistogramBlock {
  Role role = Role::kUnspecified;
  std::uint32_t block = 0;
  std::string body;
};
struct SplitStep {
  std::string row;                     // The step without its histograms.
  std::vector<HistogramBlock> blocks;  // By role, then block; none is empty.
};
// `view` is Parse(body).
SplitStep SplitHistograms(std::string_view body, const StepView& view);

// A block read from somewhere: checked as untrusted, but for the places, which
// only the step's columns tell. Any order.
absl::StatusOr<std::vector<HistogramData>> DecodeHistogramBlock(
    std::string_view body);
// The same for one place only; no value if the block does not have it.
absl::StatusOr<std::optional<HistogramData>> FindInHistogramBlock(
    std::string_view body, std::uint32_t place);

// Copies a view into plain data (tests, tools).
StepData ToStepData(const StepView& view);

// ---- Frames. ----

// One zstd frame with content size and checksum.
std::string CompressFrame(std::string_view content);
// Such a frame with the content as it is: for a peer on this machine, where
// zstd costs both sides more than the bytes that it saves, some 5 to 15 % of
// floats.
std::string StoreFrame(std::string_view content);
// kInvalidArgument for anything but one whole frame with a content size of at
// most `max_bytes` and a valid checksum; kResourceExhausted over the limit.
absl::StatusOr<std::string> DecompressFrame(std::string_view frame,
                                            std::size_t max_bytes);

}  // namespace gradtap

#endif  // GRADTAP_CORE_CODEC_H_
