// A folder of the test's own, gone with it.

#ifndef GRADTAP_TESTS_SUPPORT_TEMP_DIR_H_
#define GRADTAP_TESTS_SUPPORT_TEMP_DIR_H_

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace gradtap::testing {

class TempDir {
 public:
  TempDir() : TempDir(std::filesystem::temp_directory_path().string()) {}
  // Elsewhere than where temporary files are.
  explicit TempDir(const std::string& parent) {
    std::string name = parent + "/gradtap-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("mkdtemp failed: " + name);
    }
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_TEMP_DIR_H_
