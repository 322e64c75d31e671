#include "vm/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace bulkhead::vm {
namespace {

// What the probing process exits with.
enum Outcome : int { kFast, kSlow, kNoVm, kNoLongMode, kWrongExit };

constexpr int kTimeLimitMs = 3000;
constexpr int kTries = 3;
// Thirty thousand instructions: 10 us on a processor, 30 ms and more where they
// are interpreted. The best of three tries is judged, because a busy host can
// take a processor away for a while.
constexpr uint32_t kIterations = 10000;
constexpr std::chrono::milliseconds kFastEnough{5};

constexpr size_t kMemoryBytes = 0x20000;
constexpr uint64_t kPml4 = 0x1000;
constexpr uint64_t kPdpt = 0x2000;
constexpr uint64_t kPageDirectory = 0x3000;
constexpr uint64_t kCode = 0x4000;
constexpr uint64_t kHighHalf = 0xffffffff80000000;  // where kernels live
constexpr uint16_t kPort = 0x10;

constexpr uint8_t kProgram[] = {
    0xb9,
    kIterations & 0xff,
    kIterations >> 8,
    0,
    0,  // mov ecx, kIterations
    0x48,
    0x89,
    0x0c,
    0x25,
    0x00,
    0x50,
    0,
    0,  // loop: mov [0x5000],rcx
    0x48,
    0xff,
    0xc9,  // dec rcx
    0x75,
    0xf3,  // jnz loop
    0x66,
    0xba,
    kPort,
    0,     // mov dx, kPort
    0xef,  // out dx, eax
};

// As KVM_GET_SUPPORTED_CPUID and KVM_SET_CPUID2: some versions of the kernel's
// header give kvm_cpuid2 another size in C++ than in C, and thereby the calls
// other numbers.
constexpr size_t kCpuidHeaderBytes = 8;
constexpr unsigned long kGetSupportedCpuid =
    _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, kCpuidHeaderBytes);
constexpr unsigned long kSetCpuid =
    _IOC(_IOC_WRITE, KVMIO, 0x90, kCpuidHeaderBytes);

void BuildPageTables(uint8_t* memory) {
  const auto entry = [&](uint64_t table, unsigned index, uint64_t value) {
    std::memcpy(memory + table + 8 * index, &value, sizeof(value));
  };
  entry(kPml4, 0, kPdpt | 3);
  entry(kPml4, 511, kPdpt | 3);
  entry(kPdpt, 0, kPageDirectory | 3);
  entry(kPdpt, 510, kPageDirectory | 3);
  entry(kPageDirectory, 0, 0x83);  // one page of 2 MiB
}

bool EnterLongMode(int kvm, int vcpu) {
  // The header is {number of entries, padding}; the entries pass unread.
  constexpr uint32_t kEntries = 128;
  std::vector<uint32_t> cpuid(
      (kCpuidHeaderBytes + kEntries * sizeof(kvm_cpuid_entry2)) / 4);
  cpuid[0] = kEntries;
  if (ioctl(kvm, kGetSupportedCpuid, cpuid.data()) != 0) return false;
  if (ioctl(vcpu, kSetCpuid, cpuid.data()) != 0) return false;
  kvm_sregs special;
  if (ioctl(vcpu, KVM_GET_SREGS, &special) != 0) return false;
  special.cr3 = kPml4;
  special.cr4 = 1 << 5;      // PAE
  special.cr0 = 0x80050033;  // PG, AM, WP, NE, ET, MP, PE
  special.efer = 0x500;      // LME, LMA
  kvm_segment segment = {};
  segment.limit = 0xffffffff;
  segment.selector = 8;
  segment.type = 11;
  segment.present = segment.s = segment.l = segment.g = 1;
  special.cs = segment;
  segment.selector = 16;
  segment.type = 3;
  segment.l = 0;
  segment.db = 1;
  special.ds = special.es = special.fs = special.gs = special.ss = segment;
  return ioctl(vcpu, KVM_SET_SREGS, &special) == 0;
}

Outcome Probe(int kvm) {
  const Fd vm(ioctl(kvm, KVM_CREATE_VM, 0));
  if (!vm.valid()) return kNoVm;
  void* memory = mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return kNoVm;
  BuildPageTables(static_cast<uint8_t*>(memory));
  std::memcpy(static_cast<uint8_t*>(memory) + kCode, kProgram,
              sizeof(kProgram));
  kvm_userspace_memory_region slot = {};
  slot.memory_size = kMemoryBytes;
  slot.userspace_addr = reinterpret_cast<uint64_t>(memory);
  if (ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, &slot) != 0) return kNoVm;
  const Fd vcpu(ioctl(vm.get(), KVM_CREATE_VCPU, 0));
  const int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (!vcpu.valid() || run_bytes <= 0) return kNoVm;
  auto* run = static_cast<kvm_run*>(mmap(
      nullptr, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0));
  if (run == MAP_FAILED) return kNoVm;
  if (!EnterLongMode(kvm, vcpu.get())) return kNoLongMode;

  for (int attempt = 0; attempt < kTries; ++attempt) {
    kvm_regs registers = {};
    registers.rip = kHighHalf + kCode;
    registers.rflags = 2;
    if (ioctl(vcpu.get(), KVM_SET_REGS, &registers) != 0) return kNoLongMode;
    const auto start = std::chrono::steady_clock::now();
    if (ioctl(vcpu.get(), KVM_RUN, 0) != 0) return kNoLongMode;
    const auto took = std::chrono::steady_clock::now() - start;
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != kPort) {
      return kWrongExit;
    }
    if (took < kFastEnough) return kFast;
  }
  return kSlow;
}

// The child's exit status, or -1 when it took too long or died.
int WaitFor(pid_t child) {
  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd poll_fd = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (!pidfd.valid() || poll(&poll_fd, 1, kTimeLimitMs) != 1) {
    kill(child, SIGKILL);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

KvmVerdict ProbeKvm() {
  const Fd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid()) return {false, "/dev/kvm: " + ErrnoText(errno)};
  const pid_t child = fork();
  if (child < 0) return {false, "fork: " + ErrnoText(errno)};
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(Probe(kvm.get()));
  }
  switch (WaitFor(child)) {
    case kFast:
      return {true, ""};
    case kSlow:
      return {false,
              "KVM here interprets 64-bit code, slower than TCG translates it"};
    case kNoVm:
      return {false, "KVM here makes no VM"};
    case kNoLongMode:
    case kWrongExit:
      return {false, "KVM here does not run 64-bit code"};
    default:
      return {false, "KVM here hangs in 64-bit code"};
  }
}

}  // namespace bulkhead::vm
