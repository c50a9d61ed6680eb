// Short replacements for absl/status/status_matchers.h, which the packaged
// Abseil lacks; same names, so that this file can go one day.

#ifndef GRADTAP_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define GRADTAP_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap::testing {

inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, "is OK") {
  const absl::Status& status = GetStatus(arg);
  if (!status.ok()) *result_listener << status.ToString();
  return status.ok();
}

MATCHER_P2(StatusIs, code, message_matcher, "has the status") {
  const absl::Status& status = GetStatus(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::Matches(message_matcher)(std::string(status.message()));
}

}  // namespace gradtap::testing

#define GRADTAP_ASSERT_OK(expr) ASSERT_THAT((expr), ::gradtap::testing::IsOk())
#define GRADTAP_EXPECT_OK(expr) EXPECT_THAT((expr), ::gradtap::testing::IsOk())

#endif  // GRADTAP_TESTS_SUPPORT_STATUS_MATCHERS_H_
