// A reader of TensorBoard's event files, written from the format's
// documentation, apart from the writer.

#ifndef GRADTAP_TESTS_CLIENT_TFEVENTS_READER_H_
#define GRADTAP_TESTS_CLIENT_TFEVENTS_READER_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap::client::testing {

struct TfHistogram {
  double min = 0, max = 0, num = 0, sum = 0, sum_squares = 0;
  std::vector<double> limit, bucket;
};

struct TfValue {
  std::string tag;
  std::optional<float> simple_value;
  std::optional<TfHistogram> histogram;
};

struct TfEvent {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version;
  int session_status = 0;
  std::vector<TfValue> values;
};

// Bit by bit, with the reflected polynomial.
inline std::uint32_t BitwiseCrc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) {
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
  }
  return ~crc;
}

// Throws std::runtime_error where it is no event file.
class TfReader {
 public:
  static std::vector<TfEvent> ReadFile(std::string_view bytes) {
    std::vector<TfEvent> events;
    while (!bytes.empty()) {
      const std::string_view length = Take(&bytes, 8);
      CheckCrc(length, Take(&bytes, 4));
      const std::string_view data = Take(&bytes, Number(length));
      CheckCrc(data, Take(&bytes, 4));
      events.push_back(Event(data));
    }
    return events;
  }

 private:
  struct Field {
    std::uint64_t number = 0;
    std::uint64_t varint = 0;
    std::string_view bytes;  // Of types 1, 2 and 5.
  };

  static std::string_view Take(std::string_view* from, std::uint64_t n) {
    if (from->size() < n) throw std::runtime_error("a record is cut off");
    const std::string_view taken = from->substr(0, n);
    from->remove_prefix(n);
    return taken;
  }
  static std::uint64_t Number(std::string_view little_endian) {
    std::uint64_t value = 0;
    for (std::size_t i = little_endian.size(); i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(little_endian[i]);
    }
    return value;
  }
  static void CheckCrc(std::string_view data, std::string_view masked) {
    const auto rotated =
        static_cast<std::uint32_t>(Number(masked)) - 0xa282ead8u;
    if (((rotated >> 17) | (rotated << 15)) != BitwiseCrc32c(data)) {
      throw std::runtime_error("a checksum is wrong");
    }
  }
  static std::uint64_t Varint(std::string_view* from) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(Take(from, 1)[0]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("a varint does not end");
  }
  static std::vector<Field> Fields(std::string_view message) {
    std::vector<Field> fields;
    while (!message.empty()) {
      const std::uint64_t tag = Varint(&message);
      Field field;
      field.number = tag >> 3;
      switch (tag & 7) {
        case 0:
          field.varint = Varint(&message);
          break;
        case 1:
          field.bytes = Take(&message, 8);
          break;
        case 2:
          field.bytes = Take(&message, Varint(&message));
          break;
        case 5:
          field.bytes = Take(&message, 4);
          break;
        default:
          throw std::runtime_error("a field of unknown type");
      }
      fields.push_back(field);
    }
    return fields;
  }
  template <typename T>
  static T Float(std::string_view bytes) {
    T value;
    if (bytes.size() != sizeof(value)) throw std::runtime_error("bad float");
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  static std::vector<double> Doubles(std::string_view packed) {
    std::vector<double> values;
    while (!packed.empty()) values.push_back(Float<double>(Take(&packed, 8)));
    return values;
  }

  static TfHistogram Histogram(std::string_view message) {
    TfHistogram histogram;
    for (const Field& field : Fields(message)) {
      switch (field.number) {
        case 1:
          histogram.min = Float<double>(field.bytes);
          break;
        case 2:
          histogram.max = Float<double>(field.bytes);
          break;
        case 3:
          histogram.num = Float<double>(field.bytes);
          break;
        case 4:
          histogram.sum = Float<double>(field.bytes);
          break;
        case 5:
          histogram.sum_squares = Float<double>(field.bytes);
          break;
        case 6:
          histogram.limit = Doubles(field.bytes);
          break;
        case 7:
          histogram.bucket = Doubles(field.bytes);
          break;
        default:
          throw std::runtime_error("unknown field of a histogram");
      }
    }
    return histogram;
  }
  static TfValue Value(std::string_view message) {
    TfValue value;
    for (const Field& field : Fields(message)) {
      switch (field.number) {
        case 1:
          value.tag = std::string(field.bytes);
          break;
        case 2:
          value.simple_value = Float<float>(field.bytes);
          break;
        case 5:
          value.histogram = Histogram(field.bytes);
          break;
        default:
          throw std::runtime_error("unknown field of a value");
      }
    }
    return value;
  }
  static TfEvent Event(std::string_view message) {
    TfEvent event;
    for (const Field& field : Fields(message)) {
      switch (field.number) {
        case 1:
          event.wall_time = Float<double>(field.bytes);
          break;
        case 2:
          event.step = static_cast<std::int64_t>(field.varint);
          break;
        case 3:
          event.file_version = std::string(field.bytes);
          break;
        case 5:
          for (const Field& value : Fields(field.bytes)) {
            event.values.push_back(Value(value.bytes));
          }
          break;
        case 7:
          for (const Field& log : Fields(field.bytes)) {
            if (log.number == 1) {
              event.session_status = static_cast<int>(log.varint);
            }
          }
          break;
        default:
          throw std::runtime_error("unknown field of an event");
      }
    }
    return event;
  }
};

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_TFEVENTS_READER_H_
