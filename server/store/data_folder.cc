#include "server/store/data_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormatWord = "gradtap-data ";

std::string ErrorText(int error) {
  return std::generic_category().message(error);
}

absl::Status NotWritable(const std::string& path, int error) {
  const std::string text =
      absl::StrCat("data folder: cannot write ", path, ": ", ErrorText(error));
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(text);
  }
  return absl::PermissionDeniedError(text);
}

// The whole of a small file; nothing if it is not there.
absl::StatusOr<std::optional<std::string>> ReadSmallFile(
    const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::optional<std::string>();
    return absl::PermissionDeniedError(absl::StrCat(
        "data folder: cannot read ", path, ": ", ErrorText(errno)));
  }
  char buffer[256];
  const ssize_t n = ::read(fd, buffer, sizeof(buffer));
  ::close(fd);
  return std::optional<std::string>(
      std::string(buffer, n > 0 ? static_cast<std::size_t>(n) : 0));
}

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

absl::Status SyncFolder(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return NotWritable(dir, errno);
  const int rc = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (rc != 0) return NotWritable(dir, error);
  return absl::OkStatus();
}

// Durable and all or nothing.
absl::Status WriteFileAtomically(const std::string& dir,
                                 const std::string& name,
                                 std::string_view text) {
  const std::string path = absl::StrCat(dir, "/", name);
  const std::string temporary = absl::StrCat(path, ".new");
  const int fd =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return NotWritable(temporary, errno);
  const bool written = WriteAll(fd, text) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const int cause = written ? errno : error;
    ::unlink(temporary.c_str());
    return NotWritable(path, cause);
  }
  return SyncFolder(dir);
}

absl::Status CreateFolder(const std::string& dir) {
  if (dir.empty()) {
    return absl::InvalidArgumentError("data folder: the name is empty");
  }
  const fs::path path = fs::absolute(fs::path(dir)).lexically_normal();
  std::error_code error;
  const fs::path parent = path.has_filename()
                              ? path.parent_path()
                              : path.parent_path().parent_path();
  fs::create_directories(parent, error);
  if (error) return NotWritable(parent.string(), error.value());
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return NotWritable(dir, errno);
  }
  struct stat info;
  if (::stat(dir.c_str(), &info) != 0) return NotWritable(dir, errno);
  if (!S_ISDIR(info.st_mode)) return NotWritable(dir, ENOTDIR);
  if (::access(dir.c_str(), W_OK | X_OK) != 0) return NotWritable(dir, errno);
  return absl::OkStatus();
}

absl::Status LockedByAnother(const std::string& dir) {
  std::string holder = "another collector";
  const auto text = ReadSmallFile(absl::StrCat(dir, "/LOCK"));
  if (text.ok() && text->has_value()) {
    const std::string& pid = **text;
    long long number = 0;
    const auto [end, failed] =
        std::from_chars(pid.data(), pid.data() + pid.size(), number);
    if (failed == std::errc() && number > 0) {
      holder = absl::StrCat("the collector with pid ", number);
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat("data folder ", dir, " is locked by ", holder,
                   "; stop it or choose another --data-dir"));
}

absl::StatusOr<int> TakeLock(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/LOCK");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return NotWritable(path, errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(fd);
    if (error != EWOULDBLOCK) return NotWritable(path, error);
    return LockedByAnother(dir);
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0 || !WriteAll(fd, pid)) {
    const int error = errno;
    ::close(fd);
    return NotWritable(path, error);
  }
  return fd;
}

}  // namespace

absl::Status WriteFormat(const std::string& dir) {
  return WriteFileAtomically(
      dir, "FORMAT",
      absl::StrCat(std::string(kFormatWord), kFormatVersion, "\n"));
}

namespace {

// What FORMAT says; nothing if it is not there. kFailedPrecondition if it is of
// a newer version.
absl::StatusOr<std::optional<std::uint32_t>> ReadFormat(
    const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/FORMAT");
  const auto text = ReadSmallFile(path);
  if (!text.ok()) return text.status();
  if (!text->has_value()) {
    std::error_code error;
    if (fs::exists(absl::StrCat(dir, "/db/CURRENT"), error)) {
      return absl::DataLossError(
          absl::StrCat("data folder ", dir,
                       " holds a database but no FORMAT file; restore it"));
    }
    return std::optional<std::uint32_t>();
  }
  std::string_view rest = **text;
  std::uint32_t version = 0;
  bool good = rest.substr(0, kFormatWord.size()) == kFormatWord;
  if (good) {
    rest.remove_prefix(kFormatWord.size());
    const auto [end, failed] =
        std::from_chars(rest.data(), rest.data() + rest.size(), version);
    good = failed == std::errc() && version > 0 &&
           std::string_view(end, rest.data() + rest.size() - end) == "\n";
  }
  if (!good) {
    return absl::DataLossError(
        absl::StrCat(path, " is not a format file of gradtap"));
  }
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("data folder ", dir, " was written in format ", version,
                     "; this collector knows formats up to ", kFormatVersion,
                     ": use a newer gradtapd or another --data-dir"));
  }
  return std::optional<std::uint32_t>(version);
}

absl::Status CheckFormat(const std::string& dir) {
  const auto version = ReadFormat(dir);
  if (!version.ok()) return version.status();
  if (version->value_or(0) < kFormatVersion) return WriteFormat(dir);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataFolder>> DataFolder::Open(
    const std::string& dir) {
  if (const absl::Status s = CreateFolder(dir); !s.ok()) return s;
  const auto fd = TakeLock(dir);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<DataFolder> folder(new DataFolder(dir, *fd));
  if (const absl::Status s = CheckFormat(dir); !s.ok()) return s;
  return folder;
}

absl::StatusOr<std::unique_ptr<DataFolder>> DataFolder::OpenToRead(
    const std::string& dir, std::uint32_t* format) {
  std::error_code error;
  if (!fs::is_directory(dir, error)) {
    return absl::NotFoundError(
        absl::StrCat("there is no data folder ", dir, "; give --data-dir"));
  }
  // A copy may have no lock file: nobody has opened it.
  const std::string path = absl::StrCat(dir, "/LOCK");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) {
    return absl::PermissionDeniedError(absl::StrCat(
        "data folder: cannot read ", path, ": ", ErrorText(errno)));
  }
  std::unique_ptr<DataFolder> folder(new DataFolder(dir, fd));
  if (fd >= 0 && ::flock(fd, LOCK_SH | LOCK_NB) != 0) {
    return LockedByAnother(dir);
  }
  const auto version = ReadFormat(dir);
  if (!version.ok()) return version.status();
  if (!version->has_value()) {
    return absl::NotFoundError(absl::StrCat(
        dir, " is no data folder: it has no FORMAT file; give --data-dir"));
  }
  *format = **version;
  return folder;
}

DataFolder::DataFolder(std::string dir, int lock_fd)
    : dir_(std::move(dir)), lock_fd_(lock_fd) {}

DataFolder::~DataFolder() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

std::uint64_t DataFolder::DiskBytes() const {
  std::uint64_t total = 0;
  std::error_code error;
  fs::recursive_directory_iterator it(dir_, error), end;
  while (!error && it != end) {
    struct stat info;
    if (::lstat(it->path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      total += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
    it.increment(error);
  }
  return total;
}

}  // namespace gradtap::server
