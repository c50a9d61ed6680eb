#include "proto/text/json_writer.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gradtap/v1/query.pb.h"
#include "proto/text/json_mapping.h"

namespace gradtap {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// All that the queries answer, and what is in it.
std::vector<const Descriptor*> Answers() {
  std::vector<const Descriptor*> found;
  std::set<const Descriptor*> known;
  const auto add = [&](const Descriptor* type) {
    if (known.insert(type).second) found.push_back(type);
  };
  const auto* query = v1::GetSeriesResponse::descriptor()->file();
  for (int i = 0; i < query->service(0)->method_count(); ++i) {
    add(query->service(0)->method(i)->output_type());
  }
  for (std::size_t at = 0; at < found.size(); ++at) {
    for (int i = 0; i < found[at]->field_count(); ++i) {
      const Descriptor* type = found[at]->field(i)->message_type();
      if (type != nullptr) add(type);
    }
  }
  return found;
}

// Fills messages with what is hard to write.
class Filler {
 public:
  void Fill(Message* message, int depth = 0) {
    const Descriptor& type = *message->GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (Below(4) == 0) continue;
      const int times = field.is_repeated() ? Below(5) : 1;
      for (int n = 0; n < times; ++n) Set(message, field, depth);
    }
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % n); }

  template <typename T>
  T Integer() {
    constexpr T kHard[] = {0, 1, std::numeric_limits<T>::min(),
                           std::numeric_limits<T>::max()};
    return Below(2) == 0 ? kHard[Below(4)] : static_cast<T>(random_());
  }
  template <typename T>
  T Real() {
    using Limits = std::numeric_limits<T>;
    const T hard[] = {0,
                      -T{0},
                      T(0.1),
                      100'000,
                      Limits::quiet_NaN(),
                      Limits::infinity(),
                      -Limits::infinity(),
                      Limits::denorm_min(),
                      Limits::max()};
    if (Below(2) == 0) return hard[Below(9)];
    const T any =
        sizeof(T) == 4
            ? T(std::bit_cast<float>(static_cast<std::uint32_t>(random_())))
            : T(std::bit_cast<double>(random_()));
    return std::isnan(any) ? Limits::quiet_NaN() : any;
  }
  std::string Text() {
    const char* const hard[] = {"", "fc1.weight",
                                "\"-0\", </script>\\\n\x01\x7f",
                                "\xc2\x85 \xe2\x80\xae \xe6\x9d\x83 -0"};
    return Below(20) == 0 ? std::string(100'000, 'x') : hard[Below(4)];
  }
  std::string Bytes() {
    std::string bytes(Below(20), '\0');
    for (char& c : bytes) c = static_cast<char>(random_());
    return bytes;
  }

  void Set(Message* to, const FieldDescriptor& field, int depth) {
    const Reflection& by = *to->GetReflection();
    const bool many = field.is_repeated();
    const auto set = [&](auto add, auto put, auto value) {
      many ? (by.*add)(to, &field, value) : (by.*put)(to, &field, value);
    };
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return set(&Reflection::AddInt32, &Reflection::SetInt32,
                   Integer<std::int32_t>());
      case FieldDescriptor::CPPTYPE_INT64:
        return set(&Reflection::AddInt64, &Reflection::SetInt64,
                   Integer<std::int64_t>());
      case FieldDescriptor::CPPTYPE_UINT32:
        return set(&Reflection::AddUInt32, &Reflection::SetUInt32,
                   Integer<std::uint32_t>());
      case FieldDescriptor::CPPTYPE_UINT64:
        return set(&Reflection::AddUInt64, &Reflection::SetUInt64,
                   Integer<std::uint64_t>());
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return set(&Reflection::AddDouble, &Reflection::SetDouble,
                   Real<double>());
      case FieldDescriptor::CPPTYPE_FLOAT:
        return set(&Reflection::AddFloat, &Reflection::SetFloat, Real<float>());
      case FieldDescriptor::CPPTYPE_BOOL:
        return set(&Reflection::AddBool, &Reflection::SetBool, Below(2) == 1);
      case FieldDescriptor::CPPTYPE_ENUM:  // One has no name.
        return set(&Reflection::AddEnumValue, &Reflection::SetEnumValue,
                   Below(5) == 0 ? 1000 : Below(3));
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string value =
            field.type() == FieldDescriptor::TYPE_BYTES ? Bytes() : Text();
        return many ? by.AddString(to, &field, std::move(value))
                    : by.SetString(to, &field, std::move(value));
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth > 4) return;
        return Fill(
            many ? by.AddMessage(to, &field) : by.MutableMessage(to, &field),
            depth + 1);
    }
  }

  std::mt19937_64 random_{11};
};

std::string TextOf(const Message& message) {
  std::string text;
  EXPECT_TRUE(WriteJson(message, [&text](std::string_view piece) {
    text += piece;
    return true;
  }));
  return text;
}

// Numbers as float32 has them: some are of that type, and may have more digits.
// By reflection: what headers say of maps has, with ThreadSanitizer, another
// layout than in a library without.
void Round(Message* message) {
  const Reflection& by = *message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  by.ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      const double value = by.GetDouble(*message, field);
      by.SetDouble(message, field, static_cast<float>(value));
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      continue;
    } else if (!field->is_repeated()) {
      Round(by.MutableMessage(message, field));
    } else {
      for (int i = 0; i < by.FieldSize(*message, field); ++i) {
        Round(by.MutableRepeatedMessage(message, field, i));
      }
    }
  }
}

// What JSON says, whatever its order.
google::protobuf::Value Parsed(const std::string& json) {
  google::protobuf::Value value;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &value);
  EXPECT_TRUE(status.ok()) << json.substr(0, 1000);
  Round(&value);
  return value;
}

TEST(JsonWriterTest, SaysWhatProtobufSaysOfAllAnswers) {
  Filler filler;
  for (const Descriptor* type : Answers()) {
    for (int round = 0; round < 60; ++round) {
      const std::unique_ptr<Message> message(
          google::protobuf::MessageFactory::generated_factory()
              ->GetPrototype(type)
              ->New());
      if (round > 0) filler.Fill(message.get());
      const std::string text = TextOf(*message);
      ASSERT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
      EXPECT_EQ(text.back(), '\n');
      const std::unique_ptr<Message> back(message->New());
      const absl::Status read = FromJson(text, back.get());
      ASSERT_TRUE(read.ok()) << type->full_name() << ": " << read;
      ASSERT_EQ(back->SerializeAsString(), message->SerializeAsString())
          << text.substr(0, 1000);
      const auto pretty = ToJson(*message, JsonLayout::kPretty);
      ASSERT_TRUE(pretty.ok());
      ASSERT_EQ(Parsed(text).DebugString(), Parsed(*pretty).DebugString());
    }
  }
}

TEST(JsonWriterTest, AnswersHaveNothingThatItDoesNotWrite) {
  ASSERT_GT(Answers().size(), 30u);
  for (const Descriptor* type : Answers()) {
    EXPECT_EQ(type->file()->package(), "gradtap.v1") << type->full_name();
    EXPECT_EQ(type->extension_range_count(), 0) << type->full_name();
    for (int i = 0; i < type->field_count(); ++i) {
      EXPECT_FALSE(type->field(i)->is_map()) << type->field(i)->full_name();
    }
  }
}

TEST(JsonWriterTest, NoNameIsMarkup) {
  v1::GetRunRequest request;
  request.set_run("</script>\n<script>\xe6\x9d\x83");
  EXPECT_EQ(
      TextOf(request),
      "{\"run\":\"\\u003c/script\\u003e\\n\\u003cscript\\u003e\xe6\x9d\x83\"}"
      "\n");
}

TEST(JsonWriterTest, HandsOverPiecesAndStopsWhenNoMoreAreWanted) {
  v1::GetSeriesResponse answer;
  v1::Series* series = answer.add_series();
  for (int i = 0; i < 100'000; ++i) {
    series->add_step(i);
    series->add_value(0.1 * i);
  }
  std::size_t pieces = 0, longest = 0;
  EXPECT_TRUE(WriteJson(answer, [&](std::string_view piece) {
    ++pieces;
    longest = std::max(longest, piece.size());
    return true;
  }));
  EXPECT_GT(pieces, 50u);
  EXPECT_LT(longest, 20'000u);
  std::size_t taken = 0;
  EXPECT_FALSE(
      WriteJson(answer, [&](std::string_view) { return ++taken < 3; }));
  EXPECT_EQ(taken, 3u);
}

}  // namespace
}  // namespace gradtap
