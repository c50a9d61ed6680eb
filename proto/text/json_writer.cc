#include "proto/text/json_writer.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/wrappers.pb.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "core/json_text.h"

namespace gradtap {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::size_t kPieceBytes = std::size_t{16} << 10;

class JsonWriter {
 public:
  explicit JsonWriter(const TextSink& sink) : sink_(sink) {
    text_.reserve(kPieceBytes + 1024);
  }

  bool Run(const Message& message) {
    if (!Write(message)) return false;
    text_ += '\n';
    return sink_(text_);
  }

 private:
  // Each false: the sink wants no more.
  bool Write(const Message& message) {
    const Reflection& reflection = *message.GetReflection();
    const auto& type = *message.GetDescriptor();
    text_ += '{';
    bool first = true;
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (!field.is_repeated() && field.has_presence() &&
          !reflection.HasField(message, &field)) {
        continue;
      }
      if (!first) text_ += ',';
      first = false;
      text_ += '"';
      text_ += field.json_name();
      text_ += "\":";
      const bool more = field.is_repeated()
                            ? WriteAll(message, reflection, field)
                            : WriteOne(message, reflection, field);
      if (!more) return false;
    }
    text_ += '}';
    return HandOver();
  }

  bool WriteAll(const Message& message, const Reflection& reflection,
                const FieldDescriptor& field) {
    const int size = reflection.FieldSize(message, &field);
    text_ += '[';
    for (int i = 0; i < size; ++i) {
      if (i > 0) text_ += ',';
      if (!WriteElement(message, reflection, field, i)) return false;
    }
    text_ += ']';
    return true;
  }

  bool WriteOne(const Message& message, const Reflection& reflection,
                const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return Add(reflection.GetInt32(message, &field));
      case FieldDescriptor::CPPTYPE_INT64:
        return Quote(reflection.GetInt64(message, &field));
      case FieldDescriptor::CPPTYPE_UINT32:
        return Add(reflection.GetUInt32(message, &field));
      case FieldDescriptor::CPPTYPE_UINT64:
        return Quote(reflection.GetUInt64(message, &field));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return AddReal(reflection.GetDouble(message, &field));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return AddReal(reflection.GetFloat(message, &field));
      case FieldDescriptor::CPPTYPE_BOOL:
        return AddBool(reflection.GetBool(message, &field));
      case FieldDescriptor::CPPTYPE_ENUM:
        return AddEnum(field, reflection.GetEnumValue(message, &field));
      case FieldDescriptor::CPPTYPE_STRING:
        return AddText(
            field, reflection.GetStringReference(message, &field, &scratch_));
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Write(reflection.GetMessage(message, &field));
    }
    return false;
  }

  bool WriteElement(const Message& message, const Reflection& reflection,
                    const FieldDescriptor& field, int i) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return Add(reflection.GetRepeatedInt32(message, &field, i));
      case FieldDescriptor::CPPTYPE_INT64:
        return Quote(reflection.GetRepeatedInt64(message, &field, i));
      case FieldDescriptor::CPPTYPE_UINT32:
        return Add(reflection.GetRepeatedUInt32(message, &field, i));
      case FieldDescriptor::CPPTYPE_UINT64:
        return Quote(reflection.GetRepeatedUInt64(message, &field, i));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return AddReal(reflection.GetRepeatedDouble(message, &field, i));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return AddReal(reflection.GetRepeatedFloat(message, &field, i));
      case FieldDescriptor::CPPTYPE_BOOL:
        return AddBool(reflection.GetRepeatedBool(message, &field, i));
      case FieldDescriptor::CPPTYPE_ENUM:
        return AddEnum(field,
                       reflection.GetRepeatedEnumValue(message, &field, i));
      case FieldDescriptor::CPPTYPE_STRING:
        return AddText(field, reflection.GetRepeatedStringReference(
                                  message, &field, i, &scratch_));
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Write(reflection.GetRepeatedMessage(message, &field, i));
    }
    return false;
  }

  template <typename Number>
  void Put(Number value) {
    char buffer[32];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
    text_.append(buffer, end.ptr);
  }

  template <typename Number>
  bool Add(Number value) {
    Put(value);
    return HandOver();
  }

  // Of 64 bits: readers have doubles.
  template <typename Number>
  bool Quote(Number value) {
    text_ += '"';
    Put(value);
    text_ += '"';
    return HandOver();
  }

  template <typename Number>
  bool AddReal(Number value) {
    // What has no number of its own.
    if (!std::isfinite(value) || (value == 0 && std::signbit(value))) {
      text_ += JsonNumber(value);
      return HandOver();
    }
    return Add(value);
  }

  bool AddBool(bool value) {
    text_ += value ? "true" : "false";
    return HandOver();
  }

  bool AddEnum(const FieldDescriptor& field, int value) {
    const EnumValueDescriptor* name =
        field.enum_type()->FindValueByNumber(value);
    if (name == nullptr) return Add(value);
    text_ += '"';
    text_ += name->name();
    text_ += '"';
    return HandOver();
  }

  bool AddText(const FieldDescriptor& field, const std::string& value) {
    if (field.type() == FieldDescriptor::TYPE_BYTES) {
      text_ += '"';
      text_ += absl::Base64Escape(value);
      text_ += '"';
    } else {
      AddString(value);
    }
    return HandOver();
  }

  // What is not plain is escaped as protobuf does it.
  void AddString(const std::string& value) {
    const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
      return c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '<' &&
             c != '>';
    });
    if (plain) {
      text_ += '"';
      text_ += value;
      text_ += '"';
      return;
    }
    google::protobuf::StringValue string;
    string.set_value(value);
    std::string json;
    const auto status =
        google::protobuf::util::MessageToJsonString(string, &json);
    text_ += status.ok() ? json : JsonString(value);
  }

  // What there is, if it is a piece.
  bool HandOver() {
    if (text_.size() < kPieceBytes) return true;
    const bool more = sink_(text_);
    text_.clear();
    return more;
  }

  const TextSink& sink_;
  std::string text_;
  std::string scratch_;
};

}  // namespace

bool WriteJson(const Message& message, const TextSink& sink) {
  return JsonWriter(sink).Run(message);
}

}  // namespace gradtap
