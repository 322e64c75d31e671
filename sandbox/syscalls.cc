#include "sandbox/syscalls.h"

#include <seccomp.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace bulkhead::sandbox {
namespace {

// arch/x86/entry/syscalls/syscall_64.tbl, from 449 on.
constexpr std::pair<const char*, int> kYounger[] = {
    {"futex_waitv", 449},
    {"set_mempolicy_home_node", 450},
    {"cachestat", 451},
    {"fchmodat2", 452},
    {"map_shadow_stack", 453},
    {"futex_wake", 454},
    {"futex_wait", 455},
    {"futex_requeue", 456},
    {"statmount", 457},
    {"listmount", 458},
    {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},
    {"mseal", 462},
    {"setxattrat", 463},
    {"getxattrat", 464},
    {"listxattrat", 465},
    {"removexattrat", 466},
    {"open_tree_attr", 467},
    {"file_getattr", 468},
    {"file_setattr", 469},
    {"uretprobe", 335},
    {"uprobe", 336},
};

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

}  // namespace

int SyscallNumber(const std::string& name) {
  const int number =
      seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name.c_str());
  if (number >= 0) return number;
  for (const auto& [known, known_number] : kYounger) {
    if (name == known) return known_number;
  }
  return -1;
}

std::string SyscallName(int number, bool i386) {
  char* name = seccomp_syscall_resolve_num_arch(
      i386 ? SCMP_ARCH_X86 : SCMP_ARCH_X86_64, number);
  if (name != nullptr) {
    std::string result = name;
    std::free(name);
    return result;
  }
  for (const auto& [known, known_number] : kYounger) {
    if (number == known_number && !i386) return known;
  }
  return "syscall " + std::to_string(number);
}

std::string NearestSyscall(const std::string& name) {
  std::string best;
  size_t best_distance = 3;
  for (int number = 0; number < kSyscallLimit; ++number) {
    const std::string candidate = SyscallName(number);
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace bulkhead::sandbox
