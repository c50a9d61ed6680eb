#include "agent/delivery/tls_files.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::size_t kMaxPemBytes = 1 << 20;

absl::StatusOr<std::string> ReadPem(const char* option,
                                    const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string content(kMaxPemBytes + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<std::size_t>(file.gcount()));
  const char* wrong = nullptr;
  if (!file.is_open() || content.empty()) {
    wrong = "cannot be read, or is empty";
  } else if (content.size() > kMaxPemBytes) {
    wrong = "is larger than 1 MiB";
  } else if (content.find("-----BEGIN ") == std::string::npos) {
    wrong = "is not PEM";
  }
  if (wrong != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        option, ": '", EscapeForTerminal(path.substr(0, 200)), "' ", wrong));
  }
  return content;
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsFileNames& names) {
  TlsFiles files;
  const struct {
    const char* option;
    const std::string& path;
    std::string* content;
  } wanted[] = {
      {"tls_ca_file", names.ca, &files.ca_pem},
      {"tls_cert_file", names.cert, &files.cert_pem},
      {"tls_key_file", names.key, &files.key_pem},
  };
  for (const auto& [option, path, content] : wanted) {
    auto read = ReadPem(option, path);
    if (!read.ok()) return read.status();
    *content = *std::move(read);
  }
  return files;
}

}  // namespace gradtap::agent
