#include "server/store/engine_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

namespace gradtap::server {
namespace {

constexpr std::size_t kLongestLine = 4096;

const char* NameOf(rocksdb::InfoLogLevel level) {
  switch (level) {
    case rocksdb::InfoLogLevel::WARN_LEVEL:
      return "warning";
    case rocksdb::InfoLogLevel::ERROR_LEVEL:
    case rocksdb::InfoLogLevel::FATAL_LEVEL:
      return "error";
    default:
      return "note";
  }
}

// "2026-01-31T12:00:00Z"
std::string TimeNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  const std::size_t n = std::strftime(text, sizeof text, "%FT%TZ", &parts);
  return {text, n};
}

}  // namespace

EngineLog::EngineLog(const std::string& dir)
    : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL), path_(dir + "/LOG") {
  MutexLock lock(mu_);
  Begin();
}

EngineLog::~EngineLog() {
  MutexLock lock(mu_);
  if (fd_ >= 0) ::close(fd_);
}

void EngineLog::Begin() {
  if (fd_ >= 0) ::close(fd_);
  // An empty one would take the place of what was said before.
  struct stat now {};
  if (::stat(path_.c_str(), &now) != 0 || now.st_size > 0) {
    ::rename(path_.c_str(), (path_ + ".old").c_str());
  }
  fd_ = ::open(path_.c_str(),
               O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  bytes_ = 0;
}

void EngineLog::Logv(rocksdb::InfoLogLevel level, const char* format,
                     va_list arguments) {
  if (level < GetInfoLogLevel()) return;
  char text[kLongestLine];
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  if (length <= 0) return;
  std::string line = TimeNow() + ' ' + NameOf(level) + ' ' + text;
  while (line.back() == '\n') line.pop_back();
  line += '\n';
  MutexLock lock(mu_);
  if (std::exchange(torn_, false)) line.insert(0, 1, '\n');
  if (fd_ < 0 || bytes_ + line.size() > kMostBytes) Begin();
  if (fd_ < 0) return;
  const ssize_t written = ::write(fd_, line.data(), line.size());
  if (written <= 0) return;
  bytes_ += static_cast<std::size_t>(written);
  torn_ = static_cast<std::size_t>(written) < line.size();
}

void EngineLog::Logv(const char* format, va_list arguments) {
  Logv(rocksdb::InfoLogLevel::WARN_LEVEL, format, arguments);
}

}  // namespace gradtap::server
