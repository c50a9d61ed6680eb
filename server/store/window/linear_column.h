// Integers that grow about evenly - steps, times, ordinals - in a few bits
// each, any of which is read by itself.
//
//   column := base:i64 last:i64 least:i64 width:u8 bits
//
// Value i of n is Line(i) + least + bits i of `width` bits, with Line the
// straight line from `base` at 0 to `last` at n - 1; all arithmetic is modulo
// 2^64, so that any integers come back. Bits go from the lowest of each byte
// on; the column ends with a full byte. n stands elsewhere.
//
// Layer: server/store/window. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_WINDOW_LINEAR_COLUMN_H_
#define GRADTAP_SERVER_STORE_WINDOW_LINEAR_COLUMN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gradtap::server {

// `values` has at least one.
void AppendLinearColumn(std::span<const std::int64_t> values, std::string* out);

// Reads a column where it stands.
class LinearColumn {
 public:
  LinearColumn() = default;

  // Takes a column of `count` values off the front of `*bytes`, which must
  // outlive it; false if they are too few. Looks at its width alone.
  static bool Take(std::string_view* bytes, std::size_t count,
                   LinearColumn* column);

  // `i` is below the count. O(1).
  std::int64_t operator[](std::size_t i) const;
  // [i] will be asked for soon.
  void Prefetch(std::size_t i) const;
  std::size_t size() const { return count_; }

 private:
  std::size_t count_ = 0;
  std::string_view bytes_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_LINEAR_COLUMN_H_
