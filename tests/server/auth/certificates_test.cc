#include "server/auth/certificates.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "server/auth/auth_testing.h"
#include "support/certificates.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::MadeCertificate;
using ::gradtap::testing::MakeCertificate;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::ReadWhole;
using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

class CertificatesTest : public ::testing::Test {
 protected:
  absl::Status Read(const CertificateFiles& files) {
    auto read = Certificates::Read(
        files, &clock_,
        [this](const std::string& line) { said_ += line + "\n"; });
    if (!read.ok()) return read.status();
    certificates_ = *std::move(read);
    return absl::OkStatus();
  }
  std::shared_ptr<const Certificate> Next() {
    clock_.Advance(std::chrono::seconds(1));
    return certificates_->Current();
  }
  void ExpectPassedOver(const std::string& why, const std::string& cert) {
    EXPECT_EQ(Next()->cert_pem, cert);
    EXPECT_THAT(said_, HasSubstr(why));
  }

  gradtap::testing::TempDir dir_;
  const MadeCertificate one_ = MakeCertificate(dir_.path(), "one");
  const MadeCertificate two_ = MakeCertificate(dir_.path(), "two");
  ManualClock clock_{RealClock().UnixNanos()};  // They are of today.
  std::string said_;
  std::unique_ptr<Certificates> certificates_;
};

TEST_F(CertificatesTest, AFileThatCannotBeUsedIsNamed) {
  const std::string junk = dir_.path() + "/junk";
  std::ofstream(junk) << "-----BEGIN CERTIFICATE-----\njunk\n";
  std::ofstream(dir_.path() + "/empty");
  const std::string locked = dir_.path() + "/locked.key";
  ASSERT_EQ(std::system(("openssl pkey -aes256 -passout pass:x -in " +
                         one_.key + " -out " + locked)
                            .c_str()),
            0);
  const struct {
    CertificateFiles files;
    const char* why;
  } cases[] = {
      {{dir_.path() + "/none", one_.key, ""}, "--tls-cert: cannot read"},
      {{dir_.path() + "/none", one_.key, ""}, "none: No such file"},
      {{one_.cert, dir_.path() + "/none", ""}, "--tls-key: cannot read"},
      {{one_.cert, one_.key, dir_.path() + "/none"}, "--tls-client-ca: cannot"},
      {{junk, one_.key, ""}, "junk has no usable certificate"},
      {{junk, one_.key, ""}, "--tls-cert: "},
      {{dir_.path() + "/empty", one_.key, ""}, "empty has no usable cert"},
      {{one_.key, one_.key, ""}, "one.key has no usable certificate"},
      {{one_.cert, junk, ""}, "junk has no usable key"},
      {{one_.cert, one_.cert, ""}, "one.pem has no usable key"},
      {{one_.cert, locked, ""}, "locked.key has no usable key"},
      {{one_.cert, two_.key, ""}, "two.key is not the key of"},
      {{one_.cert, two_.key, ""}, "--tls-key: "},
      {{one_.cert, one_.key, one_.key}, "has no certificate of an authority"},
      {{one_.cert, one_.key, one_.key}, "--tls-client-ca: "},
  };
  for (const auto& [files, why] : cases) {
    EXPECT_THAT(Read(files), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr(why)));
  }
}

TEST_F(CertificatesTest, AreReadAgainWhenTheyChange) {
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  const auto first = certificates_->Current();
  EXPECT_EQ(first->generation, 1u);
  EXPECT_EQ(first->cert_pem, ReadWhole(one_.cert));
  two_.CopyTo(one_);
  EXPECT_EQ(Next()->generation, 2u);
  EXPECT_EQ(certificates_->Current()->cert_pem, ReadWhole(two_.cert));
  EXPECT_EQ(certificates_->Current()->key_pem, ReadWhole(two_.key));
  EXPECT_NE(first->cert_pem, ReadWhole(two_.cert));  // What began goes on.
}

TEST_F(CertificatesTest, AHalfReplacedPairIsPassedOver) {
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  const std::string old = ReadWhole(one_.cert);
  const std::string fresh = ReadWhole(two_.cert);
  const std::filesystem::path cert(one_.cert);
  // Written in place, cut off in the middle.
  std::ofstream(cert) << fresh.substr(0, fresh.size() / 2);
  ExpectPassedOver("has no usable certificate", old);
  std::ofstream(cert) << fresh;
  ExpectPassedOver("is not the key of", old);
  std::filesystem::remove(one_.key);
  ExpectPassedOver("cannot read", old);
  std::filesystem::copy_file(two_.key, one_.key);
  EXPECT_EQ(Next()->cert_pem, fresh);
  EXPECT_EQ(certificates_->Current()->generation, 2u);
}

TEST_F(CertificatesTest, AChainThatIsCutOffIsNotTaken) {
  const std::string whole = ReadWhole(one_.cert);
  const std::string next = ReadWhole(two_.cert);
  std::ofstream(one_.cert) << whole << next.substr(0, next.size() / 2);
  const auto cut_off = StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("cut off, or damaged"));
  EXPECT_THAT(Read({one_.cert, one_.key, ""}), cut_off);
  EXPECT_THAT(Read({two_.cert, two_.key, one_.cert}), cut_off);
  std::ofstream(one_.cert) << whole << next << "\n# and a word\n";
  GRADTAP_EXPECT_OK(Read({one_.cert, one_.key, ""}));
}

TEST_F(CertificatesTest, AKeyThatEverybodyMayReadIsSaid) {
  std::filesystem::permissions(one_.key, std::filesystem::perms(0640));
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  EXPECT_EQ(said_, "");
  std::filesystem::permissions(one_.key, std::filesystem::perms(0644));
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  EXPECT_THAT(said_, HasSubstr("one.key; chmod o= it"));
}

TEST_F(CertificatesTest, OneThatIsOutOfDateIsServedAndThatIsSaidOnce) {
  using std::chrono::hours;
  constexpr hours kDay{24};
  const std::string file = "the certificate in " + one_.cert;
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  clock_.JumpWall(75 * kDay);
  Next();
  EXPECT_EQ(said_, "");
  clock_.JumpWall(2 * kDay);
  Next();
  EXPECT_THAT(said_, HasSubstr(file + " expires at 2"));
  said_.clear();
  Next();
  EXPECT_EQ(said_, "");
  clock_.JumpWall(14 * kDay);
  EXPECT_EQ(Next()->generation, 1u);
  EXPECT_THAT(said_, HasSubstr(file + " has expired, at 2"));
  said_.clear();
  Next();
  EXPECT_EQ(said_, "");
  // Each that is read is said of anew, at the start as later.
  two_.CopyTo(one_);
  EXPECT_EQ(Next()->generation, 2u);
  EXPECT_THAT(said_, HasSubstr(file + " has expired, at 2"));
  said_.clear();
  GRADTAP_ASSERT_OK(Read({one_.cert, one_.key, ""}));
  EXPECT_THAT(said_, HasSubstr(file + " has expired, at 2"));
  clock_.JumpWall(-95 * kDay);
  Next();
  EXPECT_THAT(said_, HasSubstr(file + " is not valid before 2"));
  const auto served = certificates_->Current();
  EXPECT_NEAR(
      static_cast<double>(served->not_after_unix_s - served->not_before_unix_s),
      90 * 86400, 60);
}

TEST_F(CertificatesTest, LinksThatAreLinkedAnewAreAnotherFile) {
  const std::string link = dir_.path() + "/live";
  const std::string other = dir_.path() + "/other";
  std::filesystem::create_directory(dir_.path() + "/a");
  std::filesystem::create_directory(dir_.path() + "/b");
  one_.CopyTo({dir_.path() + "/a/c", dir_.path() + "/a/k"});
  two_.CopyTo({dir_.path() + "/b/c", dir_.path() + "/b/k"});
  std::filesystem::create_symlink("a", link);
  GRADTAP_ASSERT_OK(Read({link + "/c", link + "/k", ""}));
  std::filesystem::create_symlink("b", other);
  std::filesystem::rename(other, link);
  EXPECT_EQ(Next()->generation, 2u);
  EXPECT_EQ(certificates_->Current()->cert_pem, ReadWhole(two_.cert));
}

}  // namespace
}  // namespace gradtap::server::testing
