#include "client/cli/output.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace gradtap::client {
namespace {

TEST(FdOutputTest, WritesEverythingInOrder) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  {
    FdOutput out(ends[1]);
    EXPECT_TRUE(out.Write("one "));
    EXPECT_TRUE(out.Write("two"));
    EXPECT_TRUE(out.Flush());
  }
  ::close(ends[1]);
  char buffer[64];
  EXPECT_EQ(std::string(buffer, ::read(ends[0], buffer, sizeof(buffer))),
            "one two");
  ::close(ends[0]);
}

TEST(FdOutputTest, AGoneReaderIsRememberedAndNothingMoreIsTaken) {
  ::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  FdOutput out(ends[1]);
  EXPECT_TRUE(out.Write("x"));
  EXPECT_FALSE(out.Flush());
  EXPECT_EQ(out.error(), EPIPE);
  EXPECT_FALSE(out.Write("y"));
  ::close(ends[1]);
}

TEST(FdOutputTest, AFullDiskIsReported) {
  FILE* full = ::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  FdOutput out(::fileno(full));
  out.Write("x");
  EXPECT_FALSE(out.Flush());
  EXPECT_EQ(out.error(), ENOSPC);
  ::fclose(full);
}

}  // namespace
}  // namespace gradtap::client
