#include "server/forward/write_request.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>
#include <snappy.h>

namespace gradtap::server {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;
using ::google::protobuf::io::StringOutputStream;

void PutBytes(int field, const std::string& bytes, CodedOutputStream* out) {
  WireFormatLite::WriteTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED,
                           out);
  out->WriteVarint32(static_cast<std::uint32_t>(bytes.size()));
  out->WriteString(bytes);
}

std::string Encode(const promql::SampledSeries& series) {
  std::string text;
  StringOutputStream stream(&text);
  CodedOutputStream out(&stream);
  std::string part;
  for (const auto& [name, value] : series.labels) {
    part.clear();
    {
      StringOutputStream label_stream(&part);
      CodedOutputStream label(&label_stream);
      PutBytes(1, name, &label);
      PutBytes(2, value, &label);
    }
    PutBytes(1, part, &out);
  }
  for (const promql::Sample& sample : series.samples) {
    part.clear();
    {
      StringOutputStream sample_stream(&part);
      CodedOutputStream one(&sample_stream);
      WireFormatLite::WriteDouble(1, sample.value, &one);
      WireFormatLite::WriteInt64(2, sample.time_ms, &one);
    }
    PutBytes(2, part, &out);
  }
  out.Trim();
  return text;
}

}  // namespace

std::string EncodeWriteRequest(
    const std::vector<promql::SampledSeries>& series) {
  std::string request;
  {
    StringOutputStream stream(&request);
    CodedOutputStream out(&stream);
    for (const promql::SampledSeries& one : series) {
      if (!one.samples.empty()) PutBytes(1, Encode(one), &out);
    }
  }
  std::string body;
  snappy::Compress(request.data(), request.size(), &body);
  return body;
}

}  // namespace gradtap::server
