// The collector's side of the protocol, as simple as it can be said: what the
// agent is tested against. Follows proto/gradtap/v1/telemetry.proto; whatever
// the agent does against it is noted in `violations`.
//
// Layer: tests. Not thread-safe.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_MODEL_COLLECTOR_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_MODEL_COLLECTOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "core/step_data.h"
#include "gradtap/v1/telemetry.pb.h"

namespace gradtap::testing {

// What a stream's records say, once all are stored.
struct StreamContents {
  std::vector<std::pair<std::uint32_t, std::int64_t>> recorded;  // branch, step
  std::vector<std::pair<std::uint32_t, std::int64_t>> skipped;
  std::map<GapCause, std::uint64_t> gap_steps;      // Of Gap records.
  std::map<GapCause, std::uint64_t> skipped_steps;  // Of Step records.
  std::vector<std::pair<std::uint32_t, GapData>> gaps;
  std::vector<std::uint32_t> schema_ids;
  std::uint32_t branches = 0;
  std::uint64_t fillers = 0;     // Records of no kind.
  std::uint64_t incomplete = 0;  // Records of which parts are missing.
  std::optional<EndData> end;
  std::vector<std::string> problems;
};

class ModelCollector {
 public:
  struct Reply {
    std::vector<v1::CollectorMessage> messages;
    bool close = false;  // End the call.
    std::string close_reason;
  };

  std::uint64_t credit_bytes = 8u << 20;
  std::uint32_t max_batch_bytes = 2u << 20;
  // Decides about each record before it is stored: true refuses it for good.
  std::function<bool(std::uint64_t seq, const std::string& record)> refuse;

  void Open() { hello_seen_ = said_bye_ = false; }

  Reply OnMessage(const v1::AgentMessage& message) {
    Reply reply;
    switch (message.kind_case()) {
      case v1::AgentMessage::kHello:
        OnHello(message.hello(), &reply);
        break;
      case v1::AgentMessage::kBatch:
        OnBatch(message.batch(), &reply);
        break;
      case v1::AgentMessage::kHeartbeat:
        ++heartbeats;
        CheckHeartbeat(message.heartbeat());
        break;
      case v1::AgentMessage::kBye:
        ++byes;
        said_bye_ = true;
        if (message.bye().last_seq() != cursor()) {
          violations.push_back("Bye before everything was acknowledged");
        }
        break;
      case v1::AgentMessage::KIND_NOT_SET:
        violations.push_back("a message of no kind");
        break;
    }
    return reply;
  }

  // Forgets all records after `cursor`: a disk that lied.
  void LoseAfter(std::uint64_t cursor) { records.resize(cursor); }

  std::uint64_t cursor() const { return records.size(); }
  bool said_bye() const { return said_bye_; }

  StreamContents Contents() const {
    StreamContents contents;
    Place place;
    std::string joined;
    std::uint32_t parts = 0;
    for (const std::string& bytes : records) {
      std::string record = bytes;
      const auto view = ParseRecord(record);
      if (!view.ok()) {
        contents.problems.push_back(view.status().ToString());
        continue;
      }
      if (view->kind == RecordKind::kPart) {
        const auto part = DecodePart(view->body);
        if (!part.ok()) {
          contents.problems.push_back(part.status().ToString());
          continue;
        }
        if (part->index == 0) {
          contents.incomplete += joined.empty() ? 0 : 1;
          joined.clear();
          parts = 0;
        }
        if (part->index != parts) {
          ++contents.incomplete;
          joined.clear();
          parts = 0;
          continue;
        }
        ++parts;
        joined.append(part->data);
        if (parts < part->count) continue;
        record = std::exchange(joined, {});
        parts = 0;
      } else if (!joined.empty()) {
        ++contents.incomplete;
        joined.clear();
        parts = 0;
      }
      Take(record, &place, &contents);
    }
    contents.branches = place.branch;
    return contents;
  }

  std::vector<std::string> records;  // Index: seq - 1. Refused ones are empty.
  std::set<std::uint64_t> refused;   // Seqs.
  std::vector<std::string> violations;
  v1::Hello last_hello;
  std::uint64_t frame_bytes = 0;    // Of all batches that could be read.
  std::uint64_t content_bytes = 0;  // The same unpacked.
  int hellos = 0;
  int heartbeats = 0;
  int byes = 0;
  int batches = 0;

 private:
  void OnHello(const v1::Hello& hello, Reply* reply) {
    ++hellos;
    if (hello_seen_) violations.push_back("a second Hello");
    hello_seen_ = true;
    if (hellos > 1 && hello.process_nonce() != last_hello.process_nonce()) {
      violations.push_back("the nonce has changed");
    }
    if (hello.process_nonce().size() != 16 || hello.protocol_version() != 1 ||
        hello.first_seq() > hello.last_seq() + 1) {
      violations.push_back("a malformed Hello");
    }
    last_hello = hello;
    v1::CollectorMessage message;
    v1::Welcome* const welcome = message.mutable_welcome();
    welcome->set_attempt(1);
    welcome->set_next_seq(cursor() + 1);
    welcome->set_credit_bytes(credit_bytes);
    welcome->set_max_batch_bytes(max_batch_bytes);
    welcome->set_protocol_version(1);
    welcome->set_last_step_of_run(-1);
    reply->messages.push_back(std::move(message));
  }

  void OnBatch(const v1::Batch& batch, Reply* reply) {
    ++batches;
    if (!hello_seen_) violations.push_back("a Batch before the Hello");
    if (said_bye_) violations.push_back("a Batch after the Bye");
    const auto content = DecompressFrame(batch.frame(), 4u << 20);
    const auto list =
        content.ok()
            ? SplitRecordList(*content)
            : absl::StatusOr<std::vector<std::string_view>>(content.status());
    if (!list.ok() || list->size() != batch.record_count() || list->empty()) {
      violations.push_back("a malformed Batch: " + list.status().ToString());
      reply->close = true;
      return;
    }
    frame_bytes += batch.frame().size();
    content_bytes += content->size();
    if (content->size() > (1u << 20) && list->size() > 1) {
      violations.push_back("a Batch of more than 1 MiB");
    }
    if (batch.frame().size() > max_batch_bytes && list->size() > 1) {
      violations.push_back("a frame above max_batch_bytes");
    }
    if (batch.first_seq() > cursor() + 1) {
      reply->close = true;
      reply->close_reason = "expected " + std::to_string(cursor() + 1);
      return;
    }
    v1::CollectorMessage message;
    v1::Ack* const ack = message.mutable_ack();
    std::uint64_t seq = batch.first_seq();
    for (const std::string_view record : *list) {
      if (seq == cursor() + 1) {
        if (refuse && refuse(seq, std::string(record))) {
          refused.insert(seq);
          records.emplace_back();
          v1::Rejection* const rejection = ack->add_rejected();
          rejection->set_seq(seq);
          rejection->set_reason("the model says so");
        } else {
          records.emplace_back(record);
        }
      }
      ++seq;
    }
    ack->set_durable_seq(cursor());
    ack->set_credit_bytes(credit_bytes);
    reply->messages.push_back(std::move(message));
  }

  void CheckHeartbeat(const v1::Heartbeat& heartbeat) {
    if (heartbeat.steps_seen() != heartbeat.steps_recorded() +
                                      heartbeat.steps_skipped() +
                                      heartbeat.steps_lost()) {
      violations.push_back("the books of a heartbeat do not balance");
    }
  }

  // Where in the stream a record stands.
  struct Place {
    std::uint32_t branch = 0;
    bool any_step = false;
    std::int64_t last_step = 0;
  };

  static void Take(const std::string& record, Place* place,
                   StreamContents* contents) {
    const auto view = ParseRecord(record);
    if (!view.ok()) {
      contents->problems.push_back(view.status().ToString());
      return;
    }
    switch (view->kind) {
      case RecordKind::kSchema: {
        const auto schema = DecodeSchema(view->body);
        if (!schema.ok()) return Problem(schema.status(), contents);
        contents->schema_ids.push_back(schema->schema_id);
        return;
      }
      case RecordKind::kStep: {
        const auto step = StepView::Parse(view->body);
        if (!step.ok()) return Problem(step.status(), contents);
        if (place->any_step && step->step() <= place->last_step) {
          contents->problems.push_back("steps of a branch do not ascend");
        }
        place->any_step = true;
        place->last_step = step->step();
        if (step->skipped() != GapCause::kUnspecified) {
          contents->skipped.emplace_back(place->branch, step->step());
          ++contents->skipped_steps[step->skipped()];
          return;
        }
        if (contents->schema_ids.empty() ||
            contents->schema_ids.back() != step->schema_id()) {
          contents->problems.push_back("a step without its schema");
        }
        contents->recorded.emplace_back(place->branch, step->step());
        return;
      }
      case RecordKind::kGap: {
        const auto gap = DecodeGap(view->body);
        if (!gap.ok()) return Problem(gap.status(), contents);
        contents->gap_steps[gap->cause] += gap->steps;
        contents->gaps.emplace_back(place->branch, *gap);
        return;
      }
      case RecordKind::kRollback: {
        const auto rollback = DecodeRollback(view->body);
        if (!rollback.ok()) return Problem(rollback.status(), contents);
        // In place of a record that nobody has any more.
        if (rollback->branch <= place->branch) return;
        if (rollback->branch != place->branch + 1) {
          contents->problems.push_back("branches are not numbered 1, 2, ...");
        }
        place->branch = rollback->branch;
        place->any_step = false;
        return;
      }
      case RecordKind::kEnd: {
        const auto end = DecodeEnd(view->body);
        if (!end.ok()) return Problem(end.status(), contents);
        contents->end = *end;
        return;
      }
      case RecordKind::kPart:
        contents->problems.push_back("a part within a part");
        return;
      case RecordKind::kUnknown:
        ++contents->fillers;
        return;
    }
  }

  static void Problem(const absl::Status& status, StreamContents* contents) {
    contents->problems.push_back(status.ToString());
  }

  bool hello_seen_ = false;
  bool said_bye_ = false;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_MODEL_COLLECTOR_H_
