// As much of HTTP/1.1 as the peers' interfaces take: one connection that stays
// open, a request at a time, answers with a length or in chunks. Debian's
// libraries for it are not among what gradtap is built with.
//
// One thread. Layer: tests; std and POSIX only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_HTTP_H_
#define GRADTAP_TESTS_BENCH_PEERS_HTTP_H_

#include <string>
#include <string_view>

namespace gradtap::bench {

class HttpConnection {
 public:
  explicit HttpConnection(int port);  // Of 127.0.0.1.
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // The body of the answer. Throws if the status is not of the 200s.
  std::string Get(const std::string& target);
  std::string Post(const std::string& target, std::string_view body);

 private:
  void Connect();
  std::string Ask(const std::string& head, std::string_view body);
  void Send(std::string_view bytes);
  bool Fill();  // False: the peer has closed.
  std::string Line();
  std::string Take(std::size_t size);
  std::string ReadBody(bool* closes);

  const int port_;
  int socket_ = -1;
  std::string buffer_;
  std::size_t at_ = 0;
};

// As it may stand in a query.
std::string UrlEncoded(std::string_view text);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_HTTP_H_
