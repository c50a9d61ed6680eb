// The collector's tiles and roll-ups in SQLite, as a server of its own, so that
// its CPU time and memory are told apart from the contest's. What it does not
// share with the collector is the engine: what a window is, and how it becomes
// bytes and values again, is the collector's code.
//
//   peers_sqlite FOLDER PORT     serves 127.0.0.1:PORT, one connection at a
//   time peers_sqlite --settings      SQLite's version and settings
//
// Ends with SIGTERM. One thread: it encodes in the time in which it receives.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "bench/peers/sqlite/answers.h"
#include "bench/peers/sqlite/database.h"
#include "bench/peers/sqlite/window_writer.h"
#include "bench/peers/sqlite/wire.h"

namespace gradtap::bench {
namespace {

int Listen(int port) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      ::listen(s, 8) != 0) {
    throw std::runtime_error("cannot listen at port " + std::to_string(port));
  }
  return s;
}

void Load(int socket, const Request& request, Database* database) {
  WindowWriter writer(database, request.run, request.parameters);
  const std::size_t bytes = kFloats * request.parameters * sizeof(float);
  for (std::int64_t step = 0; step < request.steps; ++step) {
    if (!Receive(socket, writer.Next(), bytes)) {
      throw std::runtime_error("steps are missing");
    }
    writer.Took();
  }
  writer.Finish();
}

Reply Do(int socket, const Request& request, Database* database,
         Answers* answers) {
  switch (request.what) {
    case Request::What::kLoad:
      Load(socket, request, database);
      break;
    case Request::What::kSettle:
      database->Settle();
      break;
    case Request::What::kAsk:
      return answers->Ask(request.run, request.question);
  }
  return {};
}

void Serve(int socket, Database* database, Answers* answers) {
  Request request;
  while (Receive(socket, &request, sizeof request)) {
    Reply reply;
    try {
      reply = Do(socket, request, database, answers);
    } catch (const std::exception& problem) {
      SendReply(socket, {Reply::Form::kError, problem.what()});
      return;  // What follows may be the rest of a load.
    }
    SendReply(socket, reply);
  }
}

int Main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--settings") {
    std::cout << Database::Settings() << std::endl;
    return 0;
  }
  if (argc != 3) {
    std::cerr << "peers_sqlite FOLDER PORT\n";
    return 2;
  }
  Database database(argv[1]);
  Answers answers(&database);
  const int listening = Listen(std::stoi(argv[2]));
  for (;;) {
    const int socket = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Serve(socket, &database, &answers);
    ::close(socket);
  }
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) {
  try {
    return gradtap::bench::Main(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "peers_sqlite: " << problem.what() << "\n";
    return 1;
  }
}
