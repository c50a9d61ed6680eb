// What a training program tells of its steps, in a file that both it and its
// parent have mapped: what stands there survives SIGKILL.

#ifndef GRADTAP_TESTS_FAULTS_PROGRESS_H_
#define GRADTAP_TESTS_FAULTS_PROGRESS_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace gradtap::testing {

// The program's parameters, in the order of the arrays below.
inline constexpr std::array<const char*, 6> kTrained = {
    "fc1.weight", "fc1.bias",    "fc2.weight",
    "fc2.bias",   "norm.weight", "norm.bias"};

struct StepReport {
  double loss = 0;
  std::array<float, kTrained.size()> largest_grad{};
  std::array<float, kTrained.size()> largest_weight{};  // After the step.
};

// All zero at first.
struct Progress {
  static constexpr std::size_t kCapacity = 1 << 16;

  std::atomic<bool> attaching;          // Agent::Attach is about to be called.
  std::atomic<std::uint64_t> returned;  // Calls of Agent::Step.
  // Complete for those; of the one after them all but largest_weight may be.
  std::array<StepReport, kCapacity> steps;
};

// Maps the file, which is made if it is not there.
class SharedProgress {
 public:
  explicit SharedProgress(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ::ftruncate(file, sizeof(Progress)) != 0) {
      throw std::runtime_error("cannot make " + path);
    }
    void* const bytes = ::mmap(nullptr, sizeof(Progress),
                               PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (bytes == MAP_FAILED) throw std::runtime_error("cannot map " + path);
    progress_ = static_cast<Progress*>(bytes);
  }
  ~SharedProgress() { ::munmap(progress_, sizeof(Progress)); }
  SharedProgress(const SharedProgress&) = delete;
  SharedProgress& operator=(const SharedProgress&) = delete;

  Progress* operator->() const { return progress_; }

 private:
  Progress* progress_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_FAULTS_PROGRESS_H_
