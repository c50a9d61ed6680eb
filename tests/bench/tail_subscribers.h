// The subscribers of tail_benchmark: a process of its own that opens Watch
// calls and notes when each message has come.
//
// Layer: tests/bench. This file: std.

#ifndef GRADTAP_TESTS_BENCH_TAIL_SUBSCRIBERS_H_
#define GRADTAP_TESTS_BENCH_TAIL_SUBSCRIBERS_H_

#include <cstdint>
#include <string>

namespace gradtap::bench {

struct SubscriberOptions {
  std::string address;
  int live = 1;     // Subscribers that read.
  int stalled = 0;  // That open a stream and never read.
  // What the live ones ask for: "same": the statistics that a watch has by
  // default; "each": the same for one in order, for the next in another order;
  // "all": the nine fields of three roles; "all-each".
  std::string ask = "same";
  std::int64_t last_step = 0;  // They end with it.
};

// CLOCK_MONOTONIC in nanoseconds, the same in all processes.
std::int64_t MonotonicNanos();

// Prints "ready" once each subscriber has the newest step, then runs until each
// live one has had `last_step`; then prints one line for each message,
// "SUBSCRIBER STEP ARRIVED PARSED BYTES CONFLATED", and "end". 0, or 1 after an
// error.
int RunSubscribers(const SubscriberOptions& options);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_TAIL_SUBSCRIBERS_H_
