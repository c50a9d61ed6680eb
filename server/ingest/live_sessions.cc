#include "server/ingest/live_sessions.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {

std::uint32_t LiveSessions::Of(const Counts& counts,
                               const std::string& client) {
  const auto found = counts.find(client);
  return found == counts.end() ? 0 : found->second;
}

void LiveSessions::Less(const std::string& client, Counts* counts) {
  const auto found = counts->find(client);
  if (found != counts->end() && --found->second == 0) counts->erase(found);
}

LiveSessions::Entry LiveSessions::AddCall(const std::shared_ptr<LiveCall>& call,
                                          const std::string& client) {
  MutexLock lock(mu_);
  if (counted_calls_ >= 2 * std::size_t{max_sessions_}) return Entry::kFull;
  if (!client.empty() &&
      Of(calls_of_, client) >= 2 * std::size_t{sessions_of_a_client()}) {
    return Entry::kFull;
  }
  calls_[call.get()] = {call, client, false};
  ++counted_calls_;
  if (!client.empty()) ++calls_of_[client];
  return draining_ ? Entry::kDraining : Entry::kOk;
}

void LiveSessions::EndCall(const LiveCall* call) {
  MutexLock lock(mu_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  if (std::exchange(found->second.ends, true)) return;
  --counted_calls_;
  Less(found->second.client, &calls_of_);
}

void LiveSessions::RemoveCall(const LiveCall* call) {
  std::shared_ptr<LiveCall> last_owner;  // Destroyed after the lock.
  MutexLock lock(mu_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  if (!found->second.ends) {
    --counted_calls_;
    Less(found->second.client, &calls_of_);
  }
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

LiveSessions::Admission LiveSessions::Admit(const StreamHello& hello,
                                            std::shared_ptr<LiveStream>* stream,
                                            const std::string& client) {
  auto live = std::make_shared<LiveStream>();
  // A run's name has no slash.
  live->key = absl::StrCat(hello.run, "/", hello.rank, "/");
  live->key.append(hello.process_nonce);
  live->client = client;
  MutexLock lock(mu_);
  if (by_key_.count(live->key) != 0) return Admission::kDuplicate;
  if (by_key_.size() >= max_sessions_) return Admission::kLimit;
  if (!client.empty()) {
    if (Of(sessions_of_, client) >= sessions_of_a_client()) {
      return Admission::kClientLimit;
    }
    ++sessions_of_[client];
  }
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
    Less(stream.client, &sessions_of_);
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
