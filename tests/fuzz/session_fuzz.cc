// Peers of one stream that say what they like in any order, session after
// session: the collector's state machine, and what it lets through
// (server/ingest).

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "core/names.h"
#include "fuzz/fuzz.h"
#include "server/ingest/ingest_session.h"

namespace gradtap::fuzz {
namespace {

using server::IngestSession;
using server::SessionActions;
using server::StreamCommit;

// What a store keeps of a stream, and what it may expect of a commit.
class Kept {
 public:
  std::uint64_t durable_seq() const { return entry_.durable_seq; }

  server::OpenedStream Opened(const server::StreamHello& hello) {
    server::OpenedStream opened;
    opened.entry = entry_;
    opened.entry.id = 1;
    opened.entry.hello = hello;
    opened.schema = schema_;
    opened.scan_parts = [this](std::uint64_t begin, std::uint64_t end,
                               const auto& visit) {
      for (auto it = parts_.lower_bound(begin); it != parts_.end(); ++it) {
        if (it->first >= end || !visit(it->second)) break;
      }
      return absl::OkStatus();
    };
    if (parts_.empty()) return opened;
    server::KeptParts kept;
    for (const auto& [seq, body] : parts_) kept.Add(seq, body.size());
    opened.unfinished = server::FindUnfinished(kept, entry_.durable_seq,
                                               parts_.begin()->second);
    Require(opened.unfinished.parts == kept.parts,
            "an unfinished record is found again");
    return opened;
  }

  void Commit(const StreamCommit& commit) {
    Require(commit.first_seq == entry_.durable_seq + 1 &&
                commit.last_seq >= commit.first_seq,
            "commits follow each other without a hole");
    Require(!entry_.end.has_value() || IsBare(commit),
            "nothing comes after an End");
    for (const auto& added : commit.new_branches) {
      Require(
          added.branch == entry_.branches.size() && added.rollback_step >= 0,
          "branches follow each other");
      entry_.branches.emplace_back().branch = added.branch;
    }
    KeepSchemas(commit);
    KeepRows(commit);
    KeepParts(commit);
    entry_.durable_seq = commit.last_seq;
    if (commit.end.has_value()) entry_.end = commit.end;
  }

 private:
  static bool IsBare(const StreamCommit& commit) {
    return commit.schemas.empty() && commit.steps.empty() &&
           commit.gaps.empty() && commit.new_branches.empty() && !commit.end;
  }

  void KeepSchemas(const StreamCommit& commit) {
    for (const auto& schema : commit.schemas) {
      auto read = DecodeSchema(schema.body);
      Require(read.ok(), "a schema that is stored can be read");
      Require(schema.schema_id > entry_.schema_id &&
                  schema.schema_id == read->schema_id,
              "schemas rise");
      entry_.schema_id = schema.schema_id;
      schema_ = std::make_shared<const Schema>(*std::move(read));
    }
  }

  void KeepRows(const StreamCommit& commit) {
    std::map<std::uint32_t, std::int64_t> last;
    for (const auto& step : commit.steps) {
      const auto read = StepView::Parse(step.body);
      Require(read.ok() && read->step() == step.step && !read->has_histograms(),
              "a step that is stored can be read");
      for (const HistogramBlock& block : step.histograms) {
        Require(DecodeHistogramBlock(block.body).ok(), "so can its histograms");
      }
      Require(step.branch < entry_.branches.size(), "a step has a branch");
      const auto [at, first] =
          last.emplace(step.branch, entry_.branches[step.branch].last_step);
      Require(step.step > at->second, "a branch's steps rise");
      at->second = step.step;
    }
    for (const auto& gap : commit.gaps) {
      Require(gap.branch < entry_.branches.size(), "a gap has a branch");
      Require(
          gap.gap.first_step >= 0 && gap.gap.last_step >= gap.gap.first_step,
          "a gap has steps");
      std::int64_t& end = last[gap.branch];
      end = std::max(end, gap.gap.last_step);
    }
    for (const auto& [branch, step] : last) {
      std::int64_t& end = entry_.branches[branch].last_step;
      end = std::max(end, step);
    }
  }

  void KeepParts(const StreamCommit& commit) {
    if (commit.drop_parts) parts_.clear();
    for (const auto& part : commit.parts) {
      Require(part.seq >= commit.first_seq && part.seq <= commit.last_seq,
              "a part is one of its commit's records");
      Require(parts_.empty() || part.seq == parts_.rbegin()->first + 1,
              "parts follow each other");
      parts_.emplace(part.seq, part.data);
    }
  }

  server::StreamEntry entry_ = [] {
    server::StreamEntry entry;
    entry.branches.emplace_back();
    return entry;
  }();
  std::shared_ptr<const Schema> schema_;
  std::map<std::uint64_t, std::string> parts_;
};

// What a driver does.
class Driver {
 public:
  void Play(std::string_view input) {
    Taker taker(input);
    for (int i = 0; i < 64 && !taker.empty(); ++i) {
      now_ += std::chrono::milliseconds(taker.Number<std::uint8_t>() * 100);
      if (session_->finished()) Begin();
      Obey(Say(taker));
      Require(!session_->wants_read() || pending_.empty() ||
                  session_->pending_bytes() < Limits().credit_bytes,
              "what is not stored yet is bounded");
    }
    if (!session_->finished()) Obey(session_->OnHalfClose());
    while (!pending_.empty()) Answer(absl::OkStatus());
    if (!session_->finished()) Obey(session_->OnGone());
    Require(session_->finished(), "a session whose peer has gone ends");
  }

 private:
  enum Message : std::uint8_t {
    kHello,
    kBatch,
    kRawBatch,
    kHeartbeat,
    kBye,
    kUnknown,
    kHalfClose,
    kDrain,
    kTick,
    kGone,
    // The store's.
    kWait,  // From now on its answers come when told, or at once again.
    kAnswer,
    kFail,
    kRefuse,  // The next stream.
    kMessages
  };

  static server::IngestLimits Limits() {
    server::IngestLimits limits;
    limits.max_parameters = 20;
    limits.max_name_bytes = 100;
    limits.max_schema_bytes = 1 << 11;
    limits.max_step_bytes = 1 << 12;
    limits.max_batch_bytes = 1 << 14;
    limits.credit_bytes = 1 << 14;
    return limits;
  }

  // What had not been stored when the session before ended is lost, as if the
  // collector had been killed.
  void Begin() {
    pending_.clear();
    session_.emplace(Limits(), now_);
    opened_ = false;
    handed_ = kept_.durable_seq();
  }

  SessionActions Say(Taker& taker) {
    switch (taker.Number<std::uint8_t>() % kMessages) {
      case kHello:
        return session_->OnHello(TakeHello(taker), now_);
      case kBatch:
        return SayBatch(taker);
      case kRawBatch: {
        const auto first = taker.Number<std::uint64_t>();
        const auto count = taker.Number<std::uint32_t>();
        NoteSent(first, count);
        return session_->OnBatch(first, count, taker.Text(), 1, now_);
      }
      case kHeartbeat:
        return session_->OnHeartbeat(now_);
      case kBye:
        return session_->OnBye(now_);
      case kUnknown:
        return session_->OnUnknownMessage(now_);
      case kHalfClose:
        return session_->OnHalfClose();
      case kDrain:
        return session_->OnDrain();
      case kTick:
        return session_->OnTick(now_);
      case kWait:
        waits_ = !waits_;
        break;
      case kAnswer:
        if (!pending_.empty()) Answer(absl::OkStatus());
        break;
      case kFail:
        if (!pending_.empty()) {
          Answer(taker.Number<std::uint8_t>() % 2 == 0
                     ? absl::NotFoundError("deleted")
                     : absl::ResourceExhaustedError("full"));
        }
        break;
      case kRefuse:
        refuses_ = true;
        break;
      default:
        return session_->OnGone();
    }
    return {};
  }

  // Records, each changed on its own and then compressed.
  SessionActions SayBatch(Taker& taker) {
    const auto first = taker.Number<std::uint8_t>();
    const auto count = taker.Number<std::uint8_t>();
    std::string list;
    for (int i = 0; i < count % 8; ++i) {
      AppendToRecordList(taker.Text(), &list);
    }
    NoteSent(first, count % 8);
    return session_->OnBatch(first, count % 8, CompressFrame(list), 1, now_);
  }

  // A batch of records `first`.. may be accepted up to its last, no further.
  void NoteSent(std::uint64_t first, std::uint32_t count) {
    if (count == 0 || first > ~std::uint64_t{count}) return;
    sent_ = std::max(sent_, first + count - 1);
  }

  static server::HelloUntrusted TakeHello(Taker& taker) {
    server::HelloUntrusted hello;
    hello.protocol_version = taker.Number<std::uint8_t>();
    hello.rank = taker.Number<std::uint32_t>();
    hello.world_size = taker.Number<std::uint32_t>();
    hello.start_time_unix_ns = taker.Number<std::int64_t>();
    hello.pid = taker.Number<std::int64_t>();
    hello.run = taker.Text();
    hello.launch = taker.Text();
    hello.process_nonce = taker.Text();
    hello.agent_version = taker.Text();
    hello.torch_version = taker.Text();
    hello.host = taker.Text();
    const int tags = taker.Number<std::uint8_t>() % 70;
    for (int i = 0; i < tags; ++i) {
      std::string key(taker.Text());
      hello.tags.emplace_back(std::move(key), taker.Text());
    }
    return hello;
  }

  void Obey(SessionActions actions) {
    if (actions.open.has_value()) Open(*actions.open);
    if (actions.commit != nullptr) {
      const StreamCommit& commit = actions.commit->commit;
      Require(opened_ && commit.first_seq == handed_ + 1,
              "what is handed over follows what was");
      Require(commit.last_seq <= sent_, "nothing is stored that was not sent");
      for (const auto& rejected : actions.commit->rejected) {
        Require(rejected.seq <= commit.last_seq &&
                    rejected.reason.size() <= 512 &&
                    IsValidUtf8(rejected.reason),
                "a reason is short text");
      }
      handed_ = commit.last_seq;
      pending_.push_back(std::move(actions.commit));
      if (!waits_) {
        while (!pending_.empty()) Answer(absl::OkStatus());
      }
    }
    for (const server::SessionOut& out : actions.send) {
      if (const auto* ack = std::get_if<server::AckOut>(&out)) {
        Require(ack->durable_seq <= kept_.durable_seq(),
                "only what is stored is said so");
      }
    }
    if (actions.finish.has_value()) {
      Require(session_->finished(), "a call that ends has ended");
    }
  }

  void Open(const server::StreamHello& hello) {
    Require(!opened_, "a session opens one stream");
    if (std::exchange(refuses_, false)) {
      Obey(session_->OnRefused(server::RejectCode::kDuplicate, "connected"));
      return;
    }
    opened_ = true;
    Obey(session_->OnOpened(kept_.Opened(hello), now_));
  }

  // The store's answer to the oldest commit. One that failed is followed by no
  // other: they would leave a hole.
  void Answer(const absl::Status& status) {
    const auto batch = std::move(pending_.front());
    pending_.pop_front();
    if (status.ok()) {
      kept_.Commit(batch->commit);
    } else {
      pending_.clear();
    }
    const std::size_t bytes = server::BytesHeld(*batch);
    Obey(session_->OnCommitted(batch->commit.last_seq, bytes,
                               std::move(batch->rejected), status, now_));
  }

  IngestSession::TimePoint now_{};
  std::optional<IngestSession> session_{std::in_place, Limits(), now_};
  Kept kept_;
  std::deque<std::unique_ptr<server::ValidatedBatch>> pending_;
  bool waits_ = false;
  bool refuses_ = false;
  bool opened_ = false;
  std::uint64_t handed_ = 0;  // Up to this seq, to the store.
  std::uint64_t sent_ = 0;
};

void PutHello(std::string* to) {
  PutNumber<std::uint8_t>(0, to);  // No time has passed.
  PutNumber<std::uint8_t>(0, to);  // kHello.
  PutNumber<std::uint8_t>(1, to);
  PutNumber<std::uint32_t>(0, to);
  PutNumber<std::uint32_t>(1, to);
  PutNumber<std::int64_t>(std::int64_t{1700000000} * 1'000'000'000, to);
  PutNumber<std::int64_t>(42, to);
  PutText("run", to);
  PutText("launch", to);
  PutText("0123456789abcdef", to);
  for (const char* text : {"0.1", "1.13.1", "host"}) PutText(text, to);
  PutNumber<std::uint8_t>(1, to);
  PutText("key", to);
  PutText("value", to);
}

void PutBatch(std::uint8_t first, const std::vector<std::string>& records,
              std::string* to) {
  PutNumber<std::uint8_t>(0, to);
  PutNumber<std::uint8_t>(1, to);  // kBatch.
  PutNumber<std::uint8_t>(first, to);
  PutNumber<std::uint8_t>(static_cast<std::uint8_t>(records.size()), to);
  for (const std::string& record : records) PutText(record, to);
}

// Any message without a content: time, then its kind.
void PutMessage(std::uint8_t kind, std::string* to) {
  PutNumber<std::uint8_t>(0, to);
  PutNumber<std::uint8_t>(kind, to);
}

// A step as the sample's schema has it, histograms included.
std::string StepOfSchema(const Schema& schema, std::int64_t number) {
  std::mt19937_64 random(static_cast<std::uint64_t>(number));
  StepData step;
  step.step = number;
  step.schema_id = schema.schema_id;
  step.scalars.push_back({"loss", 0.5});
  for (const Role role :
       {Role::kWeight, Role::kGrad, Role::kUpdate, Role::kBuffer}) {
    const auto places = std::count_if(
        schema.parameters.begin(), schema.parameters.end(),
        [role](const Parameter& one) { return one.HasRole(role); });
    step.roles.push_back(
        testing::SampleColumns(role, static_cast<std::size_t>(places), random));
  }
  HistogramData histogram;
  histogram.role = Role::kGrad;
  histogram.bin = {9, 10};
  histogram.count = {1, 1000};
  step.histograms.push_back(histogram);
  return testing::Encoded(step);
}

void PutRawBatch(std::uint64_t first, std::uint32_t count,
                 std::string_view frame, std::string* to) {
  PutMessage(2, to);  // kRawBatch.
  PutNumber(first, to);
  PutNumber(count, to);
  PutText(frame, to);
}

// What is refused, record by record; then what ends a session.
void AddRejected(std::vector<std::string>* seeds) {
  const auto add = [seeds](const std::vector<std::string>& records) {
    std::string input;
    PutHello(&input);
    PutBatch(1, records, &input);
    seeds->push_back(input);
  };
  Schema schema = testing::SampleSchema();
  add({EncodeSchema(schema), EncodeSchema(schema), StepOfSchema(schema, -1),
       EncodeGap({GapCause::kLoop, -5, -1, 1, ""}), EncodeRollback({-1, 1}),
       EncodeRollback({5, 7})});
  const Parameter first = schema.parameters[0];
  schema.parameters.resize(21, first);
  add({EncodeSchema(schema)});
  schema.parameters.resize(1);
  schema.parameters[0].aliases = {std::string(101, 'a')};
  add({EncodeSchema(schema)});
  schema.parameters[0].aliases.assign(10, std::string(300, 'a'));
  add({EncodeSchema(schema)});
  StepData step;
  for (int i = 0; i < 300; ++i) {
    step.scalars.push_back({std::string(20, 'x') + std::to_string(i), 1});
  }
  add({testing::Encoded(step)});
  const std::string part = EncodePartHead(0, 1, 1) + "x";
  add({EncodePartHead(0, 1, part.size()) + part, "",
       EncodePartHead(0, 2, 4000) + std::string(4000, 'x'),
       EncodePartHead(1, 2, 4000) + std::string(4000, 'x')});
  const std::string list(20'000, 'x');
  const std::string frames[] = {list, CompressFrame(list),
                                CompressFrame("\x7f"), CompressFrame("")};
  for (const std::string& frame : frames) {
    std::string input;
    PutHello(&input);
    PutRawBatch(1, 2, frame, &input);
    seeds->push_back(input);
  }
}

}  // namespace

void Try(std::string_view input) { Driver().Play(input); }

std::vector<std::string> Seeds() {
  const Schema sample = testing::SampleSchema();
  const std::string schema = EncodeSchema(sample);
  const std::string record = StepOfSchema(sample, 5);
  std::string whole;
  PutHello(&whole);
  PutBatch(1, {schema, record}, &whole);
  PutBatch(3,
           {EncodeGap({GapCause::kLoop, 6, 9, 4, "why"}),
            EncodeRollback({5, 1}), record},
           &whole);
  PutBatch(3, {record}, &whole);  // Again.
  PutBatch(6, {EncodeEnd({})}, &whole);
  const std::size_t size = schema.size() / 4 + 1;
  const auto part = [&](std::uint32_t i) {
    const std::string data = schema.substr(i * size, size);
    return EncodePartHead(i, 4, data.size()) + data;
  };
  std::string parts;  // In the store, under way, in the batch.
  PutHello(&parts);
  PutBatch(1, {part(0)}, &parts);
  PutMessage(6, &parts);  // kHalfClose.
  PutHello(&parts);
  PutBatch(2, {part(1)}, &parts);
  PutMessage(10, &parts);  // kWait.
  PutBatch(3, {part(2)}, &parts);
  PutBatch(4, {part(3), record}, &parts);
  std::string late;  // Answers.
  PutHello(&late);
  PutMessage(10, &late);  // kWait.
  PutBatch(1, {schema}, &late);
  PutBatch(2, {record}, &late);
  PutMessage(11, &late);  // kAnswer.
  PutMessage(7, &late);   // kDrain.
  PutMessage(12, &late);  // kFail.
  PutNumber<std::uint8_t>(0, &late);
  PutMessage(13, &late);  // kRefuse.
  PutHello(&late);
  std::vector<std::string> seeds = {whole, parts, late};
  AddRejected(&seeds);
  return seeds;
}

}  // namespace gradtap::fuzz
