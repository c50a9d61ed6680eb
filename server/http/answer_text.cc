#include "server/http/answer_text.h"

#include <utility>

namespace gradtap::server {

bool AnswerText::Add(std::string_view text) {
  if (!pieces_.back().empty() &&
      pieces_.back().size() + text.size() > kAnswerPiece) {
    // The first asks when it is not the only one any more.
    status_ = answer_->held->Grow((pieces_.size() == 1 ? 2 : 1) * kAnswerPiece);
    if (!status_.ok()) return false;
    pieces_.emplace_back().reserve(kAnswerPiece);
  }
  pieces_.back() += text;
  bytes_ += text.size();
  return true;
}

absl::Status AnswerText::Finish() {
  if (!status_.ok()) return status_;
  if (bytes_ > kMostCompressed) {
    answer_->pieces = std::move(pieces_);
    return absl::OkStatus();
  }
  answer_->body = std::move(pieces_.front());
  if (pieces_.size() > 1) answer_->body.reserve(bytes_);
  for (pieces_.pop_front(); !pieces_.empty(); pieces_.pop_front()) {
    answer_->body += pieces_.front();
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
