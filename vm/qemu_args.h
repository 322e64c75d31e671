// The command line of QEMU: for the one that the launcher starts in a jail, and
// for one that the user starts himself (--no_qemu).
//
// TRUST    A checked description. The user's text never becomes another option
//          of QEMU's: commas are doubled, the shell is not used.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_VM_QEMU_ARGS_H_
#define BULKHEAD_VM_QEMU_ARGS_H_

#include <string>
#include <vector>

#include "proto/vm.pb.h"

namespace bulkhead::vm {

// Where QEMU finds what it works with: paths in its own world.
struct QemuWiring {
  std::string ram;                   // the RAM memfd
  std::vector<std::string> sockets;  // one per device, in their order
  std::string kernel;                // "" where there is none
  std::string initrd;
  std::string firmware;
  bool use_kvm = false;
  // Only for the jailed QEMU: the fds of its console and monitor, and of
  // /dev/kvm (0: QEMU opens it itself).
  bool jailed = false;
  int console_fd = 0;
  int monitor_fd = 0;
  int kvm_fd = 0;
  bool monitor_object = false;  // -object monitor-qmp, since QEMU 11.1
};

// Without argv[0]. The spec is checked.
std::vector<std::string> QemuArguments(const VmSpec& spec,
                                       const QemuWiring& wiring);

std::string ShellQuoted(const std::string& text);

// `format`: "shell", "json" or "libvirt"; ends with a newline.
std::string PrintArguments(const std::vector<std::string>& arguments,
                           const std::string& format);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_QEMU_ARGS_H_
