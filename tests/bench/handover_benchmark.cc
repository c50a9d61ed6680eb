// What the training thread pays to hand over one encoded step: into the ring's
// file, while another thread frees what is in it.

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "agent/delivery/books.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/ring_maker.h"
#include "bench/race.h"
#include "bench/usual_step.h"
#include "core/clock.h"
#include "core/codec.h"
#include "support/temp_dir.h"

namespace gradtap::bench {
namespace {

constexpr std::size_t kRingBytes = std::size_t{64} << 20;

// Frees what is put into a ring, as the delivery thread does once the collector
// has it: every few milliseconds, all of it.
class Consumer {
 public:
  explicit Consumer(agent::Ring* ring) : thread_([this, ring] { Run(ring); }) {}
  ~Consumer() {
    stop_ = true;
    thread_.join();
  }
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

 private:
  void Run(agent::Ring* ring) {
    while (!stop_) {
      ring->FreeBefore(ring->last_seq() + 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Memory that copies walk over, as records walk over the ring.
class Walk {
 public:
  explicit Walk(std::size_t bytes) : memory_(bytes, '\0') {}
  char* Next(std::size_t bytes) {
    if (at_ + bytes > memory_.size()) at_ = 0;
    return memory_.data() + std::exchange(at_, at_ + bytes);
  }

 private:
  std::string memory_;
  std::size_t at_ = 0;
};

agent::RingFileOptions InFolder(const std::string& folder) {
  agent::RingFileOptions options;
  options.folder = folder;
  options.identity.run = "benchmark";
  options.identity.process_nonce = std::string(16, 'b');
  return options;
}

// Counters: `beyond_encoding` is what PutStep() costs more than the encoding,
// over a copy of the bytes to memory of the ring's size; `encode_and_copy` that
// and the encoding, over PutStep().
void BM_PutStep(benchmark::State& state) {
  const testing::TempDir folder(
      std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp");
  auto made = agent::MakeRing(InFolder(folder.path()), kRingBytes);
  if (!made.ok() || made->file == nullptr) {
    state.SkipWithError("no ring in a file");
    return;
  }
  agent::Books books;
  agent::Recorder recorder(made->ring.get(), &books, &RealClock());
  StepData step = UsualStep(static_cast<std::size_t>(state.range(0)));
  std::string bytes(EncodedStepSize(step), '\0');
  Walk walk(kRingBytes);
  const auto encode = [&] {
    const std::size_t size = EncodedStepSize(step);
    EncodeStep(step, {bytes.data(), size});
    benchmark::ClobberMemory();
  };
  const auto copy = [&] {
    std::memcpy(walk.Next(bytes.size()), bytes.data(), bytes.size());
    benchmark::ClobberMemory();
  };
  {
    const Consumer consumer(made->ring.get());
    Race(
        state, Clock::kThread,
        [&] {
          ++step.step;
          recorder.PutStep(step);
        },
        {{"encode", encode},
         {"copy", copy},
         {"encode_and_copy",
          [&] {
            encode();
            copy();
          }}},
        LotOf(state.range(0) * 64));
  }
  if (books.Snapshot().steps_lost > 0) {
    state.SkipWithError("the ring was full");
    return;
  }
  state.counters["beyond_encoding"] =
      (1 - state.counters["encode"]) / state.counters["copy"];
  state.counters["bytes"] = static_cast<double>(bytes.size());
}
BENCHMARK(BM_PutStep)
    ->Arg(8)
    ->Arg(200)
    ->Arg(10'000)
    ->Iterations(100)
    ->UseManualTime();

}  // namespace
}  // namespace gradtap::bench

BENCHMARK_MAIN();
