// The file descriptors that the console finds at exec. There are no others.
//
// TRUST    Set by `vm` alone; policy/console.textproto lists each of them.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_CONSOLE_CONSOLE_FDS_H_
#define BULKHEAD_CONSOLE_CONSOLE_FDS_H_

namespace bulkhead::console {

// 0, 1 and 2 are the user's: a terminal, pipes or files.

// SOCK_SEQPACKET to the launcher: ConsoleConfig, events, requests.
inline constexpr int kControlFd = 3;

// SOCK_STREAM to QEMU: the guest's serial port, and QEMU's monitor. Only where
// the launcher starts QEMU.
inline constexpr int kGuestFd = 4;
inline constexpr int kMonitorFd = 5;

// The read end of each process's log pipe, in the order of ConsoleConfig.
inline constexpr int kFirstLogFd = 8;

// The program of each process, in the same order, to name places in it. Beyond
// so many processes, places have no names.
inline constexpr int kFirstProgramFd = 72;
inline constexpr int kMostProgramFds = 48;

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_CONSOLE_FDS_H_
