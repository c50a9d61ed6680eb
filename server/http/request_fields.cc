#include "server/http/request_fields.h"

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <iterator>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::EnumDescriptor;
using ::google::protobuf::EnumValueDescriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

// Of a value in a message.
constexpr std::size_t kMostShown = 100;

std::string Shown(std::string_view text) {
  std::string shown = EscapeForTerminal(text.substr(0, kMostShown));
  if (text.size() > kMostShown) shown += "...";
  return shown;
}

absl::Status Bad(const std::string& name, const std::string& value,
                 const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat(Shown(name), "=", Shown(value),
                                                 ": ", wanted, " is expected"));
}

const FieldDescriptor* FindField(const Descriptor& type,
                                 const std::string& name) {
  const FieldDescriptor* field = type.FindFieldByName(name);
  return field != nullptr ? field : type.FindFieldByCamelcaseName(name);
}

// `known`: the part of the name that leads to a message of this type.
absl::Status Unknown(const std::string& name, const std::string& known,
                     const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) {
    names.push_back(known + type.field(i)->name());
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no parameter '", Shown(name), "'; ",
      names.empty() ? "there are none"
                    : absl::StrCat("there are ", absl::StrJoin(names, ", "))));
}

// ROLE_GRAD of Role: GRAD.
std::string_view WithoutPrefix(const EnumValueDescriptor& value) {
  const std::string_view name = value.name();
  const EnumDescriptor& type = *value.type();
  const std::string_view zero = type.value(0)->name();
  constexpr std::string_view kUnspecified = "UNSPECIFIED";
  if (!zero.ends_with(kUnspecified)) return name;
  const std::size_t prefix = zero.size() - kUnspecified.size();
  return name.substr(0, prefix) == zero.substr(0, prefix) ? name.substr(prefix)
                                                          : name;
}

const EnumValueDescriptor* FindValue(const EnumDescriptor& type,
                                     const std::string& text) {
  const std::string upper = absl::AsciiStrToUpper(text);
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor* value = type.value(i);
    if (upper == value->name() || upper == WithoutPrefix(*value)) return value;
  }
  return nullptr;
}

std::string ValuesOf(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 1; i < type.value_count(); ++i) {
    names.push_back(
        absl::AsciiStrToLower(std::string(WithoutPrefix(*type.value(i)))));
  }
  return absl::StrJoin(names, ", ");
}

// Sets a field, or adds to one that repeats.
class Setter {
 public:
  Setter(const FieldDescriptor* field, Message* message)
      : field_(field), message_(message), of_(message->GetReflection()) {}

  absl::Status Set(const std::string& name, const std::string& value) {
    switch (field_->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (field_->type() == FieldDescriptor::TYPE_STRING &&
            !IsValidUtf8(value)) {
          return Bad(name, value, "text in UTF-8");
        }
        Put(&Reflection::SetString, &Reflection::AddString, value);
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_INT64:
        return Number<std::int64_t>(name, value, &Reflection::SetInt64,
                                    &Reflection::AddInt64, "a number");
      case FieldDescriptor::CPPTYPE_UINT64:
        return Number<std::uint64_t>(name, value, &Reflection::SetUInt64,
                                     &Reflection::AddUInt64,
                                     "a number of 0 or more");
      case FieldDescriptor::CPPTYPE_UINT32:
        return Number<std::uint32_t>(name, value, &Reflection::SetUInt32,
                                     &Reflection::AddUInt32,
                                     "a number of 0 to 4294967295");
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double number = 0;
        if (!absl::SimpleAtod(value, &number)) {
          return Bad(name, value, "a number");
        }
        Put(&Reflection::SetDouble, &Reflection::AddDouble, number);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_BOOL: {
        bool flag = false;
        if (!absl::SimpleAtob(value, &flag)) {
          return Bad(name, value, "true or false");
        }
        Put(&Reflection::SetBool, &Reflection::AddBool, flag);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const EnumValueDescriptor* known =
            FindValue(*field_->enum_type(), value);
        if (known == nullptr) {
          return Bad(name, value,
                     absl::StrCat("one of ", ValuesOf(*field_->enum_type())));
        }
        Put(&Reflection::SetEnum, &Reflection::AddEnum, known);
        return absl::OkStatus();
      }
      default:
        return absl::InvalidArgumentError(
            absl::StrCat(Shown(name),
                         " cannot stand in a URL; POST the "
                         "request as JSON"));
    }
  }

 private:
  template <typename SetMethod, typename AddMethod, typename Value>
  void Put(SetMethod set, AddMethod add, const Value& value) {
    if (field_->is_repeated()) {
      (of_->*add)(message_, field_, value);
    } else {
      (of_->*set)(message_, field_, value);
    }
  }

  template <typename Value, typename SetMethod, typename AddMethod>
  absl::Status Number(const std::string& name, const std::string& text,
                      SetMethod set, AddMethod add, const char* wanted) {
    Value value = 0;
    if (!absl::SimpleAtoi(text, &value)) return Bad(name, text, wanted);
    Put(set, add, value);
    return absl::OkStatus();
  }

  const FieldDescriptor* const field_;
  Message* const message_;
  const Reflection* const of_;
};

// The first `begin` bytes of `name` led to `message`.
absl::Status SetField(const std::string& name, std::size_t begin,
                      const std::string& value, Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  const std::size_t dot = name.find('.', begin);
  const FieldDescriptor* field =
      FindField(type, name.substr(begin, dot - begin));
  if (field == nullptr) return Unknown(name, name.substr(0, begin), type);
  const bool leads_on = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                        !field->is_repeated();
  if (dot == std::string::npos && !leads_on) {
    return Setter(field, message).Set(name, value);
  }
  if (leads_on) {
    Message* inner = message->GetReflection()->MutableMessage(message, field);
    if (dot != std::string::npos) {
      return SetField(name, dot + 1, value, inner);
    }
    return Unknown(name, name + ".", *inner->GetDescriptor());
  }
  return Unknown(name, name.substr(0, begin), type);
}

}  // namespace

absl::Status SetFields(const UrlParameters& parameters, Message* request) {
  for (auto it = parameters.begin(); it != parameters.end(); ++it) {
    const FieldDescriptor* field =
        FindField(*request->GetDescriptor(), it->first);
    // Equal names stand side by side.
    const auto next = std::next(it);
    if (next != parameters.end() && next->first == it->first &&
        (field == nullptr || !field->is_repeated())) {
      return absl::InvalidArgumentError(
          absl::StrCat(Shown(it->first), " stands there more than once"));
    }
    absl::Status status = SetField(it->first, 0, it->second, request);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
