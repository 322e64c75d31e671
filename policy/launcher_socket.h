// The sockets of running VMs' launchers: abstract names in which the VM and the
// launcher's process id stand, "bulkhead/VM/PID".
//
// TRUST    Anybody can take a name: Connect asks the kernel (SO_PEERCRED) for
//          the process behind it.
// ERRORS   Unavailable: nobody listens, or another process.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_LAUNCHER_SOCKET_H_
#define BULKHEAD_POLICY_LAUNCHER_SOCKET_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead::policy {

struct LauncherSocket {
  std::string name;
  std::string vm;
  pid_t launcher;
};

std::vector<LauncherSocket> LauncherSockets();

// The caller's fd (SOCK_SEQPACKET); reading it waits for `seconds` at most.
absl::StatusOr<int> Connect(const LauncherSocket& launcher_socket, int seconds);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_LAUNCHER_SOCKET_H_
