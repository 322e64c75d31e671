// Files and mounts.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Files() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"open", "files", kKilled, "open", kDone,
       [](const S& s) { return Raw(SYS_open, P(In(s, "canary")), O_RDWR); }},
      {"openat", "files", kKilled, "openat", kDone,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(In(s, "canary")), O_RDWR);
       }},
      {"openat2", "files", kKilled, "openat2", kDone,
       [](const S& s) -> long {
         static uint64_t how[3] = {O_RDWR, 0, 0};
         return Raw(437, AT_FDCWD, P(In(s, "canary")), P(how), sizeof(how));
       }},
      {"creat", "files", kKilled, "creat", kDone,
       [](const S& s) { return Raw(SYS_creat, P(In(s, "new")), 0600); }},
      {"another_devices_disk", "files", kKilled, "openat", kDone,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(In(s, "other_disk")), O_RDWR);
       }},
      {"own_memory_file", "files", kKilled, "openat", kDone,
       [](const S&) {
         return Raw(SYS_openat, AT_FDCWD, P("/proc/self/mem"), O_RDWR);
       }},
      {"own_fd_again", "files", kKilled, "openat", kReached,
       [](const S&) {
         return Raw(SYS_openat, AT_FDCWD, P("/proc/self/fd/2"), O_RDWR);
       }},
      {"siblings_memory_file", "files", kKilled, "openat", kReached,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/mem")), O_RDWR);
       }},
      {"siblings_root", "files", kKilled, "openat", kReached,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/root")), O_PATH);
       }},
      {"kvm_device", "files", kKilled, "openat", kReached,
       [](const S&) {
         return Raw(SYS_openat, AT_FDCWD, P("/dev/kvm"), O_RDWR);
       }},
      {"name_to_handle", "files", kKilled, "name_to_handle_at", kReached,
       [](const S& s) {
         return Raw(SYS_name_to_handle_at, AT_FDCWD, P(In(s, "canary")),
                    P(scratch), P(scratch + 512), 0);
       }},
      {"open_by_handle", "files", kKilled, "open_by_handle_at", kReached,
       [](const S&) {
         return Raw(SYS_open_by_handle_at, AT_FDCWD, P(scratch), 0);
       }},
      {"mkdir", "files", kKilled, "mkdir", kDone,
       [](const S& s) { return Raw(SYS_mkdir, P(In(s, "new")), 0700); }},
      {"mknod", "files", kKilled, "mknod", kDone,
       [](const S& s) {
         return Raw(SYS_mknod, P(In(s, "new")), S_IFIFO | 0600, 0);
       }},
      {"symlink", "files", kKilled, "symlink", kDone,
       [](const S& s) {
         return Raw(SYS_symlink, P("/etc/passwd"), P(In(s, "new")));
       }},
      {"link", "files", kKilled, "link", kReached,
       [](const S& s) {
         return Raw(SYS_link, P(In(s, "canary")), P(In(s, "new")));
       }},
      {"rename", "files", kKilled, "rename", kDone,
       [](const S& s) {
         return Raw(SYS_rename, P(In(s, "canary")), P(In(s, "new")));
       }},
      {"unlink", "files", kKilled, "unlink", kDone,
       [](const S& s) { return Raw(SYS_unlink, P(In(s, "canary"))); }},
      {"truncate", "files", kKilled, "truncate", kDone,
       [](const S& s) { return Raw(SYS_truncate, P(In(s, "canary")), 0); }},
      {"chmod", "files", kKilled, "chmod", kReached,
       [](const S& s) { return Raw(SYS_chmod, P(In(s, "canary")), 0777); }},
      {"fchmod_own_disk", "files", kKilled, "fchmod", kReached,
       [](const S&) { return Raw(SYS_fchmod, kFirstBackendFd, 04777); }},
      {"setxattr", "files", kKilled, "setxattr", kReached,
       [](const S& s) {
         return Raw(SYS_setxattr, P(In(s, "canary")), P("user.x"), P("x"), 1);
       }},
      {"stat", "files", kKilled, "stat", kDone,
       [](const S&) { return Raw(SYS_stat, P("/"), P(scratch)); }},
      {"statx", "files", kKilled, "statx", kDone,
       [](const S&) {
         return Raw(332, AT_FDCWD, P("/"), 0, 0x7ff, P(scratch));
       }},
      {"chdir", "files", kKilled, "chdir", kDone,
       [](const S&) { return Raw(SYS_chdir, P("/")); }},
      {"inotify", "files", kKilled, "inotify_init1", kDone,
       [](const S&) { return Raw(SYS_inotify_init1, 0); }},
      {"fanotify", "files", kKilled, "fanotify_init", kReached,
       [](const S&) { return Raw(SYS_fanotify_init, 0, 0); }},
      {"chroot", "mounts", kKilled, "chroot", kReached,
       [](const S& s) { return Raw(SYS_chroot, P(s.folder.c_str())); }},
      {"mount", "mounts", kKilled, "mount", kReached,
       [](const S& s) {
         return Raw(SYS_mount, P("x"), P(s.folder.c_str()), P("tmpfs"), 0, 0);
       }},
      {"umount", "mounts", kKilled, "umount2", kReached,
       [](const S&) { return Raw(SYS_umount2, P("/"), 2 /* MNT_DETACH */); }},
      {"pivot_root", "mounts", kKilled, "pivot_root", kReached,
       [](const S& s) {
         return Raw(SYS_pivot_root, P(s.folder.c_str()), P(s.folder.c_str()));
       }},
      {"open_tree", "mounts", kKilled, "open_tree", kReached,
       [](const S&) { return Raw(428, AT_FDCWD, P("/"), 1); }},
      {"move_mount", "mounts", kKilled, "move_mount", kReached,
       [](const S&) { return Raw(429, -1, P(""), -1, P(""), 0); }},
      {"fsopen", "mounts", kKilled, "fsopen", kReached,
       [](const S&) { return Raw(430, P("tmpfs"), 0); }},
      {"siblings_channel", "files", kKilled, "openat", kReached,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/fd/3")), O_RDWR);
       }},
      {"siblings_disk", "files", kKilled, "openat", kReached,
       [](const S& s) {
         return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/fd/7")), O_RDWR);
       }},
      {"userfaultfd_device", "files", kKilled, "openat", kReached,
       [](const S&) {
         return Raw(SYS_openat, AT_FDCWD, P("/dev/userfaultfd"), O_RDWR);
       }},
      {"chown", "files", kKilled, "chown", kReached,
       [](const S& s) { return Raw(SYS_chown, P(In(s, "canary")), 0, 0); }},
      {"read_folder", "files", kKilled, "getdents64", kReached,
       [](const S&) {
         return Raw(SYS_getdents64, kFirstBackendFd, P(scratch), 4096);
       }},
      {"fsconfig", "mounts", kKilled, "fsconfig", kReached,
       [](const S&) { return Raw(431, kRamFd, 0, 0, 0, 0); }},
      {"fsmount", "mounts", kKilled, "fsmount", kReached,
       [](const S&) { return Raw(432, kRamFd, 0, 0); }},
      {"fspick", "mounts", kKilled, "fspick", kReached,
       [](const S&) { return Raw(433, AT_FDCWD, P("/"), 0); }},
      {"mount_setattr", "mounts", kKilled, "mount_setattr", kReached,
       [](const S&) { return Raw(442, AT_FDCWD, P("/"), 0, P(scratch), 32); }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
