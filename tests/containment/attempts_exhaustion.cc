// What can be used up, and neighbours that talk to it.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Exhaustion() {
  static const auto& attempts = *new std::vector<Attempt>{
      // Megabytes that malloc gives; the test compares with what it may have.
      {"all_memory", "resources", kBounded, "", kDone,
       [](const S&) -> long {
         long blocks = 0;
         while (blocks < 512) {
           auto* block = static_cast<volatile char*>(malloc(1 << 20));
           if (block == nullptr) break;
           for (int i = 0; i < 1 << 20; i += 4096) block[i] = 1;
           ++blocks;
         }
         return blocks;
       }},
      {"heap_by_brk", "resources", kRefused, "", kDone,
       [](const S&) -> long {
         // What brk says no with is the old end; the filter says 0.
         const long end = Raw(SYS_brk, 0);
         const long more = Raw(SYS_brk, end + (64L << 20));
         if (more >= end + (64L << 20)) return 0;
         errno = ENOMEM;
         return -1;
       }},
      // Fds that neighbours hand over, which it keeps.
      {"all_fds", "resources", kBounded, "", kDone,
       [](const S&) -> long {
         long held = 0;
         while (TakeFd() >= 0) ++held;
         return held;
       }},
      {"vfork_by_clone", "resources", kKilled, "clone", kDone,
       [](const S&) -> long {
         const long pid = Raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
         if (pid == 0) Raw(SYS_exit_group, 0);
         return pid;
       }},
      // The launcher reads when it likes, and the pipe ends somewhere.
      {"flood_the_log", "resources", kBounded, "", kReached,
       [](const S&) -> long {
         iovec line = {const_cast<char*>("\x1b]0;x\x07 forged line\n"), 20};
         long written = 0;
         while (written < 10000 && pwritev2(1, &line, 1, -1, 0) > 0) ++written;
         return written;
       }},
      {"flood_the_shim", "neighbours", kBounded, "", kReached,
       [](const S&) -> long {
         long sent = 0;
         iovec data = Scratch(1000);
         msghdr message = {};
         message.msg_iov = &data;
         message.msg_iovlen = 1;
         while (sent < 100000 && sendmsg(kChannelFd, &message,
                                         MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
           ++sent;
         }
         return sent;
       }},
      {"own_disk_to_the_shim", "neighbours", kBounded, "", kReached,
       [](const S&) { return SendFd(kChannelFd, kFirstBackendFd); }},
      {"ram_to_the_shim", "neighbours", kBounded, "", kReached,
       [](const S&) { return SendFd(kChannelFd, kRamFd); }},
      {"own_channel_to_the_shim", "neighbours", kBounded, "", kReached,
       [](const S&) { return SendFd(kChannelFd, kChannelFd); }},
      {"own_disk_to_the_launcher", "neighbours", kBounded, "", kReached,
       [](const S&) { return SendFd(kControlFd, kFirstBackendFd); }},
      // A neighbour hands a folder over (the test does).
      {"open_in_a_folder_handed_over", "neighbours", kKilled, "openat", kDone,
       [](const S&) -> long {
         const long folder = TakeFd();
         return Raw(SYS_openat, folder, P("canary"), O_RDWR);
       }},
      {"go_to_a_folder_handed_over", "neighbours", kKilled, "fchdir", kDone,
       [](const S&) { return Raw(SYS_fchdir, TakeFd()); }},
      {"unlink_in_a_folder_handed_over", "neighbours", kKilled, "unlinkat",
       kDone,
       [](const S&) { return Raw(SYS_unlinkat, TakeFd(), P("canary"), 0); }},
      // The host's disk, by way of its own: as far as the launcher lets it
      // grow.
      {"fill_the_disk", "disk", kBounded, "", kDone,
       [](const S&) -> long {
         iovec data = Scratch(sizeof(scratch));
         long written = 0;
         while (written < 16L << 20) {
           const long now = pwritev2(kFirstBackendFd, &data, 1, written, 0);
           if (now <= 0) break;
           written += now;
         }
         return written;
       }},
      {"write_far_behind_the_disk", "disk", kRefused, "", kDone,
       [](const S&) -> long {
         iovec data = Scratch(4096);
         return pwritev2(kFirstBackendFd, &data, 1, 1L << 32, 0);
       }},
      {"grow_the_disk", "disk", kRefused, "", kDone,
       [](const S&) { return Raw(SYS_ftruncate, kFirstBackendFd, 1L << 32); }},
      {"allocate_the_disk", "disk", kKilled, "fallocate", kDone,
       [](const S&) {
         return Raw(SYS_fallocate, kFirstBackendFd, 0, 0, 16 << 20);
       }},
      {"allocate_behind_the_disk", "disk", kKilled, "fallocate", kDone,
       [](const S&) {
         return Raw(SYS_fallocate, kFirstBackendFd, FALLOC_FL_KEEP_SIZE,
                    8 << 20, 1 << 20);
       }},
      {"zero_behind_the_disk", "disk", kRefused, "", kReached,
       [](const S&) {
         return Raw(SYS_fallocate, kFirstBackendFd, FALLOC_FL_ZERO_RANGE,
                    8 << 20, 1 << 20);
       }},
      {"zero_behind_the_disk_unseen", "disk", kKilled, "fallocate", kReached,
       [](const S&) {
         return Raw(SYS_fallocate, kFirstBackendFd,
                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 8 << 20,
                    1 << 20);
       }},
      {"lock_the_disk", "disk", kKilled, "fcntl", kReached,
       [](const S&) {
         static struct flock whole = {};
         return Raw(SYS_fcntl, kFirstBackendFd, 37 /* F_OFD_SETLK */,
                    P(&whole));
       }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
