// The file descriptors that an adapter to a remote process of QEMU's finds at
// exec. What it receives later takes numbers from 8 on.
//
// TRUST    Set by the launcher alone; policy/x_remote_adapter.textproto lists
//          each of them.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_X_REMOTE_ADAPTER_FDS_H_
#define BULKHEAD_PROXY_X_REMOTE_ADAPTER_FDS_H_

namespace bulkhead::proxy {

// 0, 1 and 2 are the write end of one pipe that the launcher reads.
inline constexpr int kAdapterLogFd = 2;

// SOCK_STREAM to the remote process's x-remote-object.
inline constexpr int kAdapterRemoteFd = 3;

// SOCK_SEQPACKET to the launcher, as a shim's.
inline constexpr int kAdapterControlFd = 4;

// A bound and listening unix SOCK_STREAM socket: QEMU's vfio-user-pci connects
// to it, once at a time.
inline constexpr int kAdapterQemuFd = 5;

// The guest's RAM, to be handed to the remote process.
inline constexpr int kAdapterRamFd = 6;

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_X_REMOTE_ADAPTER_FDS_H_
