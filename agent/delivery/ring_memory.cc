#include "agent/delivery/ring_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/spool/syscalls.h"

namespace gradtap::agent {
namespace {

absl::Status Failed(const char* what, std::size_t bytes, int error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("a ring of ", bytes, " bytes: ", what, ": ",
                   std::strerror(error), "; a smaller ring_bytes may fit"));
}

constexpr std::size_t kLongEntry = std::size_t{1} << 20;

// The kernel has them mapped. Below it may lie a hypervisor that still has to,
// at 10 us a page (measured), and the training thread is not to wait for that.
void TouchPages(const char* data, std::size_t bytes) {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t at = 0; at < bytes; at += page) {
    (void)static_cast<const volatile char*>(data)[at];
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<RingMemory>> RingMemory::Create(
    std::size_t bytes) {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (bytes == 0 || bytes > std::numeric_limits<std::size_t>::max() / 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ring of ", bytes, " bytes is out of range"));
  }
  bytes = (bytes + page - 1) / page * page;
  const int fd = ::memfd_create("gradtap-ring", MFD_CLOEXEC);
  if (fd < 0) return Failed("memfd_create", bytes, errno);
  // Takes the pages now: a later lack of memory would be a SIGBUS.
  const int allocated = RealSyscalls()->Allocate(fd, static_cast<off_t>(bytes));
  if (allocated < 0) {
    ::close(fd);
    return Failed(
        allocated == -EFBIG ? "the limit on files (ulimit -f)" : "no memory",
        bytes, -allocated);
  }
  auto memory = MapFile(fd, bytes);
  ::close(fd);
  return memory;
}

absl::StatusOr<std::unique_ptr<RingMemory>> RingMemory::MapFile(
    int fd, std::size_t bytes, std::size_t offset, bool present) {
  const int flags = MAP_SHARED | MAP_FIXED | (present ? MAP_POPULATE : 0);
  void* const whole =
      ::mmap(nullptr, 2 * bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) return Failed("mmap", bytes, errno);
  char* const base = static_cast<char*>(whole);
  for (char* half : {base, base + bytes}) {
    if (::mmap(half, bytes, PROT_READ | PROT_WRITE, flags, fd,
               static_cast<off_t>(offset)) == MAP_FAILED) {
      const int error = errno;
      ::munmap(whole, 2 * bytes);
      return Failed("mmap", bytes, error);
    }
  }
  // Advice: without it everything works, a fork is only dearer.
  (void)::madvise(whole, 2 * bytes, MADV_DONTFORK);
  // Of the second half only what one entry reaches into.
  if (present) TouchPages(base, bytes + std::min(bytes, kLongEntry));
  return std::unique_ptr<RingMemory>(new RingMemory(base, bytes));
}

RingMemory::RingMemory(char* data, std::size_t size)
    : data_(data), size_(size), process_(::getpid()) {}

RingMemory::~RingMemory() {
  // In a forked child something else may be there.
  if (::getpid() == process_) ::munmap(data_, 2 * size_);
}

}  // namespace gradtap::agent
