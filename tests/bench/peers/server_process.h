// A peer's server as a child process, and what it costs.
//
// A server of several processes (PostgreSQL) counts whole: all that descend
// from the child. It ends in the destructor at the latest, or is killed when
// this program dies; its output goes to a file.
//
// One thread. Layer: tests; std and POSIX only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SERVER_PROCESS_H_
#define GRADTAP_TESTS_BENCH_PEERS_SERVER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradtap::bench {

class ServerProcess {
 public:
  // `argv[0]` is looked up in PATH.
  ServerProcess(const std::vector<std::string>& argv,
                const std::string& log_path);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Asks it to end with `signal` and waits; SIGKILL after 60 s. Returns the CPU
  // time that it has taken from beginning to end.
  double Stop(int signal);
  bool running();
  // Until something accepts connections at the port of 127.0.0.1, or until it
  // has ended or 60 s are over: then it throws, with the end of the log.
  void WaitForPort(int port);

  // CPU time of all its processes so far, of those that ended too.
  double CpuSeconds() const;
  // Proportional set size of all its processes.
  std::uint64_t PssBytes() const;

 private:
  std::vector<pid_t> Family() const;
  void Reap(int options);

  const std::string name_;
  const std::string log_path_;
  pid_t pid_ = -1;
  double cpu_seconds_ = 0;  // Once it has ended.
};

// Runs a program to its end and returns its output; throws if it fails.
std::string RunTool(const std::string& command);

// Bytes allocated on disk below `folder`, without what is below a folder of
// the name `except`.
std::uint64_t DiskBytes(const std::string& folder, const std::string& except);

// Writes back and drops from the page cache the files below `folder`, and no
// others.
void DropFromCache(const std::string& folder);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SERVER_PROCESS_H_
