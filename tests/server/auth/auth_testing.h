// Tokens for tests.

#ifndef GRADTAP_TESTS_SERVER_AUTH_AUTH_TESTING_H_
#define GRADTAP_TESTS_SERVER_AUTH_AUTH_TESTING_H_

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/auth/token_file.h"
#include "support/status_matchers.h"

namespace gradtap::server::testing {

// A file of tokens that a test adds to and takes from.
class TokenMaker {
 public:
  explicit TokenMaker(std::string path) : path_(std::move(path)) { Write(); }

  const std::string& path() const { return path_; }

  std::string Add(const std::string& role, const std::string& runs = "",
                  std::int64_t expires_unix_s = 0) {
    const auto token = MakeToken();
    GRADTAP_EXPECT_OK(token);
    const auto rights = ParseRights(role);
    GRADTAP_EXPECT_OK(rights);
    TokenEntry entry;
    entry.id = std::string(IdOf(*token));
    entry.name = "test";
    entry.rights = *rights;
    entry.runs = runs;
    entry.created_unix_s = 1;
    entry.expires_unix_s = expires_unix_s;
    entry.hash = HashOf(*token);
    entries_.push_back(entry);
    Write();
    return *token;
  }

  void Revoke(const std::string& token) {
    std::erase_if(entries_,
                  [&](const TokenEntry& one) { return one.id == IdOf(token); });
    Write();
  }

 private:
  void Write() {
    GRADTAP_EXPECT_OK(
        ChangeTokenFile(path_, [this](std::vector<TokenEntry>* entries) {
          *entries = entries_;
          return absl::OkStatus();
        }));
  }

  const std::string path_;
  std::vector<TokenEntry> entries_;
};

inline std::string Bearer(const std::string& token) {
  return "Bearer " + token;
}

// True as soon as `condition` is; false after a minute.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_AUTH_AUTH_TESTING_H_
