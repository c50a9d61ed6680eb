// The keys of a data folder's database.
//
//   key = run-key | head-key | cursor-key | branch-key | sealed-key
//       | ids-key | probe-key | note-key                   (family "default")
//       | row-key                                          (family "rows")
//       | schema-key | gap-key | part-key | ordinal-key
//       | attachment-key                                   (family "index")
//       | histogram-key                            (family "histograms")
//       | timeline-key | scalar-key | chapter-key  (family "windows")
//       | tile-key                                 (family "tiles")
//       | rollup-key                               (family "rollups")
//
//   ids-key     = "N"                              -> next run-id, next stream
//   probe-key   = "P"                              -> ""; has no meaning, is no
//                                                     longer written
//   note-key    = "L" number                       -> a note (Store::AddNote())
//   run-key     = "R" name                         -> RunHead
//   head-key    = "h" run-id stream                -> StreamHello
//   cursor-key  = "c" run-id stream                -> StreamCursor
//   branch-key  = "b" run-id stream branch         -> Branch
//   sealed-key  = "w" run-id stream branch         -> Sealed
//   row-key     = run-id stream branch step        -> ordinal Step
//   schema-key  = "s" run-id stream schema-id      -> Schema
//   gap-key     = "g" run-id stream branch first-step ordinal -> Gap
//   part-key    = "p" run-id stream seq            -> a piece of a Record
//   ordinal-key = "o" run-id ordinal               -> ordinal-value
//   attachment-key = "a" run-id name              -> an attachment
//                                                    (Store::WriteAttachments())
//   histogram-key = run-id stream branch step role block -> histogram-block
//   timeline-key = "t" run-id stream branch first-step     -> timeline
//   chapter-key  = "c" run-id stream branch first-step     -> chapter
//   scalar-key   = "s" run-id stream branch length name first-step -> scalars
//   tile-key     = run-id stream branch first-step role field block -> tile
//   rollup-key   = run-id stream branch level role statistic schema-id group
//                  first-step -> roll-ups
//
//   ordinal-value = "r" stream branch step         a row
//                 | "g" stream branch first-step   a gap
//
//   run-id, stream, ordinal, seq, number  8 bytes, big-endian
//   branch, schema-id, block      4 bytes, big-endian
//   role                          1 byte, as of gradtap.v1.Role
//   level, field, statistic       1 byte, as of window/tile_key.h
//   step, first-step              8 bytes, big-endian, plus 2^63: bytes sort as
//                                 the signed numbers do
//   name                          the rest of the key, or so many bytes
//   length                        2 bytes, big-endian
//
// A run-id names one life of a
// run: a run deleted and made anew has another, so that deleting is one range
// in each family. Step and Schema are the wire's messages, as they came, but
// that a Step's histograms stand apart: a histogram-block is a Step that has
// nothing but those of 256 places of one role (core/codec.h, SplitHistograms).
// Rows of format 1 may have them inside. A row is in the family "rows" until
// the window that it belongs to is sealed: what stands under the first step of
// that window then has it, and the row is deleted in the same write. The values
// of windows are those of window/timeline.h, window/chapter.h,
// window/scalar_column.h, tile/tile.h and rollup/block.h; block is one of
// window/layout.h there, group one of window/tile_key.h. Roll-ups go by series
// first: one series over all windows is read in one go. The other values are
// those of catalog_codec.h. Existing keys and values never change their
// meaning; a new kind of key is a new letter, and what an older collector must
// not misread raises the folder's format version (data_folder.h).
//
// Layer: server/store. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_KEYS_H_
#define GRADTAP_SERVER_STORE_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gradtap::server::keys {

inline constexpr char kIds = 'N';
inline constexpr char kNote = 'L';
inline constexpr char kRun = 'R';
inline constexpr char kHead = 'h';
inline constexpr char kCursor = 'c';
inline constexpr char kBranch = 'b';
inline constexpr char kSealed = 'w';
inline constexpr char kTimeline = 't';
inline constexpr char kChapter = 'c';
inline constexpr char kScalar = 's';
inline constexpr char kSchema = 's';
inline constexpr char kGap = 'g';
inline constexpr char kPart = 'p';
inline constexpr char kOrdinal = 'o';
inline constexpr char kAttachment = 'a';

std::string Ids();
std::string Note(std::uint64_t number);
std::string Run(std::string_view name);
std::string Head(std::uint64_t run_id, std::uint64_t stream);
std::string Cursor(std::uint64_t run_id, std::uint64_t stream);
std::string Branch(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch);
std::string Sealed(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch);
std::string Row(std::uint64_t run_id, std::uint64_t stream,
                std::uint32_t branch, std::int64_t step);
std::string Timeline(std::uint64_t run_id, std::uint64_t stream,
                     std::uint32_t branch, std::int64_t first_step);
std::string Chapter(std::uint64_t run_id, std::uint64_t stream,
                    std::uint32_t branch, std::int64_t first_step);
// `name` has less than 2^16 bytes.
std::string Scalar(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch, std::string_view name,
                   std::int64_t first_step);
std::string Tile(std::uint64_t run_id, std::uint64_t stream,
                 std::uint32_t branch, std::int64_t first_step,
                 std::uint8_t role, std::uint8_t field, std::uint32_t block);
std::string Rollup(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t branch, std::uint8_t level, std::uint8_t role,
                   std::uint8_t statistic, std::uint32_t schema_id,
                   std::uint32_t group, std::int64_t first_step);
// All blocks of one step begin with it, and it is no key itself.
std::string HistogramStep(std::uint64_t run_id, std::uint64_t stream,
                          std::uint32_t branch, std::int64_t step);
std::string Histogram(std::uint64_t run_id, std::uint64_t stream,
                      std::uint32_t branch, std::int64_t step,
                      std::uint8_t role, std::uint32_t block);
std::string Schema(std::uint64_t run_id, std::uint64_t stream,
                   std::uint32_t schema_id);
std::string Gap(std::uint64_t run_id, std::uint64_t stream,
                std::uint32_t branch, std::int64_t first_step,
                std::uint64_t ordinal);
std::string Part(std::uint64_t run_id, std::uint64_t stream, std::uint64_t seq);
std::string Ordinal(std::uint64_t run_id, std::uint64_t ordinal);
std::string Attachment(std::uint64_t run_id, std::string_view name);

// Prefixes: all keys of a kind that belong to a run, to a stream of it, ...
// Kind 0: the families of rows, histograms, tiles and roll-ups, whose keys have
// no letter.
std::string OfRun(char kind, std::uint64_t run_id);
std::string OfStream(char kind, std::uint64_t run_id, std::uint64_t stream);
// The first key after all those with this prefix; the prefix is not all 0xff.
std::string After(std::string prefix);

// The fields of a key, or nothing if it is not one of that kind.
struct StreamKey {
  std::uint64_t run_id = 0;
  std::uint64_t stream = 0;
  std::string_view rest;
};
std::optional<StreamKey> ParseStreamKey(char kind, std::string_view key);

struct OrdinalValue {
  bool is_gap = false;
  std::uint64_t stream = 0;
  std::uint32_t branch = 0;
  std::int64_t step = 0;  // Or the gap's first step.
};
std::string EncodeOrdinalValue(const OrdinalValue& value);
std::optional<OrdinalValue> DecodeOrdinalValue(std::string_view value);

}  // namespace gradtap::server::keys

#endif  // GRADTAP_SERVER_STORE_KEYS_H_
