// Byte streams through zstd's entropy coder.
//
// Layer: server/store/tile. One thread at a time may use an object.

#ifndef GRADTAP_SERVER_STORE_TILE_ZSTD_STREAM_H_
#define GRADTAP_SERVER_STORE_TILE_ZSTD_STREAM_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace gradtap::server::tile {

// What the stream is made of decides how hard to look for repeats.
enum class Repeats { kFew, kMany };

class StreamWriter {
 public:
  StreamWriter();
  ~StreamWriter();

  // Appends `content` as one zstd frame, which declares its size.
  void Append(std::string_view content, Repeats repeats, std::string* out);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
};

class StreamReader {
 public:
  StreamReader();
  ~StreamReader();

  // Fills `out` exactly from the frame; false if it is not one of that content
  // size. Nothing is allocated by what the frame says of itself.
  bool Read(std::string_view frame, std::span<char> out);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
};

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_ZSTD_STREAM_H_
