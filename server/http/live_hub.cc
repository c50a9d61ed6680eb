#include "server/http/live_hub.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <array>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/text/json_writer.h"

namespace gradtap::server {
namespace {

using ::google::protobuf::io::ArrayInputStream;
using ::google::protobuf::io::ConcatenatingInputStream;
using ::google::protobuf::io::ZeroCopyInputStream;

// How often streams are looked at without a commit: a run may go LOST.
constexpr std::chrono::seconds kTick{1};
// Of texts that are kept for those who ask for the same.
constexpr std::size_t kWrittenBytes = std::size_t{16} << 20;

std::string EventText(const v1::WatchResponse& response) {
  std::string text = response.ordinal() == 0
                         ? ""
                         : absl::StrCat("id: ", response.ordinal(), "\n");
  text += "data: ";
  WriteJson(response, [&text](std::string_view piece) {
    text += piece;
    return true;
  });
  // It ends with a line end: an event ends with an empty line.
  text += '\n';
  return text;
}

// Head and rows are one message: not copied together to read it.
bool Parse(const EncodedEvent& event, v1::WatchResponse* response) {
  ArrayInputStream head(event.head.data(), static_cast<int>(event.head.size()));
  ArrayInputStream rows(event.rows.data(), static_cast<int>(event.rows.size()));
  std::array<ZeroCopyInputStream*, 2> parts = {&head, &rows};
  ConcatenatingInputStream both(parts.data(), static_cast<int>(parts.size()));
  return response->ParseFromZeroCopyStream(&both);
}

absl::Status Unreadable() {
  return absl::InternalError("a message for watchers cannot be read");
}

}  // namespace

struct LiveHub::State {
  State(const v1::WatchRequest& asked, std::string whose)
      : request(asked), client(std::move(whose)) {}

  bool holds_nothing() const {
    return missed == nullptr && outbox == nullptr && !sending;
  }

  const v1::WatchRequest request;
  const std::string client;
  // Of the hub's thread.
  std::unique_ptr<WatchCursor> cursor;
  std::shared_ptr<HeldAnswer> room;  // For what comes next.
  std::size_t most_bytes = 0;        // Of its events so far.
  Text notice;                       // Of what it missed before that.
  // Under the hub's lock.
  Text missed;  // Goes before what is in the outbox.
  Text outbox;
  bool sending = false;              // It has been taken, and not been sent.
  std::shared_ptr<HeldAnswer> held;  // Of that which waits, or is sent.
  absl::Status ended;                // OK: it has not.
};

LiveHub::Stream::~Stream() {
  MutexLock lock(hub_->mu_);
  hub_->streams_.erase(id_);
}

absl::StatusOr<LiveHub::Text> LiveHub::Stream::Next(
    std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  MutexLock lock(hub_->mu_);
  State& state = *hub_->streams_.at(id_);
  if (std::exchange(state.sending, false)) {
    state.held = nullptr;
    hub_->due_.insert(id_);
    hub_->due_changed_.NotifyOne();
  }
  while (state.holds_nothing() && state.ended.ok() &&
         hub_->event_ready_.WaitUntil(hub_->mu_, until)) {
  }
  if (state.missed != nullptr) return std::exchange(state.missed, nullptr);
  if (state.outbox == nullptr && !state.ended.ok()) return state.ended;
  state.sending = state.outbox != nullptr;
  return std::exchange(state.outbox, nullptr);
}

LiveHub::LiveHub(QueryBackend* backend, ClientPlaces* places)
    : backend_(backend), places_(places) {
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
  auto state = std::make_shared<State>(request, client);
  {
    MutexLock lock(mu_);
    if (stopping_) {
      return absl::UnavailableError("the collector is shutting down");
    }
    absl::StatusOr<std::unique_ptr<ClientPlaces::Place>> place =
        places_->Take(client);
    if (!place.ok()) return place.status();
    const std::uint64_t id = next_id_++;
    stream.reset(new Stream(this, id, *std::move(place)));
    streams_[id] = state;
    due_.insert(id);
  }
  due_changed_.NotifyOne();
  absl::Status ended;
  {
    MutexLock lock(mu_);
    while (state->holds_nothing() && state->ended.ok() &&
           event_ready_.WaitUntil(mu_, until)) {
    }
    if (state->holds_nothing()) ended = state->ended;
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
      while (due_.empty() && !closed_ &&
             due_changed_.WaitUntil(mu_, next_tick)) {
      }
      if (closed_) return;
      // However busy it is.
      if (std::chrono::steady_clock::now() >= next_tick) {
        next_tick = std::chrono::steady_clock::now() + kTick;
        Tick();
      }
      for (const std::uint64_t id : due_) {
        const auto it = streams_.find(id);
        if (it == streams_.end()) continue;
        const State& state = *it->second;
        if (state.holds_nothing() && state.ended.ok()) due.push_back(*it);
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

void LiveHub::Tick() {
  for (const auto& [id, state] : streams_) due_.insert(id);
  if (!streams_.empty()) return;
  questions_.Clear();
  written_.clear();
  written_bytes_ = 0;
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
  std::shared_ptr<Written> written;
  std::shared_ptr<HeldAnswer> held;
  if (status.ok()) {
    if (state->room == nullptr) {
      state->room = std::make_shared<HeldAnswer>(
          backend_->environment().guards.answers, state->client);
    }
    // Of an event that has been taken from the cursor nothing could wait.
    if (state->most_bytes > kSmallAnswer && state->room->bytes() == 0 &&
        !state->room->Grow(state->most_bytes).ok()) {
      return false;
    }
    absl::StatusOr<std::shared_ptr<Written>> next = WriteNext(state);
    if (next.ok() && *next == nullptr) {
      state->room->Shrink(state->room->bytes());
      return state->cursor->behind();
    }
    status = next.status();
    if (next.ok()) {
      written = *std::move(next);
      auto room = RoomFor(written.get(), state);
      status = room.status();
      if (room.ok()) held = *std::move(room);
    }
  }
  {
    MutexLock lock(mu_);
    if (state->ended.ok()) state->ended = status;
    if (status.ok()) {
      state->missed = std::exchange(state->notice, nullptr);
      state->outbox = Text(written, &written->text);
      state->held = std::move(held);
    }
  }
  event_ready_.NotifyAll();
  return false;
}

// Null: it needs none.
absl::StatusOr<std::shared_ptr<HeldAnswer>> LiveHub::RoomFor(Written* written,
                                                             State* state) {
  const std::size_t bytes = written->text.size();
  state->most_bytes = std::max(state->most_bytes, bytes);
  const std::shared_ptr<HeldAnswer> room = std::exchange(state->room, nullptr);
  if (bytes <= kSmallAnswer) return std::shared_ptr<HeldAnswer>();
  std::weak_ptr<HeldAnswer>& known = written->held[state->client];
  if (auto held = known.lock()) return held;
  if (room->bytes() > bytes) room->Shrink(room->bytes() - bytes);
  const absl::Status status = room->Grow(bytes - room->bytes());
  if (!status.ok()) return absl::UnavailableError(status.message());
  known = room;
  return room;
}

absl::StatusOr<std::shared_ptr<LiveHub::Written>> LiveHub::WriteNext(
    State* state) {
  WatchMessage message;
  const absl::StatusOr<bool> more = state->cursor->Next(&message);
  if (!more.ok()) return more.status();
  if (!*more) return std::shared_ptr<Written>();
  return Write(message, state);
}

absl::StatusOr<std::shared_ptr<LiveHub::Written>> LiveHub::Write(
    const WatchMessage& message, State* state) {
  google::protobuf::Arena arena;
  auto* response =
      google::protobuf::Arena::CreateMessage<v1::WatchResponse>(&arena);
  if (!response->ParseFromString(message.rest)) return Unreadable();
  auto written = std::make_shared<Written>();
  written->event = message.event;
  if (message.event == nullptr) {
    written->text = EventText(*response);
    return written;
  }
  // What this reader missed goes before what all of them get.
  if (response->conflated_steps() > 0) {
    state->notice = std::make_shared<const std::string>(
        absl::StrCat("event: conflated\ndata: {\"conflatedSteps\":\"",
                     response->conflated_steps(), "\"}\n\n"));
  }
  for (const auto& known : written_) {
    if (known->event == message.event) return known;
  }
  if (!Parse(*message.event, response)) return Unreadable();
  written->text = EventText(*response);
  written_.push_back(written);
  written_bytes_ += written->text.size();
  while (written_bytes_ > kWrittenBytes) {
    written_bytes_ -= written_.front()->text.size();
    written_.pop_front();
  }
  return written;
}

}  // namespace gradtap::server
