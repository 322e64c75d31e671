// The file descriptors that a shim finds at exec. There are no others; what it
// receives later (QEMU's connection, eventfds, the shadow memfd) takes numbers
// from kFirstReceivedFd on.
//
// TRUST    Set by the launcher alone; the shim's policy lists each of them.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_SHIM_FDS_H_
#define BULKHEAD_PROXY_SHIM_FDS_H_

namespace bulkhead::proxy {

// 0, 1 and 2 are the write end of one pipe that the launcher reads.
inline constexpr int kShimLogFd = 2;

// SOCK_SEQPACKET to the service, at whose other end it is kChannelFd
// (proto/service_fds.h).
inline constexpr int kShimChannelFd = 3;

// SOCK_SEQPACKET to the launcher: Configure, ReplaceChannel, ServiceLost.
inline constexpr int kShimControlFd = 4;

// A unix SOCK_STREAM socket: bound and listening, QEMU connects to it, once at
// a time; or, for x-pci-proxy-dev, one whose other end QEMU holds.
inline constexpr int kShimQemuFd = 5;

inline constexpr int kFirstReceivedFd = 6;

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SHIM_FDS_H_
