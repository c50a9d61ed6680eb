// The records of a training process, in a ring and as they were put there; and
// what is to become of each.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_FUZZ_PUT_RECORDS_H_
#define GRADTAP_TESTS_FUZZ_PUT_RECORDS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/books.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/ring.h"
#include "core/codec.h"
#include "fuzz/fuzz.h"

namespace gradtap::fuzz {

struct PutRecord {
  agent::EntryMeta meta;
  std::string bytes;
  bool refused = false;  // For good. In the last part: its record is.

  bool IsLastPart() const { return meta.part_index + 1 == meta.part_count; }
};

class PutRecords {
 public:
  // So few that a session remembers all of them once they are freed.
  static constexpr std::size_t kMost = 2000;

  explicit PutRecords(std::size_t ring_bytes)
      : ring_(testing::MakeRing(ring_bytes)) {}

  agent::Ring& ring() { return *ring_; }
  agent::Books& books() { return books_; }
  std::uint64_t first_seq() const { return ring_->first_seq(); }
  std::uint64_t last_seq() const { return puts_.size(); }
  PutRecord& At(std::uint64_t seq) { return puts_[seq - 1]; }

  // `kind`: of the record, and in how many parts it travels.
  void Add(std::uint8_t kind) {
    agent::EntryMeta meta;
    meta.part_count = kind % 16 == 15 ? 3 : 1;
    meta.branch = branch_;
    meta.step = meta.last_step = step_;
    switch (kind % 8) {
      case 0:
        meta.kind = agent::EntryKind::kSchema;
        return Admit(meta, EncodeSchema(testing::MakeSchema(++schema_, 1)));
      case 1:
        meta.kind = agent::EntryKind::kGap;
        meta.cause = GapCause::kLoop;
        meta.steps = 1;
        ++step_;
        return Admit(meta,
                     EncodeGap({meta.cause, meta.step, meta.step, 1, "why"}));
      case 2:
        meta.kind = agent::EntryKind::kRollback;
        meta.step = step_ = step_ / 2;
        meta.branch = ++branch_;
        return Admit(meta, EncodeRollback({meta.step, meta.branch}));
      case 3:
        meta.kind = agent::EntryKind::kEnd;
        return Admit(meta, EncodeEnd({}));
      default:
        meta.recorded_steps = kind % 8 == 4 ? 0 : 1;  // Or it was skipped.
        return Admit(meta, StepBytes(meta.recorded_steps == 0));
    }
  }

  // As if they had been delivered before.
  void FreeAll() {
    for (const PutRecord& put : puts_) {
      books_.CountAcknowledged(put.meta.recorded_steps, put.bytes.size());
    }
    ring_->FreeBefore(last_seq() + 1);
  }

  // The collector has refused a record of which `seq` is a part.
  void Refuse(std::uint64_t seq) {
    const agent::EntryMeta& meta = At(seq).meta;
    for (std::uint32_t i = 0; i < meta.part_count; ++i) {
      At(seq - meta.part_index + i).refused = true;
    }
  }

  // Every step is in one place, and was refused only if somebody said so.
  void Check() {
    std::uint64_t admitted = 0, at_hand = 0, refused = 0, bytes = 0;
    for (std::uint64_t seq = 1; seq <= last_seq(); ++seq) {
      const PutRecord& put = At(seq);
      admitted += put.meta.recorded_steps;
      const bool freed = seq < first_seq();
      if (!freed) at_hand += put.meta.recorded_steps;
      if (freed && put.refused) refused += put.meta.recorded_steps;
      if (freed) bytes += put.bytes.size();
    }
    const agent::DeliveryCounters c = books_.Snapshot();
    Require(c.steps_seen == c.steps_recorded + c.steps_skipped + c.steps_lost,
            "the books balance");
    Require(c.steps_recorded + refused == admitted,
            "what is rejected was refused, and what was refused is");
    Require(c.steps_acknowledged + refused + at_hand == admitted,
            "each step is acknowledged, rejected or at hand");
    Require(c.bytes_acknowledged == bytes, "so are its bytes");
  }

 private:
  std::string StepBytes(bool skipped) {
    const StepData step =
        skipped ? testing::MakeSkippedStep(step_, GapCause::kInterval)
                : testing::MakeStep(step_, schema_, 1);
    ++step_;
    std::string bytes(EncodedStepSize(step), '\0');
    EncodeStep(step, bytes);
    return bytes;
  }

  // As the recorder does. What finds no room is not there.
  void Admit(agent::EntryMeta meta, const std::string& record) {
    if (last_seq() + meta.part_count > kMost) return;
    const std::size_t size = record.size() / meta.part_count + 1;
    const std::uint32_t recorded = std::exchange(meta.recorded_steps, 0);
    std::vector<PutRecord> puts;
    for (std::uint32_t i = 0; i < meta.part_count; ++i) {
      meta.part_index = i;
      if (i + 1 == meta.part_count) meta.recorded_steps = recorded;
      std::string bytes = record;
      if (meta.part_count > 1) {
        const std::string data = record.substr(i * size, size);
        bytes = EncodePartHead(i, meta.part_count, data.size()) + data;
      }
      char* const out =
          ring_->Reserve(meta, bytes.size(), agent::Ring::Room::kOrdinary);
      if (out == nullptr) return ring_->Abandon();
      std::copy(bytes.begin(), bytes.end(), out);
      puts.push_back({meta, std::move(bytes)});
    }
    for (PutRecord& put : puts) {
      books_.CountAdmitted(put.meta.recorded_steps, put.bytes.size());
      puts_.push_back(std::move(put));
    }
    ring_->Publish();
  }

  const std::unique_ptr<agent::Ring> ring_;
  agent::Books books_;
  std::vector<PutRecord> puts_;  // Index: seq - 1.
  std::int64_t step_ = 0;
  std::uint32_t schema_ = 0;
  std::uint32_t branch_ = 0;
};

}  // namespace gradtap::fuzz

#endif  // GRADTAP_TESTS_FUZZ_PUT_RECORDS_H_
