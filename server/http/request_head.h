// The head of a request while it comes: how long it is, and whether its lines
// are such that nobody could read them otherwise than the HTTP library does.
//
// The library takes a head of any size, header by header, at a hundred bytes
// and more for each, and passes over what it does not understand: a line that
// goes on with the one before, a second Content-Length, the "abc" of "2abc". So
// it gets a head when that is whole, and is one that is read.
//
// Layer: server/http. This file: std.

#ifndef GRADTAP_SERVER_HTTP_REQUEST_HEAD_H_
#define GRADTAP_SERVER_HTTP_REQUEST_HEAD_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace gradtap::server {

// By one thread.
class RequestHead {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{64} << 10;
  static constexpr std::size_t kMostLineBytes = std::size_t{8} << 10;
  static constexpr std::size_t kMostHeaders = 100;

  enum class State {
    kMore,     // It has not ended.
    kWhole,    // TakeText() has it, and what came behind it.
    kRefused,  // status() and message() say why.
  };

  // The next bytes of the connection. Not after kWhole or kRefused.
  State Add(std::string_view bytes);

  // All that has come.
  std::string TakeText() { return std::move(text_); }

  // Of HTTP: 400, 414 or 431. The last two are for want of room.
  int status() const { return status_; }
  const std::string& message() const { return message_; }

 private:
  State Refuse(int status, std::string message);
  // With its end.
  State AddLine(std::string_view line);
  State CheckHeader(std::string_view line);
  // At most one of them, which is a number.
  State CheckLength(std::string_view value);

  std::string text_;
  std::size_t line_begin_ = 0;  // Of the first line that is not whole.
  std::size_t lines_ = 0;
  bool has_length_ = false;
  int status_ = 0;
  std::string message_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_REQUEST_HEAD_H_
