// A record that comes in parts, from its first part to its last.
//
// Its parts are in the store as soon as their batch is durable, and those of
// batches under way are in memory with them, which counts against the session's
// credit. Here is only how far it has come: a record that stays unfinished
// costs nothing, and finding it again costs the reading of one part. With the
// last part it is joined: from the store, the batches under way and the batch
// at hand.
//
// A crash takes parts that were not acknowledged, with their cursor: they are
// sent again. Those below the cursor are passed over before they come here. The
// whole is committed in the write that drops its parts, so that there is one or
// the other.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h. One thread at a time.

#ifndef GRADTAP_SERVER_INGEST_RECORD_ASSEMBLY_H_
#define GRADTAP_SERVER_INGEST_RECORD_ASSEMBLY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "server/ingest/ingest.h"
#include "server/store/store.h"

namespace gradtap::server {

// Of a record. Ours have 512 at most.
inline constexpr std::uint32_t kMaxParts = 65'536;

// What is kept of a record's beginning: its kind, and which step it is.
inline constexpr std::size_t kRecordHeadBytes = 32;

// How far a record has come whose last part is missing.
struct UnfinishedRecord {
  std::uint64_t first_seq = 0;
  std::uint32_t parts = 0;  // That have come; 0: there is no such record.
  std::uint32_t count = 0;  // That it has in all.
  std::uint64_t bytes = 0;  // Of those that have come, at least.
  std::string head;         // What it begins with: kRecordHeadBytes at most.
  bool stored = false;  // Parts of earlier batches are to be dropped with it.
};

// As the store has it after `durable_seq`, by its first part. If that is not
// what it should be, or others are missing, there are parts to be dropped and
// no record.
UnfinishedRecord FindUnfinished(const KeptParts& kept,
                                std::uint64_t durable_seq,
                                std::string_view first_part);

// Store::ScanParts() of one stream.
using ScanPartsFn = std::function<absl::Status(
    std::uint64_t begin, std::uint64_t end,
    const std::function<bool(std::string_view)>& visit)>;

class RecordAssembly {
 public:
  RecordAssembly(const IngestLimits& limits, const UnfinishedRecord& found,
                 ScanPartsFn scan)
      : limits_(limits), scan_(std::move(scan)), at_(found) {}

  bool unfinished() const { return at_.parts > 0; }
  const std::string& head() const { return at_.head; }
  // What is joined at most if the record ends within the next `records`; 0: it
  // does not.
  std::uint64_t BytesIfEndsWithin(std::uint64_t records) const;

  // Before the new records of a batch: if they end the record, reads what the
  // store has of it. The errors are the store's, and nothing has changed then.
  absl::Status Begin(std::span<const std::string_view> records);

  // kInvalidArgument: it is not the part that comes next, or the record would
  // be larger than it may be.
  absl::Status Check(const PartView& part) const;
  // A part that has been checked, and its encoding, which the batch owns. True:
  // it was the last one, and Join() is next.
  bool Add(std::uint64_t seq, std::string_view body, const PartView& part);
  // The record, which is forgotten here. kDataLoss: the store does not have the
  // parts that it was given. `*drop_parts` becomes true if earlier batches have
  // some.
  absl::StatusOr<std::string> Join(bool* drop_parts);
  // Forgets the record.
  void Drop(bool* drop_parts);

  // After them: the parts that the batch leaves, to be committed. `content`
  // owns them, and stays here until they are durable.
  std::vector<StreamCommit::Part> End(
      std::uint64_t last_seq, std::shared_ptr<const std::string> content);
  void OnDurable(std::uint64_t seq);

 private:
  struct Batch {  // Under way.
    std::uint64_t last_seq = 0;
    std::shared_ptr<const std::string> content;
    std::vector<StreamCommit::Part> parts;
  };

  const IngestLimits limits_;
  const ScanPartsFn scan_;
  UnfinishedRecord at_;
  std::deque<Batch> under_way_;              // In order.
  std::vector<StreamCommit::Part> at_hand_;  // Of the batch.
  std::string read_;                         // From the store.
  bool damaged_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_RECORD_ASSEMBLY_H_
