// The file descriptors that a service finds at exec. There are no others.
//
// TRUST    Set by the launcher alone; a policy's fd table lists each of them
//          with its kind and access mode.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROTO_SERVICE_FDS_H_
#define BULKHEAD_PROTO_SERVICE_FDS_H_

namespace bulkhead {

// 0, 1 and 2 are the write end of one pipe. The launcher reads it, stamps the
// device's identity on each line, escapes it and limits its rate.
inline constexpr int kLogFd = 2;

// SOCK_SEQPACKET to the shim: the guest's accesses (frame.proto).
inline constexpr int kChannelFd = 3;

// SOCK_SEQPACKET to the launcher: configuration, statistics, quiesce.
inline constexpr int kControlFd = 4;

// The guest's RAM: a memfd sealed against shrinking and growing, read-write.
inline constexpr int kRamFd = 5;

// The device's resumable state: a memfd that outlives the service.
inline constexpr int kStateFd = 6;

// Images, in the order in which ServiceConfig names them.
inline constexpr int kFirstBackendFd = 7;

// Connectors of NBD disks (backend_connector.h), likewise.
inline constexpr int kFirstConnectorFd = 56;

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_SERVICE_FDS_H_
