// Memory and guest RAM.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Memory() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"map_code", "memory", kKilled, "mmap", kDone,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"map_writable_code", "memory", kKilled, "mmap", kDone,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"map_ram_as_code", "memory", kKilled, "mmap", kDone,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED,
                    kRamFd, 0);
       }},
      {"map_memory", "memory", kRefused, "", kDone,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"map_ram_again", "memory", kRefused, "", kDone,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
                    kRamFd, 0);
       }},
      {"protect_data_as_code", "memory", kKilled, "mprotect", kDone,
       [](const S&) {
         return Raw(SYS_mprotect, P(scratch), 4096, PROT_READ | PROT_EXEC);
       }},
      {"protect_code_as_data", "memory", kKilled, "mprotect", kDone,
       [](const S&) {
         return Raw(SYS_mprotect, P(&AllAttempts) & ~4095L, 4096,
                    PROT_READ | PROT_WRITE);
       }},
      {"pkey_mprotect", "memory", kKilled, "pkey_mprotect", kReached,
       [](const S&) { return Raw(329, P(scratch), 4096, PROT_EXEC, -1); }},
      {"move_memory", "memory", kRefused, "", kDone,
       [](const S&) {
         return Raw(SYS_mremap, P(scratch), 4096, 4096,
                    MREMAP_MAYMOVE | 4 /* DONTUNMAP */, 0);
       }},
      {"unmap_code", "memory", kRefused, "", kDone,
       [](const S&) { return Raw(SYS_munmap, P(scratch + 4096 * 8), 4096); }},
      {"drop_memory", "memory", kRefused, "", kDone,
       [](const S&) {
         return Raw(SYS_madvise, P(scratch), 4096, MADV_DONTNEED);
       }},
      {"personality", "memory", kKilled, "personality", kDone,
       [](const S&) {
         return Raw(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
       }},
      {"memfd", "memory", kKilled, "memfd_create", kDone,
       [](const S&) { return Raw(SYS_memfd_create, P("x"), 0); }},
      {"memfd_secret", "memory", kKilled, "memfd_secret", kReached,
       [](const S&) { return Raw(447, 0); }},
      {"shared_memory", "memory", kKilled, "shmget", kReached,
       [](const S&) { return Raw(SYS_shmget, 0, 4096, 01600); }},
      {"attach_shared_memory", "memory", kKilled, "shmat", kReached,
       [](const S&) { return Raw(SYS_shmat, -1, 0, 040000 /* SHM_EXEC */); }},
      {"userfaultfd", "memory", kKilled, "userfaultfd", kReached,
       [](const S&) { return Raw(SYS_userfaultfd, 1); }},
      {"remap_file_pages", "memory", kKilled, "remap_file_pages", kReached,
       [](const S&) {
         return Raw(SYS_remap_file_pages, P(scratch), 4096, 0, 0, 0);
       }},
      {"lock_memory", "memory", kKilled, "mlock", kDone,
       [](const S&) { return Raw(SYS_mlock, P(scratch), 4096); }},
      {"local_descriptors", "memory", kKilled, "modify_ldt", kReached,
       [](const S&) { return Raw(SYS_modify_ldt, 0, P(scratch), 64); }},
      {"shrink_ram", "guest_ram", kRefused, "", kDone,
       [](const S&) { return Raw(SYS_ftruncate, kRamFd, 0); }},
      {"grow_ram", "guest_ram", kRefused, "", kDone,
       [](const S&) { return Raw(SYS_ftruncate, kRamFd, 1L << 30); }},
      {"grow_ram_by_allocation", "guest_ram", kKilled, "fallocate", kDone,
       [](const S&) { return Raw(SYS_fallocate, kRamFd, 0, 0, 8 << 20); }},
      {"write_behind_ram", "guest_ram", kRefused, "", kDone,
       [](const S&) -> long {
         iovec data = Scratch(4096);
         return pwritev2(kRamFd, &data, 1, 16 << 20, 0);
       }},
      {"seal_ram_against_others", "guest_ram", kKilled, "fcntl", kDone,
       [](const S&) { return Raw(SYS_fcntl, kRamFd, F_ADD_SEALS, 0x10); }},
      {"punch_hole_in_own_ram", "guest_ram", kBounded, "", kDone,
       [](const S&) { return Raw(SYS_fallocate, kRamFd, 3, 0, 4096); }},
      {"map_own_disk_as_code", "memory", kKilled, "mmap", kReached,
       [](const S&) {
         return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE,
                    kFirstBackendFd, 0);
       }},
      {"shadow_stack", "memory", kKilled, "map_shadow_stack", kReached,
       [](const S&) { return Raw(453, 0, 4096, 0); }},
      {"grow_state", "guest_ram", kRefused, "", kDone,
       [](const S&) { return Raw(SYS_ftruncate, kStateFd, 1L << 30); }},
      {"write_behind_state", "guest_ram", kRefused, "", kDone,
       [](const S&) -> long {
         iovec data = Scratch(4096);
         return pwritev2(kStateFd, &data, 1, 16 << 20, 0);
       }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
