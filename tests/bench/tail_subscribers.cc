#include "tests/bench/tail_subscribers.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "google/protobuf/arena.h"
#include "gradtap/v1/query.pb.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/security/credentials.h"

namespace gradtap::bench {
namespace {

struct Arrival {
  std::int64_t step = 0;
  std::int64_t at_ns = 0;
  std::int64_t parsed_ns = 0;
  std::size_t bytes = 0;
  std::uint64_t conflated = 0;
};

std::vector<std::string> Statistics(const std::string& ask) {
  std::vector<std::string> names;
  if (ask.starts_with("all")) {
    for (const char* role : {"weight.", "grad.", "update."}) {
      for (const char* field : {"mean", "std", "abs_mean", "min", "max", "zero",
                                "nan", "pos_inf", "neg_inf"}) {
        names.push_back(std::string(role) + field);
      }
    }
  } else {
    names = {"grad.l2",      "weight.l2",      "update.ratio",
             "grad.abs_max", "grad.nonfinite", "weight.nonfinite"};
  }
  return names;
}

// One connection with one call, which is read as bytes, so that it is known
// when they have come and how long parsing takes.
class Subscriber {
 public:
  Subscriber(const SubscriberOptions& options, int index) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    stub_ = std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(
        options.address, grpc::InsecureChannelCredentials(), arguments));
    v1::WatchRequest request;
    request.set_run("run");
    std::vector<std::string> names = Statistics(options.ask);
    if (options.ask.ends_with("each")) {
      std::rotate(names.begin(),
                  names.begin() + index % static_cast<int>(names.size()),
                  names.end());
    }
    for (const std::string& name : names) request.add_statistics(name);
    request.add_statistics("scalar.loss");
    call_ = stub_->PrepareCall(&context_, "/gradtap.v1.Query/Watch", &queue_);
    call_->StartCall(this);
    Done();
    const grpc::Slice bytes(request.SerializeAsString());
    call_->WriteLast(grpc::ByteBuffer(&bytes, 1), grpc::WriteOptions(), this);
    Done();
  }

  // Up to the newest step.
  bool Begin() { return Read() && Read(); }

  void ReadUntil(std::int64_t last_step) {
    while (Read()) {
      Arrival arrival;
      arrival.at_ns = MonotonicNanos();
      arrival.bytes = bytes_.Length();
      google::protobuf::Arena arena;
      auto* message =
          google::protobuf::Arena::CreateMessage<v1::WatchResponse>(&arena);
      if (!grpc::SerializationTraits<v1::WatchResponse>::Deserialize(&bytes_,
                                                                     message)
               .ok()) {
        return;
      }
      if (!message->has_snapshot()) continue;
      arrival.parsed_ns = MonotonicNanos();
      arrival.step = message->snapshot().step();
      arrival.conflated = message->conflated_steps();
      arrivals_.push_back(arrival);
      if (arrival.step >= last_step) break;
    }
    Cancel();
  }

  void Cancel() {
    context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, this);
    Done();
  }
  const std::vector<Arrival>& arrivals() const { return arrivals_; }

 private:
  bool Done() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }
  bool Read() {
    call_->Read(&bytes_, this);
    return Done();
  }

  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer bytes_;
  std::vector<Arrival> arrivals_;
};

}  // namespace

std::int64_t MonotonicNanos() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

int RunSubscribers(const SubscriberOptions& options) {
  std::vector<std::unique_ptr<Subscriber>> live;
  std::vector<std::unique_ptr<Subscriber>> stalled;
  for (int i = 0; i < options.stalled; ++i) {
    stalled.push_back(std::make_unique<Subscriber>(options, i));
    if (!stalled.back()->Begin()) return 1;
  }
  for (int i = 0; i < options.live; ++i) {
    live.push_back(std::make_unique<Subscriber>(options, i));
    if (!live.back()->Begin()) return 1;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  std::vector<std::thread> threads;
  for (const auto& subscriber : live) {
    threads.emplace_back([&subscriber = *subscriber, &options] {
      subscriber.ReadUntil(options.last_step);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& subscriber : stalled) subscriber->Cancel();
  for (std::size_t i = 0; i < live.size(); ++i) {
    for (const Arrival& a : live[i]->arrivals()) {
      std::printf(
          "%zu %lld %lld %lld %zu %llu\n", i, static_cast<long long>(a.step),
          static_cast<long long>(a.at_ns), static_cast<long long>(a.parsed_ns),
          a.bytes, static_cast<unsigned long long>(a.conflated));
    }
  }
  std::printf("end\n");
  return 0;
}

}  // namespace gradtap::bench
