#include "agent/delivery/spiller.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::agent {
namespace {

// So that the thread looks at its other duties in between.
constexpr std::size_t kAtOnceBytes = 1u << 20;
constexpr std::chrono::seconds kRetry{5};

}  // namespace

Spiller::Spiller(Ring* ring, Backlog* backlog, Books* books, OnceLog* log,
                 const Clock* clock, MakeSpool make_spool)
    : ring_(ring),
      backlog_(backlog),
      books_(books),
      log_(log),
      clock_(clock),
      make_spool_(std::move(make_spool)) {}

std::size_t Spiller::Used() const {
  return ring_->BytesFrom(ring_->first_seq());
}

bool Spiller::Relieve() {
  if (Used() > ring_->capacity_bytes() / 4) relieving_ = true;
  if (!relieving_) return false;
  relieving_ = Move(ring_->capacity_bytes() / 8);
  return relieving_;
}

bool Spiller::MoveSome() { return Move(0); }

bool Spiller::Move(std::size_t keep_bytes) {
  const std::size_t used = Used();
  if (!has_spool() || used <= keep_bytes || clock_->Steady() < retry_at_) {
    return false;
  }
  absl::Status status = Ready();
  if (status.ok()) {
    status = backlog_->Spill(
        std::max(keep_bytes, used - std::min(used, kAtOnceBytes)));
  }
  Tell(status);
  if (!status.ok()) retry_at_ = clock_->Steady() + kRetry;
  return status.ok() && Used() > keep_bytes;
}

bool Spiller::MoveAll() {
  if (!has_spool()) return false;
  absl::Status status = Used() == 0 ? absl::OkStatus() : Ready();
  if (status.ok() && Used() != 0) status = backlog_->Spill(0);
  if (status.ok()) status = backlog_->Sync();
  Tell(status);
  return Used() == 0;
}

absl::Status Spiller::Ready() {
  if (backlog_->spool() != nullptr) return absl::OkStatus();
  auto spool = make_spool_();
  if (!spool.ok()) return spool.status();
  backlog_->SetSpool(*std::move(spool));
  return absl::OkStatus();
}

void Spiller::Tell(const absl::Status& status) {
  books_->SetFullCause(absl::IsResourceExhausted(status) ? GapCause::kSpoolFull
                                                         : GapCause::kRingFull);
  const auto say = [this](const std::string& problem, const char* so) {
    log_->Say(absl::StrCat("spool ", problem),
              absl::StrCat("gradtap: spool: ", problem, so));
  };
  if (!status.ok()) {
    say(std::string(status.message()),
        Used() == 0 ? "" : "; records stay in the ring until there is room");
  }
  if (backlog_->spool() == nullptr) return;
  for (const std::string& problem : backlog_->spool()->TakeProblems()) {
    say(problem, "");
  }
}

}  // namespace gradtap::agent
