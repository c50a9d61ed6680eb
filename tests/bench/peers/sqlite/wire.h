// What passes between the contest and `peers_sqlite`, over a socket of this
// machine: structs as they lie in memory.
//
//   request := Request [floats: of a load, step after step]
//   reply   := Head bytes
//
// Layer: tests; std and POSIX only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SQLITE_WIRE_H_
#define GRADTAP_TESTS_BENCH_PEERS_SQLITE_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/peers/peer.h"

namespace gradtap::bench {

struct Request {
  enum class What : std::uint32_t { kLoad, kSettle, kAsk };
  What what = What::kAsk;
  std::uint32_t parameters = 0;  // kLoad.
  std::int64_t steps = 0;        // kLoad.
  Question question;             // kAsk.
  char run[64] = {};             // kLoad, kAsk; ends with a zero.
};

struct Reply {
  enum class Form : std::uint32_t {
    kNothing,
    kValues,  // Floats: Answer::values.
    kCells,   // Extremes.
    kPoints,  // Points.
    kError,   // In words.
  };
  Form form = Form::kNothing;
  std::string bytes;

  template <typename T>
  void Set(Form what, const std::vector<T>& entries) {
    form = what;
    bytes.assign(reinterpret_cast<const char*>(entries.data()),
                 entries.size() * sizeof(T));
  }
};

// Throws what a kError says.
Answer AnswerOf(const Reply& reply);

// False: the peer has closed the connection before the first byte.
bool Receive(int socket, void* to, std::size_t bytes);
void Send(int socket, const void* from, std::size_t bytes);
Reply ReceiveReply(int socket);
void SendReply(int socket, const Reply& reply);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SQLITE_WIRE_H_
