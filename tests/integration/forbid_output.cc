#include "integration/forbid_output.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gradtap::testing {

bool ForbidOutput() {
  constexpr std::uint32_t kForbidden[] = {
      __NR_write,    __NR_writev,   __NR_pwrite64, __NR_pwritev,
      __NR_socket,   __NR_connect,  __NR_sendto,   __NR_sendmsg,
      __NR_sendmmsg, __NR_recvfrom, __NR_recvmsg,  __NR_shutdown};
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const std::uint32_t call : kForbidden) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter = {};
  filter.len = static_cast<unsigned short>(program.size());
  filter.filter = program.data();
  // gRPC may have made threads in the child already: they are meant too.
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
                   SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0;
}

}  // namespace gradtap::testing
