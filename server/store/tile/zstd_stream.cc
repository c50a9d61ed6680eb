#include "server/store/tile/zstd_stream.h"

#include <zstd.h>

#include <new>

namespace gradtap::server::tile {

void StreamWriter::Free::operator()(ZSTD_CCtx_s* context) const {
  ZSTD_freeCCtx(context);
}

StreamWriter::StreamWriter() : context_(ZSTD_createCCtx()) {
  if (context_ == nullptr) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_contentSizeFlag, 1);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 0);
}
StreamWriter::~StreamWriter() = default;

void StreamWriter::Append(std::string_view content, Repeats repeats,
                          std::string* out) {
  ZSTD_CCtx* context = context_.get();
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel,
                         repeats == Repeats::kFew ? 1 : 3);
  // Symbols of noise repeat by chance: a short match costs more than it saves.
  ZSTD_CCtx_setParameter(context, ZSTD_c_minMatch,
                         repeats == Repeats::kFew ? 7 : 0);
  const std::size_t before = out->size();
  out->resize(before + ZSTD_compressBound(content.size()));
  const std::size_t size =
      ZSTD_compress2(context, out->data() + before, out->size() - before,
                     content.data(), content.size());
  // With a buffer of that size nothing but memory can fail.
  if (ZSTD_isError(size)) throw std::bad_alloc();
  out->resize(before + size);
}

void StreamReader::Free::operator()(ZSTD_DCtx_s* context) const {
  ZSTD_freeDCtx(context);
}

StreamReader::StreamReader() : context_(ZSTD_createDCtx()) {
  if (context_ == nullptr) throw std::bad_alloc();
}
StreamReader::~StreamReader() = default;

bool StreamReader::Read(std::string_view frame, std::span<char> out) {
  if (ZSTD_getFrameContentSize(frame.data(), frame.size()) != out.size()) {
    return false;
  }
  const std::size_t size = ZSTD_decompressDCtx(
      context_.get(), out.data(), out.size(), frame.data(), frame.size());
  return !ZSTD_isError(size) && size == out.size();
}

}  // namespace gradtap::server::tile
