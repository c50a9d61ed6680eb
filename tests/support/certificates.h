// Certificates for tests, made by the openssl program.

#ifndef GRADTAP_TESTS_SUPPORT_CERTIFICATES_H_
#define GRADTAP_TESTS_SUPPORT_CERTIFICATES_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace gradtap::testing {

inline std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Files NAME.pem and NAME.key in a folder.
struct MadeCertificate {
  std::string cert, key;

  // As whoever replaces them would, one after the other.
  void CopyTo(const MadeCertificate& other) const {
    for (const auto& [from, to] :
         {std::pair(cert, other.cert), std::pair(key, other.key)}) {
      std::filesystem::copy_file(from, to + ".new");
      std::filesystem::rename(to + ".new", to);
    }
  }
};

// For 127.0.0.1 and localhost; it signs itself, and so is its authority, too.
inline MadeCertificate MakeCertificate(const std::string& folder,
                                       const std::string& name) {
  MadeCertificate made{folder + "/" + name + ".pem",
                       folder + "/" + name + ".key"};
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
      "-nodes -days 90 -subj /CN=" +
      name + " -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout " +
      made.key + " -out " + made.cert + " 2>/dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  return made;
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_CERTIFICATES_H_
