#include "bench/peers/sqlite/wire.h"

#include <errno.h>
#include <sys/socket.h>

#include <cstring>
#include <stdexcept>
#include <type_traits>

namespace gradtap::bench {
namespace {

static_assert(std::is_trivially_copyable_v<Request>);

struct Head {
  Reply::Form form = Reply::Form::kNothing;
  std::uint32_t unused = 0;
  std::uint64_t bytes = 0;
};

template <typename T>
std::vector<T> EntriesOf(const Reply& reply) {
  std::vector<T> entries(reply.bytes.size() / sizeof(T));
  if (!entries.empty()) {
    std::memcpy(entries.data(), reply.bytes.data(), entries.size() * sizeof(T));
  }
  return entries;
}

}  // namespace

Answer AnswerOf(const Reply& reply) {
  Answer answer;
  switch (reply.form) {
    case Reply::Form::kNothing:
      break;
    case Reply::Form::kValues: {
      const std::vector<float> values = EntriesOf<float>(reply);
      answer.values.assign(values.begin(), values.end());
      break;
    }
    case Reply::Form::kCells:
      answer.cells = EntriesOf<Extremes>(reply);
      break;
    case Reply::Form::kPoints:
      answer.points = EntriesOf<Point>(reply);
      break;
    case Reply::Form::kError:
      throw std::runtime_error("peers_sqlite: " + reply.bytes);
  }
  return answer;
}

bool Receive(int socket, void* to, std::size_t bytes) {
  auto* at = static_cast<char*>(to);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = ::recv(socket, at + done, bytes - done, MSG_WAITALL);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
    } else if (n == 0 && done == 0) {
      return false;
    } else if (n == 0 || errno != EINTR) {
      throw std::runtime_error("the connection of peers_sqlite broke off");
    }
  }
  return true;
}

void Send(int socket, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = ::send(socket, at + done, bytes - done, MSG_NOSIGNAL);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      throw std::runtime_error("the connection of peers_sqlite broke off");
    }
  }
}

Reply ReceiveReply(int socket) {
  Head head;
  Reply reply;
  if (!Receive(socket, &head, sizeof head)) {
    throw std::runtime_error("peers_sqlite has ended");
  }
  reply.form = head.form;
  reply.bytes.resize(head.bytes);
  if (head.bytes > 0) Receive(socket, reply.bytes.data(), head.bytes);
  return reply;
}

void SendReply(int socket, const Reply& reply) {
  const Head head{reply.form, 0, reply.bytes.size()};
  Send(socket, &head, sizeof head);
  Send(socket, reply.bytes.data(), reply.bytes.size());
}

}  // namespace gradtap::bench
