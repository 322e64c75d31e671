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
  Frontend frontend = VFIO_USER;
  int first_proxy_fd = 0;  // X_PCI_PROXY: of the first device, in their order
  bool use_kvm = false;
  std::string kvm_cpu = "host";  // -cpu under KVM
  // Only for the jailed QEMU: the fds of its console and monitor, and of
  // /dev/kvm (0: QEMU opens it itself).
  bool jailed = false;
  int console_fd = 0;
  int monitor_fd = 0;
  int kvm_fd = 0;
  bool monitor_object = false;  // -object monitor-qmp, since QEMU 11.1
};

// The arguments of a remote process of QEMU's own for a checked qemu_remote.
// Image `i` is add-fd set i + 1: fds `first_image_fd` + 2 i (writable ones
// only) and the one behind it.
std::vector<std::string> QemuRemoteArguments(const VmDevice& device,
                                             int socket_fd, int first_image_fd);

// Without argv[0]. The spec is checked.
std::vector<std::string> QemuArguments(const VmSpec& spec,
                                       const QemuWiring& wiring);

std::string ShellQuoted(const std::string& text);

// `format`: "shell", "json" or "libvirt"; ends with a newline.
std::string PrintArguments(const std::vector<std::string>& arguments,
                           const std::string& format);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_QEMU_ARGS_H_
