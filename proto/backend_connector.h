// How a service that keeps its disk on a server gets its sockets: it cannot
// make any. A SOCK_SEQPACKET socket, the connector, leads to the launcher,
// which connects to the one server that the VM description names.
//
//   service  -> launcher   kConnectPlease   a socket is needed
//   launcher -> service    kConnected       one connected stream socket rides
//                                           along (SCM_RIGHTS)
//
// The launcher answers when it has a connection, however long that takes;
// requests that come meanwhile are the same request.
//
// TRUST    A service can make the launcher connect to this one server, at the
//          pace that the launcher sets, and to nothing else.
// ERRORS   None: constants.
// THREADS  Any.

#ifndef BULKHEAD_PROTO_BACKEND_CONNECTOR_H_
#define BULKHEAD_PROTO_BACKEND_CONNECTOR_H_

namespace bulkhead {

inline constexpr char kConnectPlease = 'C';
inline constexpr char kConnected = 'S';

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_BACKEND_CONNECTOR_H_
