// How a QEMU gets at KVM: through an fd of ours from 8.2 on. Older ones open
// /dev/kvm by themselves, in their jail, where they are nobody who may.
//
// TRUST    The host's own /dev/kvm.
// ERRORS   UserError: what is missing and what to do about it.
// THREADS  Any.

#ifndef BULKHEAD_VM_KVM_ACCESS_H_
#define BULKHEAD_VM_KVM_ACCESS_H_

#include <sys/types.h>

#include <optional>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "sandbox/jail.h"
#include "vm/host.h"

namespace bulkhead::vm {

// A read-only folder with nothing in it but `kvm`, this host's device, which
// only `owner` may open: a detached mount, so no process has it in its tree
// before it is moved into a jail's. Only root can make it, and not in every
// container; then errno says why.
std::optional<Fd> MakeKvmFolder(uid_t owner);

struct KvmAccess {
  bool takes_fd = true;
  // Otherwise what its root must show,
  std::optional<sandbox::Bind> bind;
  Fd folder;  // and what that refers to.
};

// `jail_id`: QEMU's outside its jail, when root starts the VM.
absl::StatusOr<KvmAccess> FindKvmAccess(const Qemu& qemu, uid_t jail_id);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_KVM_ACCESS_H_
