// Where text goes: a descriptor, or a string in a test.
//
// Layer: client/cli. This file: std.

#ifndef GRADTAP_CLIENT_CLI_OUTPUT_H_
#define GRADTAP_CLIENT_CLI_OUTPUT_H_

#include <string>
#include <string_view>

namespace gradtap::client {

// Not thread-safe.
class Output {
 public:
  virtual ~Output() = default;

  // False once writing has failed, and for ever after; nothing is written then.
  virtual bool Write(std::string_view text) = 0;
  // Hands on what is buffered.
  virtual bool Flush() = 0;
  // 0, or the errno of the failure. EPIPE: the reader has gone.
  virtual int error() const = 0;
};

// Buffers 64 KiB, then writes to a descriptor that it does not own. SIGPIPE
// must be ignored by the program.
class FdOutput : public Output {
 public:
  explicit FdOutput(int fd) : fd_(fd) {}
  ~FdOutput() override { Flush(); }
  FdOutput(const FdOutput&) = delete;
  FdOutput& operator=(const FdOutput&) = delete;

  bool Write(std::string_view text) override;
  bool Flush() override;
  int error() const override { return error_; }

 private:
  const int fd_;
  std::string buffer_;
  int error_ = 0;
};

class StringOutput : public Output {
 public:
  bool Write(std::string_view text) override {
    text_ += text;
    return true;
  }
  bool Flush() override { return true; }
  int error() const override { return 0; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_OUTPUT_H_
