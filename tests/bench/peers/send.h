// Posts the pieces of a payload over several connections, each with a thread
// of its own.
//
// Layer: tests; std only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SEND_H_
#define GRADTAP_TESTS_BENCH_PEERS_SEND_H_

#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "bench/peers/http.h"
#include "bench/peers/payload.h"

namespace gradtap::bench {

inline void PostAll(int port, const std::string& target, const Payload& payload,
                    int connections) {
  std::atomic<std::size_t> next{0};
  std::vector<std::exception_ptr> problems(
      static_cast<std::size_t>(connections));
  std::vector<std::thread> threads;
  for (std::exception_ptr& problem : problems) {
    threads.emplace_back([&] {
      try {
        HttpConnection http(port);
        for (std::size_t i = next++; i < payload.pieces(); i = next++) {
          http.Post(target, payload.piece(i));
        }
      } catch (...) {
        problem = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& problem : problems) {
    if (problem) std::rethrow_exception(problem);
  }
}

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SEND_H_
