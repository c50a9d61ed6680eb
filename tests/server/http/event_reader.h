// A reader of Server-Sent Events for tests.

#ifndef GRADTAP_TESTS_SERVER_HTTP_EVENT_READER_H_
#define GRADTAP_TESTS_SERVER_HTTP_EVENT_READER_H_

#include <httplib.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "core/sync.h"

namespace gradtap::server::testing {

// So long that only a hang is ever cut off.
inline constexpr std::chrono::seconds kPatience{60};

// A connection that reads events until it is closed.
class Reader {
 public:
  Reader(const std::string& address, const std::string& path,
         httplib::Headers headers = {})
      : client_("http://" + address) {
    client_.set_read_timeout(kPatience);
    thread_ = std::thread([this, path, headers = std::move(headers)] {
      const httplib::Result result = client_.Get(
          path.c_str(), headers,
          [this](const httplib::Response& head) {
            MutexLock lock(mu_);
            status_ = head.status;
            type_ = head.get_header_value("Content-Type");
            changed_.NotifyAll();
            return true;
          },
          [this](const char* bytes, std::size_t n) {
            MutexLock lock(mu_);
            text_.append(bytes, n);
            changed_.NotifyAll();
            return !closed_;
          });
      MutexLock lock(mu_);
      ended_ = true;
      changed_.NotifyAll();
    });
  }
  ~Reader() { Close(); }

  void Close() {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(mu_);
      closed_ = true;
    }
    client_.stop();
    thread_.join();
  }

  // False: it has not come, or will not.
  bool Await(const std::string& text) {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return text_.find(text) != std::string::npos;
    });
  }
  bool AwaitEnd() {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ended_; });
  }
  int status() {
    Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return status_ != 0; });
    MutexLock lock(mu_);
    return status_;
  }
  std::string type() {
    MutexLock lock(mu_);
    return type_;
  }
  std::string text() {
    MutexLock lock(mu_);
    return text_;
  }

 private:
  template <typename Condition>
  bool Wait(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mu_);
    while (!condition() && !ended_ && changed_.WaitUntil(mu_, until)) {
    }
    return condition();
  }

  httplib::Client client_;
  Mutex mu_;
  CondVar changed_;
  std::string text_ ABSL_GUARDED_BY(mu_);
  std::string type_ ABSL_GUARDED_BY(mu_);
  int status_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_HTTP_EVENT_READER_H_
