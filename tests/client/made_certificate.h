// Certificates that sign themselves, of any dates and names.

#ifndef GRADTAP_TESTS_CLIENT_MADE_CERTIFICATE_H_
#define GRADTAP_TESTS_CLIENT_MADE_CERTIFICATE_H_

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace gradtap::client::testing {

struct CertificateWish {
  std::string subject = "collector";
  std::string names = "IP:127.0.0.1";
  long from_s = -3600;  // From now.
  long until_s = 100 * 86400;
};

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// FILE.pem and FILE.key.
inline void MakeCertificate(const CertificateWish& wish,
                            const std::string& file) {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const cert = X509_new();
  ASSERT_TRUE(key != nullptr && cert != nullptr);
  X509_set_version(cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), wish.from_s);
  X509_gmtime_adj(X509_getm_notAfter(cert), wish.until_s);
  X509_set_pubkey(cert, key);
  X509_NAME* const name = X509_get_subject_name(cert);
  X509_NAME_add_entry_by_txt(
      name, "CN", MBSTRING_UTF8,
      reinterpret_cast<const unsigned char*>(wish.subject.c_str()), -1, -1, 0);
  X509_set_issuer_name(cert, name);
  for (const auto& [id, value] :
       {std::pair(NID_subject_alt_name, wish.names.c_str()),
        std::pair(NID_basic_constraints, "critical,CA:TRUE")}) {
    X509_EXTENSION* const extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    ASSERT_NE(extension, nullptr) << value;
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
  }
  ASSERT_GT(X509_sign(cert, key, EVP_sha256()), 0);
  std::FILE* const pem = std::fopen((file + ".pem").c_str(), "w");
  std::FILE* const secret = std::fopen((file + ".key").c_str(), "w");
  ASSERT_TRUE(pem != nullptr && secret != nullptr);
  EXPECT_EQ(PEM_write_X509(pem, cert), 1);
  EXPECT_EQ(
      PEM_write_PrivateKey(secret, key, nullptr, nullptr, 0, nullptr, nullptr),
      1);
  std::fclose(pem);
  std::fclose(secret);
  X509_free(cert);
  EVP_PKEY_free(key);
}

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_MADE_CERTIFICATE_H_
