#include "agent/delivery/tls_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::size_t kMaxPemBytes = 1 << 20;

// What `fd` has, and a byte more than it may.
std::string ReadAll(int fd) {
  std::string content(kMaxPemBytes + 1, '\0');
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t n = ::read(fd, &content[size], content.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    size += static_cast<std::size_t>(n);
  }
  content.resize(size);
  return content;
}

absl::StatusOr<std::string> ReadPem(const char* option,
                                    const std::string& path) {
  if (path.empty()) return std::string();
  // A pipe that has taken its place would keep the delivery waiting.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat about {};
  const bool regular =
      fd >= 0 && ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
  std::string content = regular ? ReadAll(fd) : std::string();
  if (fd >= 0) ::close(fd);
  const char* wrong = nullptr;
  if (content.empty()) {
    wrong = "cannot be read, is empty, or is no regular file";
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
