#include "server/limits/answer_room.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"

namespace gradtap::server {
namespace {

constexpr char kPayload[] = "gradtap/answer-room";

thread_local HeldAnswer* current = nullptr;

}  // namespace

bool IsForWantOfRoom(const absl::Status& status) {
  return status.GetPayload(kPayload).has_value();
}

std::size_t AnswerRoom::taken() const {
  MutexLock lock(mu_);
  return taken_;
}

bool AnswerRoom::Take(HeldAnswer* answer, std::size_t bytes) {
  MutexLock lock(mu_);
  if (larger_ == answer) return true;
  std::size_t& of_client = of_client_[answer->client_];
  if (taken_ + bytes <= caps_.bytes && of_client + bytes <= caps_.of_a_client) {
    taken_ += bytes;
    of_client += bytes;
    return true;
  }
  const bool is_the_one = larger_ == nullptr;
  if (is_the_one) {
    larger_ = answer;
    taken_ -= answer->bytes_;
    of_client -= answer->bytes_;
  } else if (refused_ != nullptr && !answer->refused_) {
    refused_->Refused(Limit::kAnswerBytes);
  }
  if (of_client == 0) of_client_.erase(answer->client_);
  return is_the_one;
}

void AnswerRoom::GiveBack(HeldAnswer* answer, std::size_t bytes) {
  MutexLock lock(mu_);
  if (larger_ == answer) {
    if (bytes == answer->bytes_) larger_ = nullptr;
    return;
  }
  taken_ -= bytes;
  const auto of = of_client_.find(answer->client_);
  if ((of->second -= bytes) == 0) of_client_.erase(of);
}

absl::Status HeldAnswer::Grow(std::size_t bytes) {
  if (bytes == 0 || room_ == nullptr || room_->Take(this, bytes)) {
    bytes_ += bytes;
    return absl::OkStatus();
  }
  refused_ = true;
  absl::Status status = absl::ResourceExhaustedError(
      "too many large answers are under way; try again, or ask for less "
      "(--steps A:B, --points N, --match)");
  status.SetPayload(kPayload, absl::Cord());
  return status;
}

void HeldAnswer::Shrink(std::size_t bytes) {
  if (bytes == 0) return;
  if (room_ != nullptr) room_->GiveBack(this, bytes);
  bytes_ -= bytes;
}

MakingAnswer::MakingAnswer(HeldAnswer* answer)
    : before_(std::exchange(current, answer)) {}

MakingAnswer::~MakingAnswer() { current = before_; }

HeldAnswer* MakingAnswer::Current() { return current; }

absl::Status AnswerWork::Reach(std::size_t bytes) {
  constexpr std::size_t kAtATime = std::size_t{1} << 20;
  if (answer_ == nullptr || bytes <= std::max(bytes_, kSmallAnswer)) {
    return absl::OkStatus();
  }
  const std::size_t wanted = (bytes + kAtATime - 1) / kAtATime * kAtATime;
  absl::Status status = answer_->Grow(wanted - bytes_);
  if (status.ok()) bytes_ = wanted;
  return status;
}

}  // namespace gradtap::server
