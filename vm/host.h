// What this host has: which QEMU, whether KVM is good for the guest, memory.
//
// TRUST    The host's own files, and what a QEMU of the user's choice prints,
//          bounded.
// ERRORS   UserError: what is missing and what to do about it.
// THREADS  The caller must be single-threaded (fork).

#ifndef BULKHEAD_VM_HOST_H_
#define BULKHEAD_VM_HOST_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/vm.pb.h"
#include "sandbox/jail.h"

namespace bulkhead::vm {

// "": the host permits io_uring; else why it does not.
std::string WhyNoIoUring();

struct Qemu {
  std::string tree;  // its root; "": the binds make one
  std::vector<sandbox::Bind> binds;
  std::string program;          // inside the root
  std::string version;          // "11.1.3"
  std::pair<int, int> release;  // {11, 1}
  bool has_monitor_object = false;
  std::string ovmf;  // inside the root; empty: there is none
};

// `chosen`: --qemu, an absolute path, or "". `paths`: ReadRuntimePaths().
absl::StatusOr<Qemu> FindQemu(const std::string& chosen,
                              const std::map<std::string, std::string>& paths);

// What a guest sees of a device behind a QEMU of that release: how the shims
// will speak with it. `note` says what the user should know of it.
struct FrontendChoice {
  Frontend frontend = VFIO_USER;
  std::string note;
};

// `wanted`: the description's. `needs_vfio_user`: what a device of the VM needs
// that x-pci-proxy-dev cannot carry, and whose; "": nothing.
absl::StatusOr<FrontendChoice> ChooseFrontend(
    Frontend wanted, const std::string& needs_vfio_user, const Qemu& qemu,
    bool use_kvm);

struct Accel {
  bool use_kvm = false;
  std::string note;  // why TCG, when nobody asked for it
};

absl::StatusOr<Accel> ChooseAccel(Machine::Accel wanted);

// QEMU's -cpu under KVM: this host's.
std::string KvmCpuModel();

absl::Status CheckMemory(uint64_t ram_bytes);

// CPUs that this process may use.
unsigned CpuCount();

// Of "QEMU emulator version 11.1.3 (Debian ...)": {11, 1}; {0, 0}: neither.
std::pair<int, int> ParseQemuVersion(const std::string& text,
                                     std::string* version);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_HOST_H_
