// The command line of `vm`.
//
// TRUST    The user's own words.
// ERRORS   UserError with exit code 2, naming the flag.
// THREADS  Any.

#ifndef BULKHEAD_VM_FLAGS_H_
#define BULKHEAD_VM_FLAGS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vm/description.h"
#include "vm/flag_parts.h"

namespace bulkhead::vm {

struct Flags {
  std::string config;
  std::vector<std::string> set;
  std::vector<PartFlag> parts;  // in the order given
  std::optional<std::string> name, machine, memory, cpus, accel, kernel, initrd,
      append, firmware, frontend;

  std::string qemu;                // a QEMU of the user's choice
  std::string runtime_dir;         // for --no_qemu
  uint32_t first_id = 0x42480000;  // of those for the VMs of root
  std::string print_qemu_args;     // "shell", "json", "libvirt" or ""
  uint32_t grace_seconds = 10;     // for a guest that was asked to power off
  bool learn = false;              // --policy_mode=learn
  bool no_qemu = false;
  bool check = false;
  bool dry_run = false;
  bool help = false;
  bool version = false;

  // Whether anything describes a VM; if not, the demo VM is meant.
  bool DescribesVm() const;
};

// `arguments` without the program's name.
absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments);

// Puts what the flags say about the VM into `description`, over what is there.
// Relative paths are made absolute with `directory`.
absl::Status ApplyFlags(const Flags& flags, const std::string& directory,
                        Description* description);

std::string HelpText();

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_FLAGS_H_
