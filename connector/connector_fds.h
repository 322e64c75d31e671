// The fds that a connector finds at exec, beyond its log (0 to 2).
//
// TRUST    Set by `vm` alone; the connector's policy lists each of them.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_CONNECTOR_CONNECTOR_FDS_H_
#define BULKHEAD_CONNECTOR_CONNECTOR_FDS_H_

namespace bulkhead::connector {

inline constexpr int kControlFd = 3;  // to the launcher
inline constexpr int kServiceFd = 4;  // to the disk's service
// The folder that holds the server's UNIX socket, O_PATH; absent for TCP.
inline constexpr int kFolderFd = 5;

}  // namespace bulkhead::connector

#endif  // BULKHEAD_CONNECTOR_CONNECTOR_FDS_H_
