// What no service may call after its lock-down, whatever its policy says.
//
// TRUST    None: a table.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_NEVER_STEADY_H_
#define BULKHEAD_POLICY_NEVER_STEADY_H_

#include <algorithm>
#include <iterator>
#include <string>

namespace bulkhead::policy {

inline constexpr const char* kNeverSteady[] = {
    "accept",
    "bind",
    "bpf",
    "chroot",
    "clone",
    "clone3",
    "connect",
    "creat",
    "execve",
    "execveat",
    "fork",
    "fsopen",
    "init_module",
    "io_uring_register",
    "io_uring_setup",
    "ioctl",
    "keyctl",
    "kill",
    "listen",
    "memfd_create",
    "mount",
    "move_mount",
    "mprotect",
    "name_to_handle_at",
    "open",
    "open_by_handle_at",
    "open_tree",
    "openat",
    "openat2",
    "perf_event_open",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "pkey_mprotect",
    "prctl",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "remap_file_pages",
    "seccomp",
    "setns",
    "shmat",
    "socket",
    "socketpair",
    "unshare",
    "userfaultfd",
    "vfork",
};

inline bool NeverSteady(const std::string& syscall) {
  return std::any_of(std::begin(kNeverSteady), std::end(kNeverSteady),
                     [&](const char* name) { return syscall == name; });
}

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_NEVER_STEADY_H_
