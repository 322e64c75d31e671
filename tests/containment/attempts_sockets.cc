// Sockets.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Sockets() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"tcp", "sockets", kKilled, "socket", kDone,
       [](const S& s) { return ConnectTcp(s, SOCK_STREAM); }},
      {"udp", "sockets", kKilled, "socket", kDone,
       [](const S& s) { return ConnectTcp(s, SOCK_DGRAM); }},
      {"ipv6", "sockets", kKilled, "socket", kReached,
       [](const S&) { return Raw(SYS_socket, AF_INET6, SOCK_STREAM, 0); }},
      {"unix_path", "sockets", kKilled, "socket", kDone,
       [](const S& s) { return ConnectUnix(In(s, "listener"), false); }},
      {"unix_abstract", "sockets", kKilled, "socket", kDone,
       [](const S& s) { return ConnectUnix(s.abstract.c_str(), true); }},
      {"netlink", "sockets", kKilled, "socket", kDone,
       [](const S&) { return Raw(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }},
      {"packet", "sockets", kKilled, "socket", kReached,
       [](const S&) { return Raw(SYS_socket, AF_PACKET, SOCK_RAW, 0); }},
      {"raw_ip", "sockets", kKilled, "socket", kReached,
       [](const S&) { return Raw(SYS_socket, AF_INET, SOCK_RAW, 1); }},
      {"vsock", "sockets", kKilled, "socket", kReached,
       [](const S&) { return Raw(SYS_socket, AF_VSOCK, SOCK_STREAM, 0); }},
      {"crypto_socket", "sockets", kKilled, "socket", kReached,
       [](const S&) { return Raw(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0); }},
      {"socketpair", "sockets", kKilled, "socketpair", kDone,
       [](const S&) {
         return Raw(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, P(scratch));
       }},
      {"bind_own_channel", "sockets", kKilled, "bind", kReached,
       [](const S&) -> long {
         sockaddr_un address;
         const socklen_t size = UnixAddress("x", true, &address);
         return Raw(SYS_bind, kChannelFd, P(&address), size);
       }},
      {"connect_own_channel_elsewhere", "sockets", kKilled, "connect", kReached,
       [](const S& s) -> long {
         sockaddr_un address;
         const socklen_t size = UnixAddress(s.abstract.c_str(), true, &address);
         return Raw(SYS_connect, kChannelFd, P(&address), size);
       }},
      {"listen_on_own_channel", "sockets", kKilled, "listen", kReached,
       [](const S&) { return Raw(SYS_listen, kChannelFd, 1); }},
      {"accept_on_own_channel", "sockets", kKilled, "accept", kReached,
       [](const S&) { return Raw(SYS_accept, kChannelFd, 0, 0); }},
      {"sendto_an_address", "sockets", kKilled, "sendto", kReached,
       [](const S& s) -> long {
         sockaddr_un address;
         const socklen_t size = UnixAddress(s.abstract.c_str(), true, &address);
         return Raw(SYS_sendto, kChannelFd, P("x"), 1, 0, P(&address), size);
       }},
      {"sendmsg_to_an_address", "sockets", kBounded, "", kReached,
       [](const S& s) -> long {  // The call that it has; a connected socket
                                 // takes no address.
         static sockaddr_un address;
         msghdr message = {};
         iovec data = {scratch, 1};
         message.msg_name = &address;
         message.msg_namelen = UnixAddress(s.abstract.c_str(), true, &address);
         message.msg_iov = &data;
         message.msg_iovlen = 1;
         return sendmsg(kControlFd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
       }},
      {"setsockopt", "sockets", kKilled, "setsockopt", kDone,
       [](const S&) -> long {
         static int size = 1 << 20;
         return Raw(SYS_setsockopt, kChannelFd, SOL_SOCKET, SO_SNDBUF, P(&size),
                    sizeof(size));
       }},
      {"ax25", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_AX25, SOCK_DGRAM>},
      {"appletalk", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_APPLETALK, SOCK_DGRAM>},
      {"x25", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_X25, SOCK_SEQPACKET>},
      {"key", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_KEY, SOCK_RAW>},
      {"rds", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_RDS, SOCK_SEQPACKET>},
      {"pppox", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_PPPOX, SOCK_DGRAM>},
      {"llc", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_LLC, SOCK_DGRAM>},
      {"infiniband", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_IB, SOCK_DGRAM>},
      {"mpls", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_MPLS, SOCK_RAW>},
      {"can", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_CAN, SOCK_RAW>},
      {"tipc", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_TIPC, SOCK_RDM>},
      {"bluetooth", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_BLUETOOTH, SOCK_RAW>},
      {"rxrpc", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_RXRPC, SOCK_DGRAM>},
      {"phonet", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_PHONET, SOCK_DGRAM>},
      {"ieee802154", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_IEEE802154, SOCK_DGRAM>},
      {"caif", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_CAIF, SOCK_SEQPACKET>},
      {"nfc", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_NFC, SOCK_RAW>},
      {"kcm", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_KCM, SOCK_DGRAM>},
      {"qualcomm_router", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_QIPCRTR, SOCK_DGRAM>},
      {"smc", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_SMC, SOCK_STREAM>},
      {"xdp", "sockets", kKilled, "socket", kReached,
       &SocketOf<AF_XDP, SOCK_RAW>},
      {"mctp", "sockets", kKilled, "socket", kReached,
       &SocketOf<45, SOCK_DGRAM>},
  };
  return attempts;
}

}  // namespace bulkhead::containment
