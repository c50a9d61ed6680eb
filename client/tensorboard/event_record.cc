#include "client/tensorboard/event_record.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <cmath>
#include <cstddef>
#include <limits>

namespace gradtap::client {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;
using ::google::protobuf::io::StringOutputStream;

using Crc32c =
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true>;

enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5 };
constexpr int kSessionLog = 7;
constexpr int kSummaryValue = 1;
enum ValueField { kTag = 1, kSimpleValue = 2, kHistogram = 5 };
constexpr int kBucketLimit = 6;
constexpr int kBucket = 7;

std::uint32_t MaskedCrc(std::string_view bytes) {
  Crc32c crc;
  crc.process_bytes(bytes.data(), bytes.size());
  const std::uint32_t sum = crc.checksum();
  return ((sum >> 15) | (sum << 17)) + 0xa282ead8u;
}

// Appends fields to a string.
class Fields {
 public:
  explicit Fields(std::string* out) : stream_(out), coded_(&stream_) {}

  void Double(int field, double value) {
    WireFormatLite::WriteDouble(field, value, &coded_);
  }
  void Float(int field, float value) {
    WireFormatLite::WriteFloat(field, value, &coded_);
  }
  void Int64(int field, std::int64_t value) {
    WireFormatLite::WriteInt64(field, value, &coded_);
  }
  void Bytes(int field, std::string_view value) {
    WireFormatLite::WriteTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED,
                             &coded_);
    coded_.WriteVarint32(static_cast<std::uint32_t>(value.size()));
    coded_.WriteRaw(value.data(), static_cast<int>(value.size()));
  }
  void Doubles(int field, const std::vector<double>& values) {
    WireFormatLite::WriteTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED,
                             &coded_);
    coded_.WriteVarint32(static_cast<std::uint32_t>(8 * values.size()));
    for (const double value : values) {
      coded_.WriteLittleEndian64(WireFormatLite::EncodeDouble(value));
    }
  }

 private:
  StringOutputStream stream_;
  CodedOutputStream coded_;
};

std::string HeadOf(std::int64_t step, std::int64_t time_unix_ns) {
  std::string head;
  Fields fields(&head);
  fields.Double(kWallTime, static_cast<double>(time_unix_ns) * 1e-9);
  fields.Int64(kStep, step);
  return head;
}

// `body` as a field at the end of `*to`.
void Append(int field, std::string_view body, std::string* to) {
  Fields(to).Bytes(field, body);
}

float ToFloat(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  if (!std::isfinite(value)) return static_cast<float>(value);
  return static_cast<float>(std::clamp(value, -kMax, kMax));
}

}  // namespace

void EventRecords::AddRecord(std::string_view event) {
  const auto put = [this](std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      bytes_.push_back(static_cast<char>(value >> (8 * i)));
    }
  };
  const std::size_t length_at = bytes_.size();
  put(event.size(), 8);
  put(MaskedCrc(std::string_view(bytes_).substr(length_at)), 4);
  bytes_.append(event);
  put(MaskedCrc(event), 4);
}

void EventRecords::AddFileVersion(std::int64_t time_unix_ns) {
  std::string event = HeadOf(0, time_unix_ns);
  Append(kFileVersion, "brain.Event:2", &event);
  AddRecord(event);
}

void EventRecords::AddRestart(std::int64_t step, std::int64_t time_unix_ns) {
  std::string log;
  Fields(&log).Int64(1, 1);
  std::string event = HeadOf(step, time_unix_ns);
  Append(kSessionLog, log, &event);
  AddRecord(event);
}

void EventRecords::Begin(std::int64_t step, std::int64_t time_unix_ns) {
  head_ = HeadOf(step, time_unix_ns);
  summary_.clear();
}

void EventRecords::AddScalar(std::string_view tag, double value) {
  std::string body;
  {
    Fields fields(&body);
    fields.Bytes(kTag, tag);
    fields.Float(kSimpleValue, ToFloat(value));
  }
  Append(kSummaryValue, body, &summary_);
}

void EventRecords::AddHistogram(std::string_view tag,
                                const EventHistogram& histogram) {
  std::string numbers;
  {
    Fields fields(&numbers);
    fields.Double(1, histogram.min);
    fields.Double(2, histogram.max);
    fields.Double(3, histogram.count);
    fields.Double(4, histogram.sum);
    fields.Double(5, histogram.sum_of_squares);
    fields.Doubles(kBucketLimit, histogram.limits);
    fields.Doubles(kBucket, histogram.counts);
  }
  std::string body;
  {
    Fields fields(&body);
    fields.Bytes(kTag, tag);
    fields.Bytes(kHistogram, numbers);
  }
  Append(kSummaryValue, body, &summary_);
}

void EventRecords::End() {
  if (summary_.empty()) return;
  Append(kSummary, summary_, &head_);
  AddRecord(head_);
}

}  // namespace gradtap::client
