// Whether a socket of the file system is where nobody else can have put it.
//
// Layer: core. Looks at folders, and may wait for a disk.

#ifndef GRADTAP_CORE_SOCKET_FOLDER_H_
#define GRADTAP_CORE_SOCKET_FOLDER_H_

#include <sys/types.h>

#include <string_view>

#include "absl/status/status.h"

namespace gradtap {

// OK if what stands at `address` ("unix:/PATH") can only be of `user`, of root,
// or of whom root has given a folder: its owner alone may write in it, and is
// `user` or root, or lies where nobody but root makes folders (/run/gradtap,
// /home/ann; not what is below /tmp). Of an address that is no socket: OK.
// kFailedPrecondition names the folder and says what to do; kUnavailable: it is
// not there, or cannot be looked at.
absl::Status CheckSocketFolder(std::string_view address, uid_t user);

}  // namespace gradtap

#endif  // GRADTAP_CORE_SOCKET_FOLDER_H_
