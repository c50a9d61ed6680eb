// A stream's records on their way in: checked against what came before them,
// and turned into what the store commits.
//
// A record that can never be stored is rejected for good: its seq is consumed,
// and the Ack names it. What is wrong with a batch as a whole (its frame, its
// count) is an error of the call, and consumes nothing.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_VALIDATE_H_
#define GRADTAP_SERVER_INGEST_VALIDATE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/record.h"
#include "core/schema.h"
#include "server/ingest/ingest.h"
#include "server/ingest/join_room.h"
#include "server/ingest/record_assembly.h"
#include "server/ingest/stream_room.h"
#include "server/store/store.h"

namespace gradtap::server {

inline constexpr std::uint32_t kMaxBranches = 10'000;  // Of a stream.
// Of a batch, without those of no kind. A gap takes 40 times more memory than
// its shortest encoding. Ours have at most 21,000: an agent whose collector has
// lost its data tells so, in 50 bytes, of each step.
inline constexpr std::size_t kMaxBatchRecords = 32'768;

// Records in a row that were refused.
struct RejectedRecord {
  std::uint64_t seq = 0;  // Of the first one.
  std::uint64_t count = 1;
  // Of the first one. Valid UTF-8, safe for a terminal, at most 512 bytes.
  // Empty: 500 others of the batch have one.
  std::string reason;
};

// One batch, ready for the store. Owns all that `commit` refers to.
struct ValidatedBatch {
  StreamCommit commit;
  std::vector<RejectedRecord> rejected;  // All, in their order.

  std::shared_ptr<const std::string> content;  // The frame's.
  std::deque<std::string> joined;              // Records that came in parts.
  std::deque<SplitStep> split;             // Steps that came with histograms.
  std::unique_ptr<JoinRoom::Place> place;  // Theirs, if they took one.
  std::string run;  // Of a batch that has new branches: it took room for them.

  ValidatedBatch() = default;
  ValidatedBatch(const ValidatedBatch&) = delete;
  ValidatedBatch& operator=(const ValidatedBatch&) = delete;
};

// What the store knows of a stream when its session begins.
struct OpenedStream {
  StreamEntry entry;
  std::shared_ptr<const Schema> schema;  // The newest; null: none yet.
  UnfinishedRecord unfinished;
  ScanPartsFn scan_parts;  // Null if there is none and none is to come.
  std::uint32_t attempt = 1;
  std::int64_t last_step_of_run = -1;  // Before this attempt.
  std::shared_ptr<StreamRoom> room;    // For branches; null: any number.
};

// Follows one stream, from where it is durable. One thread at a time.
//
// It runs ahead of the store: what it has accepted counts as stored. If that
// turns out false the session ends, and the next one begins with a new
// validator.
class StreamValidator {
 public:
  StreamValidator(const IngestLimits& limits, const OpenedStream& opened);

  // The highest seq accepted so far.
  std::uint64_t accepted_seq() const { return accepted_seq_; }

  // What an unfinished record takes once it is joined, at most, if the next
  // `records` end it; 0: they do not.
  std::uint64_t BytesIfEndsWithin(std::uint64_t records) const {
    return assembly_.BytesIfEndsWithin(records);
  }

  // The records first_seq.. of a frame, of which those up to accepted_seq() are
  // passed over; there is at least one more, and none is missing before it.
  // kInvalidArgument if the batch as a whole is malformed, the store's error if
  // it cannot read the parts of a record that ends here; nothing is accepted
  // then. The result's commit has all but last_seen_unix_ns.
  absl::StatusOr<std::unique_ptr<ValidatedBatch>> Accept(
      std::uint64_t first_seq, std::uint32_t record_count,
      std::string_view frame_untrusted);

  // What has been accepted up to here is in the store.
  void OnDurable(std::uint64_t seq) { assembly_.OnDurable(seq); }

 private:
  void AcceptRecord(std::uint64_t seq, std::string_view record_untrusted,
                    ValidatedBatch* batch);
  // A status that is not OK is the reason for rejecting.
  absl::Status AcceptWhole(std::string_view record_untrusted, bool from_parts,
                           ValidatedBatch* batch);
  absl::Status AcceptSchema(std::string_view body_untrusted,
                            ValidatedBatch* batch);
  absl::Status AcceptStep(std::string_view body_untrusted,
                          ValidatedBatch* batch);
  absl::Status AcceptGap(std::string_view body_untrusted,
                         ValidatedBatch* batch);
  absl::Status AcceptRollback(std::string_view body_untrusted,
                              ValidatedBatch* batch);
  absl::Status AcceptEnd(std::string_view body_untrusted,
                         ValidatedBatch* batch);
  void AcceptPart(std::uint64_t seq, std::string_view body_untrusted,
                  ValidatedBatch* batch);
  // Accepts the record whose last part has come.
  void AcceptJoined(std::uint64_t seq, ValidatedBatch* batch);
  void DropAssembly(ValidatedBatch* batch);
  void AbandonAssembly(std::uint64_t seq, ValidatedBatch* batch);
  void Reject(std::uint64_t seq, std::string reason, bool counts,
              ValidatedBatch* batch);
  // A record that was refused as a whole. If it is a step, which is lost with
  // it, that is stored as a gap: nobody else may live to tell. `head_untrusted`
  // is as much of the record as there is.
  void RejectWhole(std::uint64_t seq, std::string_view head_untrusted,
                   const absl::Status& why, ValidatedBatch* batch);
  absl::Status CheckNames(const Schema& schema) const;
  absl::Status CheckColumns(const StepView& step, std::uint64_t* records) const;
  void UseSchema(const Schema& schema);

  const IngestLimits limits_;
  const StreamId stream_;
  const std::string run_;
  const std::shared_ptr<StreamRoom> room_;
  std::uint64_t accepted_seq_;
  std::uint32_t schema_id_;  // Newest; 0: none yet.
  // Places of each role's columns, by the newest schema.
  std::array<std::uint32_t, kRoleCount> places_{};
  std::uint32_t branch_ = 0;
  std::int64_t last_step_ = -1;  // Of the branch; gaps included.
  bool ended_ = false;
  RecordAssembly assembly_;
  bool rest_refused_ = false;  // Of a record whose part was rejected.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_VALIDATE_H_
