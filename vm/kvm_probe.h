// Whether KVM on this host is good for a 64-bit guest. Some hosts have a
// /dev/kvm that opens and then cannot enter 64-bit code, or interprets it a
// thousand times slower than TCG would run it; nothing in KVM's interface says
// so. So we try: a guest of a dozen instructions, in a process of its own.
//
// TRUST    The probe's guest is ours.
// ERRORS   None: a probe that fails in whatever way says no, and why.
// THREADS  The caller must be single-threaded (fork).

#ifndef BULKHEAD_VM_KVM_PROBE_H_
#define BULKHEAD_VM_KVM_PROBE_H_

#include <string>

namespace bulkhead::vm {

struct KvmVerdict {
  bool usable = false;
  std::string reason;  // why not: "/dev/kvm: permission denied"
};

KvmVerdict ProbeKvm();

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_KVM_PROBE_H_
