#include "server/ingest/live_sessions.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {

LiveSessions::Entry LiveSessions::AddCall(
    const std::shared_ptr<LiveCall>& call) {
  MutexLock lock(mu_);
  if (counted_calls_ >= 2 * std::size_t{max_sessions_}) return Entry::kFull;
  calls_[call.get()] = {call, false};
  ++counted_calls_;
  return draining_ ? Entry::kDraining : Entry::kOk;
}

void LiveSessions::EndCall(const LiveCall* call) {
  MutexLock lock(mu_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  if (!std::exchange(found->second.ends, true)) --counted_calls_;
}

void LiveSessions::RemoveCall(const LiveCall* call) {
  std::shared_ptr<LiveCall> last_owner;  // Destroyed after the lock.
  MutexLock lock(mu_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  if (!found->second.ends) --counted_calls_;
  last_owner = std::move(found->second.call);
  calls_.erase(found);
  if (calls_.empty()) empty_.NotifyAll();
}

std::vector<std::shared_ptr<LiveCall>> LiveSessions::Calls() const {
  std::vector<std::shared_ptr<LiveCall>> calls;
  MutexLock lock(mu_);
  calls.reserve(calls_.size());
  for (const auto& [raw, open] : calls_) calls.push_back(open.call);
  return calls;
}

LiveSessions::Admission LiveSessions::Admit(
    const StreamHello& hello, std::shared_ptr<LiveStream>* stream) {
  auto live = std::make_shared<LiveStream>();
  // A run's name has no slash.
  live->key = absl::StrCat(hello.run, "/", hello.rank, "/");
  live->key.append(hello.process_nonce);
  MutexLock lock(mu_);
  if (by_key_.count(live->key) != 0) return Admission::kDuplicate;
  if (by_key_.size() >= max_sessions_) return Admission::kLimit;
  by_key_[live->key] = live;
  *stream = std::move(live);
  return Admission::kOk;
}

void LiveSessions::SetId(LiveStream* stream, StreamId id) {
  MutexLock lock(mu_);
  const auto found = by_key_.find(stream->key);
  if (found == by_key_.end() || found->second.get() != stream) return;
  stream->id = id;
  by_id_[id] = found->second;
}

void LiveSessions::Release(const LiveStream& stream) {
  MutexLock lock(mu_);
  const auto by_id = by_id_.find(stream.id);
  if (by_id != by_id_.end() && by_id->second.get() == &stream) {
    by_id_.erase(by_id);
  }
  const auto by_key = by_key_.find(stream.key);
  if (by_key != by_key_.end() && by_key->second.get() == &stream) {
    by_key_.erase(by_key);
  }
}

void LiveSessions::BeginDrain() {
  MutexLock lock(mu_);
  draining_ = true;
}

bool LiveSessions::WaitUntilEmpty(
    std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (!calls_.empty()) {
    if (!empty_.WaitUntil(mu_, deadline)) return calls_.empty();
  }
  return true;
}

std::uint32_t LiveSessions::size() const {
  MutexLock lock(mu_);
  return static_cast<std::uint32_t>(by_key_.size());
}

std::optional<std::int64_t> LiveSessions::LastSeenUnixNanos(StreamId id) const {
  MutexLock lock(mu_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return std::nullopt;
  return found->second->last_seen_unix_ns.load();
}

}  // namespace gradtap::server
