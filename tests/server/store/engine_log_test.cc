// RocksDB's warnings as a file, also where nothing can be written.

#include "server/store/engine_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// While it is there no file grows beyond `bytes`, as on a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &all_), 0);
    rlimit few = all_;
    few.rlim_cur = bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &few), 0);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &all_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  void (*const handler_)(int);
  rlimit all_{};
};

constexpr char kStamp[] = "[0-9-]{10}T[0-9:]{8}Z ";

class EngineLogTest : public ::testing::Test {
 protected:
  std::string Read(const std::string& name) const {
    std::ifstream file(dir_.path() + "/" + name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  const gradtap::testing::TempDir dir_;
};

TEST_F(EngineLogTest, AWarningIsALineAndANoteIsNone) {
  EngineLog log(dir_.path());
  rocksdb::Header(&log, "Options.ttl: %d", 1);
  rocksdb::Info(&log, "opened");
  rocksdb::Warn(&log, "waits for %d of %s\n", 2, "three");
  rocksdb::Error(&log, "no space");
  EXPECT_THAT(Read("LOG"), MatchesRegex(std::string(kStamp) +
                                        "warning waits for 2 of "
                                        "three\n" +
                                        kStamp + "error no space\n"));
}

TEST_F(EngineLogTest, TheOneBeforeIsKept) {
  rocksdb::Warn(std::make_unique<EngineLog>(dir_.path()).get(), "first");
  EngineLog log(dir_.path());
  EXPECT_THAT(Read("LOG"), IsEmpty());
  EXPECT_THAT(Read("LOG.old"),
              MatchesRegex(std::string(kStamp) + "warning first\n"));
}

TEST_F(EngineLogTest, OneThatSaysNothingDoesNotTakeItsPlace) {
  rocksdb::Warn(std::make_unique<EngineLog>(dir_.path()).get(), "first");
  for (int i = 0; i < 3; ++i) EngineLog log(dir_.path());
  EXPECT_THAT(Read("LOG.old"),
              MatchesRegex(std::string(kStamp) + "warning first\n"));
}

TEST_F(EngineLogTest, AfterHalfALineComesAnother) {
  EngineLog log(dir_.path());
  {
    const FullDisk full(10);
    rocksdb::Error(&log, "first");
  }
  rocksdb::Error(&log, "second");
  EXPECT_THAT(Read("LOG"), MatchesRegex("[0-9-]{10}\n" + std::string(kStamp) +
                                        "error second\n"));
}

TEST_F(EngineLogTest, ALineThatDoesNotFitTheDiskIsLeftOut) {
  EngineLog log(dir_.path());
  {
    const FullDisk full(0);
    rocksdb::Error(&log, "first");
    rocksdb::Error(&log, "second");
  }
  rocksdb::Error(&log, "third");
  EXPECT_THAT(Read("LOG"), MatchesRegex(std::string(kStamp) + "error third\n"));
}

TEST_F(EngineLogTest, WithoutItsFolderItBeginsWhenThereIsOne) {
  const std::string dir = dir_.path() + "/later";
  EngineLog log(dir);
  rocksdb::Warn(&log, "first");
  ASSERT_TRUE(std::filesystem::create_directory(dir));
  rocksdb::Warn(&log, "second");
  EXPECT_THAT(Read("later/LOG"),
              MatchesRegex(std::string(kStamp) + "warning second\n"));
}

TEST_F(EngineLogTest, ItTakesTwiceItsMostBytesWithTheOldOne) {
  EngineLog log(dir_.path());
  const std::string text(4000, 'x');
  for (std::size_t n = 0; n < 3 * EngineLog::kMostBytes; n += text.size()) {
    rocksdb::Warn(&log, "%s", text.c_str());
  }
  EXPECT_LE(Read("LOG").size(), EngineLog::kMostBytes);
  EXPECT_LE(Read("LOG.old").size(), EngineLog::kMostBytes);
  EXPECT_GT(Read("LOG.old").size(), EngineLog::kMostBytes - 2 * text.size());
}

}  // namespace
}  // namespace gradtap::server::testing
