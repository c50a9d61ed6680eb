// What a session asks for, done by a transport; what happened there, told to
// the session.
//
// Layer: agent/delivery. This file: std, absl, *.pb.h; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_PERFORM_H_
#define GRADTAP_AGENT_DELIVERY_PERFORM_H_

#include "agent/delivery/session.h"
#include "agent/delivery/transport.h"

namespace gradtap::agent {

inline void Perform(const Session::Action& action, Transport* transport) {
  switch (action.kind) {
    case Session::Action::Kind::kConnect:
      return transport->Connect();
    case Session::Action::Kind::kSend:
      return transport->Send(action.message);
    case Session::Action::Kind::kHalfClose:
      return transport->HalfClose();
    case Session::Action::Kind::kCancel:
      return transport->Cancel();
  }
}

inline void Tell(const TransportEvent& event, Session* session) {
  switch (event.kind) {
    case TransportEvent::Kind::kConnected:
      return session->OnConnected();
    case TransportEvent::Kind::kSent:
      return session->OnSent();
    case TransportEvent::Kind::kMessage:
      return session->OnMessage(event.message);
    case TransportEvent::Kind::kClosed:
      return session->OnClosed(event.status);
  }
}

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_PERFORM_H_
