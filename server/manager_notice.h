// What the service manager that started the process hears of it: systemd's
// notification protocol (sd_notify(3)), a datagram to the socket that
// $NOTIFY_SOCKET names. It is that little; libsystemd would bring its own
// libraries into the process.
//
// Layer: server. POSIX and glibc.

#ifndef GRADTAP_SERVER_MANAGER_NOTICE_H_
#define GRADTAP_SERVER_MANAGER_NOTICE_H_

#include <string>

namespace gradtap::server {

// `state`: READY=1, STOPPING=1, STATUS=..., a line each. Does nothing if nobody
// asks for it. Does not wait, and reads the environment. False: who asks has
// not read what others have sent, and there is no room for it: to be tried
// again, if it matters. Silent of what cannot be sent otherwise.
bool TellManager(const std::string& state);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_MANAGER_NOTICE_H_
