#include "bench/peers/server_process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace gradtap::bench {
namespace {

namespace fs = std::filesystem;

// The fields of /proc/PID/stat from the state on; empty: it is gone.
std::vector<std::string> StatOf(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream rest(text.substr(end + 1));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

double ClockOf(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0 ||
      ::clock_gettime(clock, &time) != 0) {
    return 0;
  }
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) * 1e-9;
}

std::string EndOf(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  const std::string all = text.str();
  return all.size() > 1500 ? all.substr(all.size() - 1500) : all;
}

bool Accepts(int port) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool ok = ::connect(s, reinterpret_cast<const sockaddr*>(&address),
                            sizeof address) == 0;
  ::close(s);
  return ok;
}

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& argv,
                             const std::string& log_path)
    : name_(argv.at(0)), log_path_(log_path) {
  std::vector<char*> arguments;
  for (const std::string& a : argv) {
    arguments.push_back(const_cast<char*>(a.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int log = ::open(log_path_.c_str(),
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  ::dup2(log, 1);
  ::dup2(log, 2);
  ::close(0);
  ::open("/dev/null", O_RDONLY);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

ServerProcess::~ServerProcess() { Stop(SIGTERM); }

void ServerProcess::Reap(int options) {
  rusage usage{};
  if (pid_ <= 0 || ::wait4(pid_, nullptr, options, &usage) != pid_) return;
  pid_ = -1;
  for (const timeval& t : {usage.ru_utime, usage.ru_stime}) {
    cpu_seconds_ +=
        static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  }
}

bool ServerProcess::running() {
  Reap(WNOHANG);
  return pid_ > 0;
}

double ServerProcess::Stop(int signal) {
  if (running()) ::kill(pid_, signal);
  for (int i = 0; i < 6000 && running(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (running()) {
    ::kill(pid_, SIGKILL);
    Reap(0);
  }
  return cpu_seconds_;
}

void ServerProcess::WaitForPort(int port) {
  for (int i = 0; i < 6000; ++i) {
    if (!running()) break;
    if (Accepts(port)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw std::runtime_error(name_ + " does not listen: " + EndOf(log_path_));
}

std::vector<pid_t> ServerProcess::Family() const {
  std::multimap<pid_t, pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    const std::vector<std::string> stat = StatOf(pid);
    if (stat.size() > 1) children.emplace(std::stoi(stat[1]), pid);
  }
  std::vector<pid_t> family = {pid_};
  for (std::size_t i = 0; i < family.size(); ++i) {
    const auto [from, to] = children.equal_range(family[i]);
    for (auto it = from; it != to; ++it) family.push_back(it->second);
  }
  return family;
}

double ServerProcess::CpuSeconds() const {
  const double tick = 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  double seconds = 0;
  for (const pid_t pid : Family()) {
    seconds += ClockOf(pid);
    const std::vector<std::string> stat = StatOf(pid);
    // Of children that ended and were waited for: cutime, cstime.
    if (stat.size() > 14) {
      seconds += (std::stod(stat[13]) + std::stod(stat[14])) * tick;
    }
  }
  return seconds;
}

std::uint64_t ServerProcess::PssBytes() const {
  std::uint64_t bytes = 0;
  for (const pid_t pid : Family()) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(in, line);) {
      if (line.rfind("Pss:", 0) == 0) {
        bytes += std::stoull(line.substr(4)) << 10;
        break;
      }
    }
  }
  return bytes;
}

std::string RunTool(const std::string& command) {
  std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::string out;
  char buffer[4096];
  for (std::size_t n = 0;
       (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    out.append(buffer, n);
  }
  if (::pclose(pipe) != 0) {
    throw std::runtime_error("'" + command + "' failed: " + out);
  }
  return out;
}

std::uint64_t DiskBytes(const std::string& folder, const std::string& except) {
  std::uint64_t bytes = 0;
  std::error_code error;
  auto it = fs::recursive_directory_iterator(folder, error);
  for (; it != fs::recursive_directory_iterator(); it.increment(error)) {
    struct stat status {};
    if (::lstat(it->path().c_str(), &status) != 0) continue;  // Just deleted.
    if (S_ISDIR(status.st_mode) && it->path().filename() == except) {
      it.disable_recursion_pending();
    } else if (status.st_nlink <= 1 || S_ISDIR(status.st_mode)) {
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    } else {  // One file of several names.
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512 /
               static_cast<std::uint64_t>(status.st_nlink);
    }
  }
  return bytes;
}

void DropFromCache(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    ::fdatasync(file);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

}  // namespace gradtap::bench
