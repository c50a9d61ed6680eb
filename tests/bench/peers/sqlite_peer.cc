// Our own tiles in SQLite: `peers_sqlite`, a server of its own, which gets the
// floats of each step as they are and stores the collector's windows. What it
// and gradtap differ in is the engine, and that it has one thread and no rows:
// what it was sent is durable a window at a time.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "bench/peers/peer.h"
#include "bench/peers/sqlite/wire.h"
#include "support/free_port.h"

namespace gradtap::bench {
namespace {

// Closes with the object.
class Connection {
 public:
  explicit Connection(int port)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address),
                  sizeof address) != 0) {
      ::close(socket_);
      throw std::runtime_error("peers_sqlite does not answer");
    }
  }
  ~Connection() { ::close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int socket() const { return socket_; }

 private:
  const int socket_;
};

class SqlitePeer : public Peer {
 public:
  explicit SqlitePeer(std::string bin)
      : program_(std::move(bin) + "/peers_sqlite") {}

  std::string name() const override { return "sqlite"; }
  bool has_our_tiles() const override { return true; }
  std::string Missing() const override {
    return ::access(program_.c_str(), X_OK) == 0
               ? ""
               : "build peers_sqlite; looked for " + program_;
  }
  std::string Settings() const override {
    std::string settings = RunTool(program_ + " --settings");
    settings.erase(settings.find_last_not_of('\n') + 1);
    return settings +
           "; gradtap's tiles and roll-ups of 64 steps as BLOBs, written and "
           "read by gradtap's code; 1 connection, 1 thread; acknowledged a "
           "window at a time; no steps' times; VACUUM to settle";
  }

  void Start(const std::string& folder) override {
    port_ = testing::FreePort();
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{program_, folder, std::to_string(port_)},
        folder + "/log");
    server_->WaitForPort(port_);
    connection_ = std::make_unique<Connection>(port_);
  }
  void Stop() override {
    connection_.reset();
    server_->Stop(SIGTERM);
  }

  // The data set's own file is what is sent.
  void Prepare(const DataSet&, const std::string&) override {}
  double Load(const DataSet& data) override {
    Request request = RequestOf(Request::What::kLoad, data.shape().name);
    request.parameters = static_cast<std::uint32_t>(data.shape().parameters);
    request.steps = data.shape().steps;
    Send(connection_->socket(), &request, sizeof request);
    for (std::int64_t step = 0; step < data.shape().steps; ++step) {
      Send(connection_->socket(), data.Column(step, 0, 0),
           kFloats * data.shape().parameters * sizeof(float));
    }
    AnswerOf(ReceiveReply(connection_->socket()));
    return 0;
  }
  void Settle() override {
    const Request request = RequestOf(Request::What::kSettle, "");
    Send(connection_->socket(), &request, sizeof request);
    AnswerOf(ReceiveReply(connection_->socket()));
  }
  std::uint64_t DiskBytes(const std::string& folder) const override {
    return bench::DiskBytes(folder, "");
  }

  std::function<Answer()> Ask(const DataSet& data,
                              const Question& question) override {
    Request request = RequestOf(Request::What::kAsk, data.shape().name);
    request.question = question;
    Send(connection_->socket(), &request, sizeof request);
    Reply reply = ReceiveReply(connection_->socket());
    return [reply = std::move(reply)] { return AnswerOf(reply); };
  }

 private:
  static Request RequestOf(Request::What what, const std::string& run) {
    Request request;
    request.what = what;
    if (run.size() >= sizeof request.run) {
      throw std::runtime_error("the run's name is too long: " + run);
    }
    std::copy(run.begin(), run.end(), request.run);
    return request;
  }

  const std::string program_;
  int port_ = 0;
  std::unique_ptr<Connection> connection_;
};

}  // namespace

std::unique_ptr<Peer> MakeSqlitePeer(const std::string& bin) {
  return std::make_unique<SqlitePeer>(bin);
}

}  // namespace gradtap::bench
