#include "server/http/live_hub.h"

#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/text/json_mapping.h"

namespace gradtap::server {
namespace {

// How often streams are looked at without a commit: a run may go LOST.
constexpr std::chrono::seconds kTick{1};
// Of texts that are kept for those who ask for the same.
constexpr std::size_t kWrittenBytes = std::size_t{16} << 20;

absl::StatusOr<std::string> EventText(const v1::WatchResponse& response) {
  absl::StatusOr<std::string> json = ToJson(response, JsonLayout::kOneLine);
  if (!json.ok()) return json.status();
  // It ends with a line end: an event ends with an empty line.
  return absl::StrCat(response.ordinal() == 0
                          ? ""
                          : absl::StrCat("id: ", response.ordinal(), "\n"),
                      "data: ", *json, "\n");
}

}  // namespace

struct LiveHub::State {
  explicit State(const v1::WatchRequest& asked) : request(asked) {}

  const v1::WatchRequest request;
  std::unique_ptr<WatchCursor> cursor;  // Of the hub's thread.
  // Under the hub's lock.
  Text outbox;
  absl::Status ended;  // OK: it has not.
};

LiveHub::Stream::~Stream() {
  MutexLock lock(hub_->mu_);
  hub_->streams_.erase(id_);
}

absl::StatusOr<LiveHub::Text> LiveHub::Stream::Next(
    std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  Text text;
  {
    MutexLock lock(hub_->mu_);
    State& state = *hub_->streams_.at(id_);
    while (state.outbox == nullptr && state.ended.ok() &&
           hub_->event_ready_.WaitUntil(hub_->mu_, until)) {
    }
    if (state.outbox == nullptr) {
      if (!state.ended.ok()) return state.ended;
      return text;
    }
    text = std::move(state.outbox);
    state.outbox = nullptr;
    hub_->due_.insert(id_);
  }
  hub_->due_changed_.NotifyOne();
  return text;
}

LiveHub::LiveHub(QueryBackend* backend, StreamSlots* slots)
    : backend_(backend), slots_(slots) {
  listener_ = backend_->environment().store->AddListener(
      [this](const std::string& run) { MarkRunDue(run); });
  thread_ = std::thread([this] { Feed(); });
}

LiveHub::~LiveHub() {
  backend_->environment().store->RemoveListener(listener_);
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  due_changed_.NotifyAll();
  thread_.join();
}

absl::StatusOr<std::unique_ptr<LiveHub::Stream>> LiveHub::Open(
    const v1::WatchRequest& request, const std::string& client,
    std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  std::unique_ptr<Stream> stream;
  auto state = std::make_shared<State>(request);
  {
    MutexLock lock(mu_);
    if (stopping_) {
      return absl::UnavailableError("the collector is shutting down");
    }
    absl::StatusOr<std::unique_ptr<StreamSlots::Slot>> slot =
        slots_->Take(client);
    if (!slot.ok()) return slot.status();
    const std::uint64_t id = next_id_++;
    stream.reset(new Stream(this, id, *std::move(slot)));
    streams_[id] = state;
    due_.insert(id);
  }
  due_changed_.NotifyOne();
  absl::Status ended;
  {
    MutexLock lock(mu_);
    while (state->outbox == nullptr && state->ended.ok() &&
           event_ready_.WaitUntil(mu_, until)) {
    }
    if (state->outbox == nullptr) ended = state->ended;
  }
  if (!ended.ok()) return ended;
  return stream;
}

void LiveHub::Stop() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    for (const auto& [id, state] : streams_) {
      if (state->ended.ok()) {
        state->ended = absl::UnavailableError("the collector is shutting down");
      }
    }
  }
  event_ready_.NotifyAll();
}

void LiveHub::MarkRunDue(const std::string& run) {
  {
    MutexLock lock(mu_);
    for (const auto& [id, state] : streams_) {
      if (state->request.run() == run) due_.insert(id);
    }
    if (due_.empty()) return;
  }
  due_changed_.NotifyOne();
}

void LiveHub::Feed() {
  auto next_tick = std::chrono::steady_clock::now() + kTick;
  for (;;) {
    std::vector<std::pair<std::uint64_t, std::shared_ptr<State>>> due;
    {
      MutexLock lock(mu_);
      while (due_.empty() && !closed_) {
        if (due_changed_.WaitUntil(mu_, next_tick)) continue;
        next_tick = std::chrono::steady_clock::now() + kTick;
        for (const auto& [id, state] : streams_) due_.insert(id);
        if (streams_.empty()) {
          questions_.Clear();
          written_.clear();
          written_bytes_ = 0;
        }
      }
      if (closed_) return;
      for (const std::uint64_t id : due_) {
        const auto it = streams_.find(id);
        if (it == streams_.end()) continue;
        const State& state = *it->second;
        if (state.outbox == nullptr && state.ended.ok()) due.push_back(*it);
      }
      due_.clear();
    }
    for (const auto& [id, state] : due) {
      try {
        if (!Pump(state.get())) continue;
      } catch (const std::bad_alloc&) {
        MutexLock lock(mu_);
        state->ended = absl::ResourceExhaustedError("out of memory");
        event_ready_.NotifyAll();
        continue;
      }
      MutexLock lock(mu_);
      due_.insert(id);
    }
  }
}

bool LiveHub::Pump(State* state) {
  absl::Status status;
  if (state->cursor == nullptr) {
    absl::StatusOr<std::unique_ptr<WatchCursor>> cursor =
        WatchCursor::Open(&backend_->environment(), backend_->overheads(),
                          &questions_, state->request);
    if (cursor.ok()) {
      state->cursor = *std::move(cursor);
    } else {
      status = cursor.status();
    }
  }
  Text text;
  if (status.ok()) {
    WatchMessage message;
    const absl::StatusOr<bool> more = state->cursor->Next(&message);
    if (more.ok() && !*more) return state->cursor->behind();
    absl::StatusOr<Text> written =
        more.ok() ? Write(message) : absl::StatusOr<Text>(more.status());
    if (written.ok()) {
      text = *std::move(written);
    } else {
      status = written.status();
    }
  }
  {
    MutexLock lock(mu_);
    if (state->ended.ok()) state->ended = status;
    state->outbox = std::move(text);
  }
  event_ready_.NotifyAll();
  return false;
}

absl::StatusOr<LiveHub::Text> LiveHub::Write(const WatchMessage& message) {
  v1::WatchResponse response;
  // What this reader missed goes before what all of them get.
  std::string missed;
  if (!response.ParseFromString(message.rest)) {
    return absl::InternalError("a message for watchers cannot be read");
  }
  if (message.event == nullptr) {
    absl::StatusOr<std::string> text = EventText(response);
    if (!text.ok()) return text.status();
    return std::make_shared<const std::string>(*std::move(text));
  }
  if (response.conflated_steps() > 0) {
    missed = absl::StrCat("event: conflated\ndata: {\"conflatedSteps\":\"",
                          response.conflated_steps(), "\"}\n\n");
  }
  Text text;
  for (const Written& known : written_) {
    if (known.first == message.event) text = known.second;
  }
  if (text == nullptr) {
    if (!response.ParseFromString(message.event->head + message.event->rows)) {
      return absl::InternalError("a message for watchers cannot be read");
    }
    absl::StatusOr<std::string> event = EventText(response);
    if (!event.ok()) return event.status();
    text = std::make_shared<const std::string>(*std::move(event));
    written_.emplace_back(message.event, text);
    written_bytes_ += text->size();
    while (written_bytes_ > kWrittenBytes) {
      written_bytes_ -= written_.front().second->size();
      written_.pop_front();
    }
  }
  if (missed.empty()) return text;
  return std::make_shared<const std::string>(missed + *text);
}

}  // namespace gradtap::server
