// For forked children that are to write nothing and touch no socket.

#ifndef GRADTAP_TESTS_INTEGRATION_FORBID_OUTPUT_H_
#define GRADTAP_TESTS_INTEGRATION_FORBID_OUTPUT_H_

namespace gradtap::testing {

// From here on the kernel kills this process (SIGSYS) when it writes to any
// file, or makes, connects, reads or writes a socket. False if the kernel
// refuses to.
bool ForbidOutput();

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_FORBID_OUTPUT_H_
