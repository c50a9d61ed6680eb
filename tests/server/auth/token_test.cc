#include "server/auth/token.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "server/auth/auth_testing.h"
#include "server/auth/token_file.h"
#include "support/certificates.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::ReadWhole;
using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const char kLine[] =
    "id=3f9a0c1d role=write,read runs=vision- created=12 expires=99 sha256="
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f "
    "name=cluster-a\n";

TEST(TokenTest, TokensAreLongAndNoTwoAreAlike) {
  std::set<std::string> all;
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const auto token = MakeToken();
    GRADTAP_ASSERT_OK(token);
    EXPECT_EQ(token->size(), 60u);
    EXPECT_EQ(IdOf(*token).size(), 8u) << *token;
    all.insert(*token);
    ids.insert(std::string(IdOf(*token)));
  }
  EXPECT_EQ(all.size(), 1000u);
  EXPECT_GE(ids.size(), 999u);
}

TEST(TokenTest, WhatHasNotTheFormOfATokenHasNoId) {
  const auto token = MakeToken();
  GRADTAP_ASSERT_OK(token);
  for (const std::string& text :
       {std::string(), std::string("gradtap_"), *token + "x", token->substr(1),
        "x" + token->substr(1), std::string(100'000, 'a'),
        std::string(60, '\0')}) {
    EXPECT_EQ(IdOf(text), "");
  }
}

TEST(TokenTest, TheHashIsSha256) {
  // The example of FIPS 180-2.
  EXPECT_EQ(HashOf("abc")[0], 0xba);
  EXPECT_EQ(HashOf("abc")[31], 0xad);
  EXPECT_TRUE(SameHash(HashOf("abc"), HashOf("abc")));
  EXPECT_FALSE(SameHash(HashOf("abc"), HashOf("abd")));
}

TEST(TokenTest, WhatIsWrittenIsReadBack) {
  const auto read = ParseTokens(std::string("# a comment\n\n") + kLine);
  GRADTAP_ASSERT_OK(read);
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ((*read)[0].id, "3f9a0c1d");
  EXPECT_EQ(ToString((*read)[0].rights), "write,read");
  EXPECT_EQ((*read)[0].runs, "vision-");
  EXPECT_EQ((*read)[0].created_unix_s, 12);
  EXPECT_EQ((*read)[0].expires_unix_s, 99);
  EXPECT_EQ((*read)[0].hash[31], 0x1f);
  EXPECT_EQ((*read)[0].name, "cluster-a");
  EXPECT_THAT(FormatTokens(*read), HasSubstr(kLine));
}

TEST(TokenTest, ALineThatIsNotATokensIsNamedAndNotShown) {
  const std::string good = kLine;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string line = good;
    return line.replace(line.find(from), from.size(), to);
  };
  for (const std::string& bad :
       {with("3f9a0c1d", "3f9a"), with("3f9a0c1d", "3F9A0C1D"),
        with("role=write,read", "role=root"), with("role=write,read", "role="),
        with("runs=vision-", "runs=a/b"), with("created=12", "created=-1"),
        with("expires=99", "expires=soon"), with("sha256=00", "sha256=zz"),
        with("1f name", "1f1f name"), with("name=cluster-a", ""),
        with("name=cluster-a", "name=a only=x"),
        with("name=cluster-a", "name=a name=b"),
        with("name=cluster-a", "name=\x1b[31m"), std::string("secret\n"),
        std::string("\0\0", 2)}) {
    EXPECT_THAT(ParseTokens(good + bad),
                StatusIs(absl::StatusCode::kDataLoss,
                         AllOf(HasSubstr("line 2"), Not(HasSubstr("secret")))))
        << bad;
  }
  EXPECT_THAT(ParseTokens(good + good),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("line 2")));
}

class TokenFileTest : public ::testing::Test {
 protected:
  gradtap::testing::TempDir dir_;
  const std::string path_ = dir_.path() + "/deep/folder/tokens";
};

TEST_F(TokenFileTest, IsForItsOwnerAloneAndHasNoToken) {
  TokenMaker tokens(path_);
  const std::string token = tokens.Add("write");
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_THAT(ReadWhole(path_), Not(HasSubstr(token.substr(17))));
  EXPECT_THAT(ReadWhole(path_), HasSubstr(token.substr(8, 8)));
  const auto read = ReadTokenFile(path_);
  GRADTAP_ASSERT_OK(read);
  EXPECT_TRUE(SameHash((*read)[0].hash, HashOf(token)));
}

TEST_F(TokenFileTest, OfRootIsGivenToTheCollectorsUser) {
  const bool is_root = ::geteuid() == 0;
  const uid_t collector = is_root ? 4711 : ::geteuid();
  const std::string path = dir_.path() + "/tokens";
  const auto nothing = [](std::vector<TokenEntry>*) {
    return absl::OkStatus();
  };
  const auto owner = [&] {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return info.st_uid;
  };
  if (is_root) {
    ASSERT_EQ(::chown(dir_.path().c_str(), collector, 0), 0);
  }
  GRADTAP_ASSERT_OK(ChangeTokenFile(path, nothing));
  EXPECT_EQ(owner(), collector);
  // The file's own owner counts for more than the folder's.
  if (is_root) {
    ASSERT_EQ(::chown(dir_.path().c_str(), 0, 0), 0);
  }
  GRADTAP_ASSERT_OK(ChangeTokenFile(path, nothing));
  EXPECT_EQ(owner(), collector);
}

TEST_F(TokenFileTest, ThatOthersMayUseIsRefused) {
  TokenMaker tokens(path_);
  for (const mode_t mode : {0602, 0604, 0620, 0666}) {
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    EXPECT_THAT(
        ReadTokenFile(path_),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod 600")))
        << mode;
  }
  for (const mode_t mode : {0600, 0400, 0440}) {  // As secrets are mounted.
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    GRADTAP_EXPECT_OK(ReadTokenFile(path_));
  }
}

TEST_F(TokenFileTest, HasOneWriterAtATime) {
  TokenMaker tokens(path_);
  tokens.Add("read");
  const auto nothing = [](std::vector<TokenEntry>*) {
    return absl::OkStatus();
  };
  std::ofstream(path_ + ".new") << "half";
  EXPECT_THAT(ChangeTokenFile(path_, nothing),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("tokens.new")));
  std::filesystem::remove(path_ + ".new");
  GRADTAP_EXPECT_OK(ChangeTokenFile(path_, nothing));
}

TEST_F(TokenFileTest, AChangeThatFailsLeavesItAsItWas) {
  TokenMaker tokens(path_);
  tokens.Add("read");
  const std::string before = ReadWhole(path_);
  EXPECT_THAT(ChangeTokenFile(path_,
                              [](std::vector<TokenEntry>* entries) {
                                entries->clear();
                                return absl::NotFoundError("no");
                              }),
              StatusIs(absl::StatusCode::kNotFound, "no"));
  EXPECT_EQ(ReadWhole(path_), before);
  std::ofstream(path_) << "junk\n";
  EXPECT_THAT(
      ChangeTokenFile(
          path_, [](std::vector<TokenEntry>*) { return absl::OkStatus(); }),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("line 1")));
  EXPECT_EQ(ReadWhole(path_), "junk\n");
}

TEST_F(TokenFileTest, ThatIsNotThereIsNamed) {
  EXPECT_THAT(ReadTokenFile(path_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(path_)));
}

}  // namespace
}  // namespace gradtap::server::testing
