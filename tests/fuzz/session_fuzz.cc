// A peer that says what it likes in any order: the collector's state machine of
// one session, and what it lets through (server/ingest).

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "fuzz/fuzz.h"
#include "server/ingest/ingest_session.h"

namespace gradtap::fuzz {
namespace {

using server::IngestSession;
using server::SessionActions;

// What a driver does, with a store that takes everything.
class Driver {
 public:
  Driver() : session_(Limits(), now_) {}

  void Play(std::string_view input) {
    Taker taker(input);
    for (int i = 0; i < 64 && !taker.empty() && !session_.finished(); ++i) {
      now_ += std::chrono::milliseconds(taker.Number<std::uint8_t>() * 100);
      Obey(Say(taker));
    }
    if (!session_.finished()) Obey(session_.OnHalfClose());
    if (!session_.finished()) Obey(session_.OnGone());
    Require(session_.finished(), "a session whose peer has gone ends");
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
    kMessages
  };

  static server::IngestLimits Limits() {
    server::IngestLimits limits;
    limits.max_parameters = 1000;
    limits.max_schema_bytes = 1 << 16;
    limits.max_step_bytes = 1 << 16;
    limits.max_batch_bytes = 1 << 16;
    limits.credit_bytes = 1 << 16;
    return limits;
  }

  SessionActions Say(Taker& taker) {
    switch (taker.Number<std::uint8_t>() % kMessages) {
      case kHello:
        return session_.OnHello(TakeHello(taker), now_);
      case kBatch: {
        const auto first = taker.Number<std::uint8_t>();
        const auto count = taker.Number<std::uint8_t>();
        std::string list;
        for (int i = 0; i < count % 8; ++i) {
          AppendToRecordList(taker.Text(), &list);
        }
        const std::string frame = CompressFrame(list);
        NoteSent(first, count % 8);
        return session_.OnBatch(first, count % 8, frame, 1, now_);
      }
      case kRawBatch: {
        const auto first = taker.Number<std::uint64_t>();
        const auto count = taker.Number<std::uint32_t>();
        NoteSent(first, count);
        return session_.OnBatch(first, count, taker.Text(), 1, now_);
      }
      case kHeartbeat:
        return session_.OnHeartbeat(now_);
      case kBye:
        return session_.OnBye(now_);
      case kUnknown:
        return session_.OnUnknownMessage(now_);
      case kHalfClose:
        return session_.OnHalfClose();
      case kDrain:
        return session_.OnDrain();
      case kTick:
        return session_.OnTick(now_);
      default:
        return session_.OnGone();
    }
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
    const int tags = taker.Number<std::uint8_t>() % 4;
    for (int i = 0; i < tags; ++i) {
      std::string key(taker.Text());
      hello.tags.emplace_back(std::move(key), taker.Text());
    }
    return hello;
  }

  void Obey(SessionActions actions) {
    if (actions.open.has_value()) {
      Require(!opened_, "a session opens one stream");
      opened_ = true;
      server::OpenedStream stream;
      stream.entry.id = 1;
      stream.entry.hello = *actions.open;
      stream.entry.branches.push_back({});
      Obey(session_.OnOpened(stream, now_));
    }
    if (actions.commit != nullptr) {
      const server::StreamCommit& commit = actions.commit->commit;
      Require(opened_ && commit.first_seq == last_seq_ + 1 &&
                  commit.last_seq >= commit.first_seq,
              "commits follow each other without a hole");
      Require(commit.last_seq <= sent_, "nothing is stored that was not sent");
      for (const auto& step : commit.steps) {
        Require(StepView::Parse(step.body).ok(), "what is stored can be read");
      }
      for (const auto& schema : commit.schemas) {
        Require(DecodeSchema(schema.body).ok(), "so can a schema");
      }
      last_seq_ = commit.last_seq;
      const std::size_t bytes = server::BytesHeld(*actions.commit);
      Obey(session_.OnCommitted(last_seq_, bytes,
                                std::move(actions.commit->rejected),
                                absl::OkStatus(), now_));
    }
    for (const server::SessionOut& out : actions.send) {
      if (const auto* ack = std::get_if<server::AckOut>(&out)) {
        Require(ack->durable_seq <= last_seq_,
                "only what is stored is said so");
      }
    }
    if (actions.finish.has_value()) {
      Require(session_.finished(), "a call that ends has ended");
    }
  }

  IngestSession::TimePoint now_{};
  IngestSession session_;
  bool opened_ = false;
  std::uint64_t last_seq_ = 0;
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

}  // namespace

void Try(std::string_view input) { Driver().Play(input); }

std::vector<std::string> Seeds() {
  std::mt19937_64 random(1);
  const std::string schema = EncodeSchema(testing::SampleSchema());
  StepData step = testing::SampleStep(random);
  step.schema_id = testing::SampleSchema().schema_id;
  const std::string record = testing::Encoded(step);
  std::string whole;
  PutHello(&whole);
  PutBatch(1, {schema, record}, &whole);
  PutBatch(3, {EncodeGap({}), EncodeRollback({}), record}, &whole);
  PutBatch(3, {record}, &whole);  // Again.
  PutBatch(6, {EncodeEnd({})}, &whole);
  std::string parts;
  PutHello(&parts);
  const std::size_t half = schema.size() / 2;
  PutBatch(1,
           {EncodePartHead(0, 2, half) + schema.substr(0, half),
            EncodePartHead(1, 2, schema.size() - half) + schema.substr(half)},
           &parts);
  return {whole, parts};
}

}  // namespace gradtap::fuzz
