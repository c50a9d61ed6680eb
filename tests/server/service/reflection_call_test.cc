#include "server/service/reflection_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/wire.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Ask(std::uint32_t field, const std::string& what) {
  // The file is in the pool because somebody uses it.
  EXPECT_NE(v1::GetRunRequest::descriptor(), nullptr);
  std::string request;
  wire::AppendBytesField(field, what, &request);
  return ReflectionAnswer(request, {"one.Service", "another.Service"});
}

TEST(ReflectionAnswerTest, ASymbolComesWithItsFileAndAllThatItImports) {
  for (const std::string& answer :
       {Ask(4, "gradtap.v1.Query"), Ask(4, "gradtap.v1.Query.GetRun"),
        Ask(3, "gradtap/v1/query.proto")}) {
    EXPECT_THAT(answer, AllOf(HasSubstr("gradtap/v1/query.proto"),
                              HasSubstr("gradtap/v1/record.proto"),
                              HasSubstr("GetHeatMapRequest")));
  }
  EXPECT_THAT(Ask(3, "gradtap/v1/record.proto"),
              Not(HasSubstr("gradtap/v1/query.proto")));
}

TEST(ReflectionAnswerTest, ServicesAreListedWhateverIsAskedFor) {
  for (const char* what : {"", "*"}) {
    EXPECT_THAT(Ask(7, what),
                AllOf(HasSubstr("one.Service"), HasSubstr("another.Service")));
  }
}

TEST(ReflectionAnswerTest, WhatIsNotThereIsAnErrorInOneSafeLine) {
  const std::string none = "there is no 'no.Such' here";
  EXPECT_THAT(Ask(4, "no.Such"), HasSubstr(none));
  EXPECT_THAT(Ask(3, "no.Such"), HasSubstr(none));
  EXPECT_THAT(Ask(5, "x"), HasSubstr("there is no 'extension' here"));
  EXPECT_THAT(Ask(6, "x"), HasSubstr("there is no 'extension' here"));
  const std::string hostile = Ask(4, "\x1b[31m" + std::string(100'000, 'x'));
  EXPECT_THAT(hostile, HasSubstr("there is no '\\x1b[31mxxx"));
  for (const std::string& request : {std::string(), std::string("\xff\xff"),
                                     std::string("\x22\x7f"
                                                 "x")}) {
    EXPECT_THAT(ReflectionAnswer(request, {}),
                HasSubstr("there is no 'request' here"));
  }
}

}  // namespace
}  // namespace gradtap::server
