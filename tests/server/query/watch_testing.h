// Messages of a watch as their reader sees them.

#ifndef GRADTAP_TESTS_SERVER_QUERY_WATCH_TESTING_H_
#define GRADTAP_TESTS_SERVER_QUERY_WATCH_TESTING_H_

#include <gtest/gtest.h>

#include <string>

#include "gradtap/v1/query.pb.h"
#include "server/query/watch_cursor.h"

namespace gradtap::server::testing {

inline v1::WatchResponse Parsed(const WatchMessage& message) {
  std::string bytes;
  if (message.event != nullptr) {
    bytes = message.event->head + message.event->rows;
  }
  v1::WatchResponse parsed;
  EXPECT_TRUE(parsed.ParseFromString(bytes + message.rest));
  return parsed;
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_QUERY_WATCH_TESTING_H_
