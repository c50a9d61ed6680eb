// Records of TensorBoard's event files: what one step shows.
//
//   file   := record*                      the first says "brain.Event:2"
//   record := length:u64 crc(length):u32 event crc(event):u32
//   event  := 1: wall_time:double 2: step:int64
//             (3: file_version | 5: summary | 7: session_log)
//   summary     := 1: value*
//   value       := 1: tag (2: simple_value:float | 5: histogram)
//   histogram   := 1: min 2: max 3: num 4: sum 5: sum_squares: doubles
//                  6: bucket_limit 7: bucket: packed doubles
//   session_log := 1: status; 1 means: from this step on all over again
//
// Integers are little-endian, an event is protobuf's wire format with those
// field numbers; crc(x) is CRC-32C rotated right by 15 bits, plus 0xa282ead8.
// Source: TensorFlow's documentation of TFRecord, event.proto, summary.proto
// and histogram.proto.
//
// Layer: client/tensorboard. This file: std.

#ifndef GRADTAP_CLIENT_TENSORBOARD_EVENT_RECORD_H_
#define GRADTAP_CLIENT_TENSORBOARD_EVENT_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap::client {

// As many limits as counts: a bin ends at its limit and begins at the one
// before. Of the finite elements.
struct EventHistogram {
  double min = 0, max = 0;
  double count = 0, sum = 0, sum_of_squares = 0;
  std::vector<double> limits;
  std::vector<double> counts;
};

// One record after the other, as the bytes of a file.
class EventRecords {
 public:
  // What a file begins with.
  void AddFileVersion(std::int64_t time_unix_ns);
  // TensorBoard forgets what it has from `step` on: the steps come again.
  void AddRestart(std::int64_t step, std::int64_t time_unix_ns);

  // A step: Begin(), its values, End(). Without a value there is no record.
  void Begin(std::int64_t step, std::int64_t time_unix_ns);
  // A finite value that no float holds becomes the largest one.
  void AddScalar(std::string_view tag, double value);
  void AddHistogram(std::string_view tag, const EventHistogram& histogram);
  void End();

  const std::string& bytes() const { return bytes_; }
  void Clear() { bytes_.clear(); }

 private:
  void AddRecord(std::string_view event);

  std::string bytes_;
  // Of the step that has begun.
  std::string head_;
  std::string summary_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_TENSORBOARD_EVENT_RECORD_H_
