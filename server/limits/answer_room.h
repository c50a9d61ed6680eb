// The room for large answers, of both doors: what they take while they are made
// and until they have been sent.
//
// Small ones are not asked about. A large one asks as it grows, and is refused
// when there is no room for it: nobody's answer is given up for it. One client
// has three quarters of the room at most, so that whoever does not read what
// was asked for does not keep others out. One answer at a time may be larger
// than the room: what a query may answer at all is QueryLimits' to say.
//
// Layer: server/limits. This file: std, absl, core.

#ifndef GRADTAP_SERVER_LIMITS_ANSWER_ROOM_H_
#define GRADTAP_SERVER_LIMITS_ANSWER_ROOM_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/sync.h"
#include "server/limits/limit_counters.h"

namespace gradtap::server {

class HeldAnswer;

// A refusal for want of that room: it is counted already.
bool IsForWantOfRoom(const absl::Status& status);

// Up to here an answer asks for no room: what does so more often takes longer,
// and of so small ones there are not many at a time.
inline constexpr std::size_t kSmallAnswer = std::size_t{256} << 10;

struct AnswerCaps {
  std::size_t bytes = std::size_t{64} << 20;
  std::size_t of_a_client = std::size_t{48} << 20;
};

// Thread-safe. Must outlive its answers.
class AnswerRoom {
 public:
  // `refused` must outlive it; null: nobody counts.
  explicit AnswerRoom(LimitCounters* refused = nullptr,
                      const AnswerCaps& caps = {})
      : caps_(caps), refused_(refused) {}

  // What is taken, but for the answer that is larger than the room.
  std::size_t taken() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class HeldAnswer;

  bool Take(HeldAnswer* answer, std::size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void GiveBack(HeldAnswer* answer, std::size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);

  const AnswerCaps caps_;
  LimitCounters* const refused_;
  mutable Mutex mu_;
  std::size_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::size_t> of_client_ ABSL_GUARDED_BY(mu_);
  // That which is larger than the room; what it has does not count.
  const HeldAnswer* larger_ ABSL_GUARDED_BY(mu_) = nullptr;
};

// What one answer takes of the room; all of it until it is destroyed. By one
// thread at a time.
class HeldAnswer {
 public:
  // Whose it is: a token's or an address's. `room` may be null: there is room
  // for everything.
  HeldAnswer(AnswerRoom* room, std::string client)
      : room_(room), client_(std::move(client)) {}
  ~HeldAnswer() { Shrink(bytes_); }
  HeldAnswer(const HeldAnswer&) = delete;
  HeldAnswer& operator=(const HeldAnswer&) = delete;

  // kResourceExhausted, IsForWantOfRoom(), if there is no room for so many
  // more, which is counted once; what it had it still has.
  absl::Status Grow(std::size_t bytes);
  // At most what it has.
  void Shrink(std::size_t bytes);

  std::size_t bytes() const { return bytes_; }

 private:
  friend class AnswerRoom;
  AnswerRoom* const room_;
  const std::string client_;
  std::size_t bytes_ = 0;
  bool refused_ = false;
};

// While this is there its thread makes that answer.
class MakingAnswer {
 public:
  explicit MakingAnswer(HeldAnswer* answer);
  ~MakingAnswer();
  MakingAnswer(const MakingAnswer&) = delete;
  MakingAnswer& operator=(const MakingAnswer&) = delete;

  // That which this thread makes; null: it makes none that anybody counts.
  static HeldAnswer* Current();

 private:
  HeldAnswer* const before_;
};

// What is worked on until an answer is made: of the answer that the thread
// makes, and given back with this.
class AnswerWork {
 public:
  AnswerWork() : answer_(MakingAnswer::Current()) {}
  ~AnswerWork() {
    if (answer_ != nullptr) answer_->Shrink(bytes_);
  }
  AnswerWork(const AnswerWork&) = delete;
  AnswerWork& operator=(const AnswerWork&) = delete;

  // So much in all by now, if that is more than before; asks for a MiB at a
  // time. Errors as Grow().
  absl::Status Reach(std::size_t bytes);

 private:
  HeldAnswer* const answer_;
  std::size_t bytes_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_ANSWER_ROOM_H_
