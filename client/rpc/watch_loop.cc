#include "client/rpc/watch_loop.h"

#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"

namespace gradtap::client {
namespace {

using std::chrono::system_clock;

// Tags of the completion queue.
char start_tag, read_tag, finish_tag;

struct Progress {
  bool stopped = false;      // A handler said so.
  bool any_message = false;  // In any call.
  bool in_outage = false;
};

// One Watch call. OK if a handler ended it or the collector closed it.
class WatchCall {
 public:
  WatchCall(QueryChannel& channel, v1::WatchRequest& request,
            const WatchLoopOptions& options, const WatchHandlers& handlers,
            Progress& progress)
      : channel_(channel),
        request_(request),
        options_(options),
        handlers_(handlers),
        progress_(progress) {}

  absl::Status Run() {
    channel_.Prepare(&context_, /*with_deadline=*/false);
    reader_ =
        channel_.stub().AsyncWatch(&context_, request_, &queue_, &start_tag);
    grpc::Status status;
    for (bool finished = false; !finished;) {
      void* tag = nullptr;
      bool ok = false;
      if (queue_.AsyncNext(&tag, &ok, system_clock::now() + options_.tick) ==
          grpc::CompletionQueue::TIMEOUT) {
        if (!progress_.stopped && !handlers_.on_tick()) Stop();
        continue;
      }
      if (tag == &finish_tag) {
        finished = true;
      } else if (ok && !progress_.stopped && Take(tag == &read_tag)) {
        reader_->Read(&message_, &read_tag);
      } else {
        if (progress_.stopped) context_.TryCancel();
        reader_->Finish(&status, &finish_tag);
      }
    }
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
    return progress_.stopped ? absl::OkStatus() : channel_.Convert(status);
  }

 private:
  void Stop() {
    progress_.stopped = true;
    context_.TryCancel();
  }

  // Hands a message on; true if more are wanted.
  bool Take(bool has_message) {
    if (!has_message) return true;
    if (progress_.in_outage) {
      progress_.in_outage = false;
      if (!handlers_.on_reconnected()) progress_.stopped = true;
    }
    progress_.any_message = true;
    request_.set_after_ordinal(message_.ordinal());
    if (!progress_.stopped && !handlers_.on_message(message_)) {
      progress_.stopped = true;
    }
    return !progress_.stopped;
  }

  QueryChannel& channel_;
  v1::WatchRequest& request_;
  const WatchLoopOptions& options_;
  const WatchHandlers& handlers_;
  Progress& progress_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  v1::WatchResponse message_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::WatchResponse>> reader_;
};

// Errors that a call has when its connection or its server goes away. A
// collector that shuts down cancels its watches or ends them with OK.
bool MayComeBack(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status RunWatchLoop(QueryChannel& channel, v1::WatchRequest request,
                          const WatchLoopOptions& options,
                          const WatchHandlers& handlers) {
  if (absl::Status status = CheckText(request); !status.ok()) return status;
  Progress progress;
  for (;;) {
    absl::Status status =
        WatchCall(channel, request, options, handlers, progress).Run();
    if (progress.stopped) return absl::OkStatus();
    const bool first_failed = !progress.any_message && !status.ok();
    if (first_failed || !options.reconnect || !MayComeBack(status)) {
      return status.ok()
                 ? absl::UnavailableError("the collector ended the watch")
                 : status;
    }
    if (!progress.in_outage) {
      progress.in_outage = true;
      if (status.ok()) {
        status = absl::UnavailableError("the collector ended the watch");
      }
      if (!handlers.on_disconnected(status)) return absl::OkStatus();
    }
    // At least a tick between two calls, also while the channel stands.
    for (bool connected = false; !connected;) {
      const auto next = std::chrono::steady_clock::now() + options.tick;
      connected = channel.WaitConnected(options.tick, /*fail_fast=*/false).ok();
      std::this_thread::sleep_until(next);
      if (!handlers.on_tick()) return absl::OkStatus();
    }
  }
}

}  // namespace gradtap::client
