// What an input of collector_message_fuzz.cc is made of, and inputs to begin
// with: honest collectors, liars, and such that forget.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_FUZZ_COLLECTOR_MESSAGE_SEEDS_H_
#define GRADTAP_TESTS_FUZZ_COLLECTOR_MESSAGE_SEEDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "fuzz/fuzz.h"
#include "gradtap/v1/telemetry.pb.h"

namespace gradtap::fuzz {

// Options of a session, bits of an input's first byte.
enum Flag : std::uint8_t {
  kLeftovers = 1,
  kNoFilling = 2,
  kDeclareHoles = 4,
  kWithoutSchema = 8,
  kStored = 16,     // Not compressed.
  kLargeRing = 32,  // For thousands of records, which take their time.
};

enum Event : std::uint8_t {
  kPut,
  kBytes,
  kWelcome,
  kAck,
  kReject,
  kClosed,
  kWait,  // From now on the network answers when told, or at once again.
  kSent,
  kDrain,
  kHurry,
  kEvents
};

inline void PutEvent(Event event, std::string* to) {
  PutNumber<std::uint8_t>(0, to);  // No time has passed.
  PutNumber<std::uint8_t>(event, to);
}

inline void PutSome(std::uint8_t count, std::uint8_t kind, std::string* to) {
  PutEvent(kPut, to);
  PutNumber<std::uint8_t>(static_cast<std::uint8_t>(count - 1), to);
  PutNumber<std::uint8_t>(kind, to);
}

inline void PutSeq(std::uint64_t seq, std::string* to) {
  PutNumber<std::uint8_t>(0, to);
  PutNumber(seq, to);
}

inline void PutCount(std::uint64_t count, std::string* to) {
  PutNumber<std::uint8_t>(2, to);
  PutNumber(count, to);
}

inline void PutWelcome(std::uint64_t next_seq, std::uint64_t credit,
                       std::string* to, std::uint32_t max_batch = 2u << 20) {
  PutEvent(kWelcome, to);
  PutSeq(next_seq, to);
  PutCount(credit, to);
  PutNumber(max_batch, to);
}

struct Refusal {
  std::uint64_t seq = 0;
  std::uint64_t count = 0;
};
inline void PutAck(std::uint64_t durable, std::uint64_t credit,
                   const std::vector<Refusal>& refused, std::string* to) {
  PutEvent(kAck, to);
  PutSeq(durable, to);
  PutCount(credit, to);
  PutNumber(static_cast<std::uint8_t>(refused.size()), to);
  for (const Refusal& refusal : refused) {
    PutSeq(refusal.seq, to);
    PutCount(refusal.count, to);
    PutText("bad\x1b[31m", to);
  }
}

inline void PutClosed(absl::StatusCode code, std::string* to) {
  PutEvent(kClosed, to);
  PutNumber(static_cast<std::uint8_t>(code), to);
  PutText("gone", to);
  PutNumber<std::uint8_t>(255, to);  // 25 s later, which is past a backoff.
  PutNumber<std::uint8_t>(kHurry, to);
  PutNumber<std::uint8_t>(0, to);
}

// A schema, three steps, one in parts, a gap, a rollback and a step; all sent.
inline std::string Begun(std::uint8_t flags, std::uint64_t credit = 1u << 20) {
  std::string input;
  PutNumber(flags, &input);
  PutNumber<std::uint8_t>(0, &input);  // Nothing was delivered before.
  PutSome(1, 0, &input);
  PutSome(3, 7, &input);
  PutSome(1, 15, &input);
  PutSome(1, 1, &input);
  PutSome(1, 2, &input);
  PutSome(1, 7, &input);
  PutWelcome(1, credit, &input);
  return input;
}

// Many refusals of the same many records, in bytes.
inline std::string Overlapping() {
  v1::CollectorMessage message;
  message.mutable_ack()->set_durable_seq(2000);
  for (int i = 0; i < 7000; ++i) {
    v1::Rejection* const rejection = message.mutable_ack()->add_rejected();
    rejection->set_seq(1);
    rejection->set_count(2000);
  }
  std::string input;
  PutNumber<std::uint8_t>(kLargeRing, &input);
  PutNumber<std::uint8_t>(0, &input);
  PutSome(1, 0, &input);
  for (int i = 0; i < 8; ++i) PutSome(250, 4, &input);
  PutWelcome(1, ~std::uint64_t{0}, &input);
  PutEvent(kBytes, &input);
  PutText(message.SerializeAsString(), &input);
  return input;
}

inline std::vector<std::string> Liars() {
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  std::vector<std::string> seeds;
  const auto add = [&seeds](std::uint64_t durable, std::uint64_t credit,
                            const std::vector<Refusal>& refused = {}) {
    std::string input = Begun(0);
    PutAck(3, 0, {}, &input);
    PutAck(durable, credit, refused, &input);
    PutSome(2, 7, &input);
    PutAck(10, 1000, {{4, 1}, {11, 1}}, &input);
    seeds.push_back(input);
  };
  add(2, 1);       // Behind.
  add(10, 0);      // All.
  add(11, kMost);  // Beyond.
  add(kMost, kMost);
  add(5, 1000, {{6, 1}, {0, kMost}, {kMost, kMost}, {2, 0}});
  add(7, 1000, {{5, 1}});  // A part.
  for (const std::uint64_t next :
       {std::uint64_t{0}, std::uint64_t{11}, std::uint64_t{12}, kMost}) {
    std::string input = Begun(0);
    PutClosed(absl::StatusCode::kUnavailable, &input);
    PutWelcome(next, 1, &input, 1);
    seeds.push_back(input);
    input[0] = kLeftovers;
    seeds.push_back(input);
  }
  return seeds;
}

inline std::vector<std::string> CollectorMessageSeeds() {
  std::vector<std::string> seeds = Liars();
  seeds.push_back(Overlapping());
  for (const std::uint8_t flags :
       {0, kLeftovers | kDeclareHoles | kStored, kLeftovers | kNoFilling}) {
    std::string input =
        Begun(flags);  // One that forgets, and one that deletes.
    PutAck(10, 1u << 20, {{2, 2}, {8, 1}}, &input);
    PutClosed(absl::StatusCode::kAborted, &input);
    PutWelcome(1, 1u << 20, &input);
    PutEvent(kDrain, &input);
    PutAck(10, 0, {}, &input);
    input[1] = flags == 0 ? 0 : 2;  // Then the first two were gone before.
    seeds.push_back(input);
  }
  std::string restored;  // From a copy of before, when the session had begun.
  PutNumber<std::uint8_t>(kLeftovers | kDeclareHoles, &restored);
  PutNumber<std::uint8_t>(4, &restored);  // So many had been delivered before.
  for (const std::uint8_t kind : {0, 7, 7, 7}) PutNumber(kind, &restored);
  PutSome(4, 7, &restored);
  PutWelcome(5, 1u << 20, &restored);
  PutAck(6, 1u << 20, {}, &restored);
  PutClosed(absl::StatusCode::kUnavailable, &restored);
  PutWelcome(2, 1u << 20, &restored);
  seeds.push_back(restored);
  std::string given_up;
  PutNumber<std::uint8_t>(kLeftovers | kWithoutSchema, &given_up);
  PutNumber<std::uint8_t>(0, &given_up);
  PutSome(2, 7, &given_up);
  PutSome(2, 15, &given_up);
  PutSome(1, 0, &given_up);
  PutWelcome(1, 1u << 20, &given_up);
  PutAck(9, 1, {}, &given_up);
  seeds.push_back(given_up);
  std::string refused = Begun(0);
  PutEvent(kReject, &refused);
  PutNumber<std::uint8_t>(6, &refused);
  PutNumber<std::uint8_t>(1, &refused);
  PutText("full", &refused);
  seeds.push_back(refused);
  std::string waits = Begun(0);
  PutEvent(kWait, &waits);
  PutSome(1, 7, &waits);
  PutEvent(kSent, &waits);
  PutEvent(kBytes, &waits);
  PutText("\x1a\x02\x08\x03", &waits);
  PutEvent(kBytes, &waits);
  PutText("\x1a\xff", &waits);
  seeds.push_back(waits);
  return seeds;
}

}  // namespace gradtap::fuzz

#endif  // GRADTAP_TESTS_FUZZ_COLLECTOR_MESSAGE_SEEDS_H_
