// Interrupts carries a device's interrupts to the guest by writing the
// eventfds that the shim passed in; QEMU or KVM holds their other end.
//
// INTx is a level. A rising edge writes the eventfd once; QEMU then treats the
// line as masked until the driver has acknowledged it, and the shim raises it
// again from the shadow page if the level is still high. A device just sets
// the level; it never counts edges.
//
// TRUST    Eventfds come from QEMU through the shim and may be anything that
//          accepts an 8-byte write; a failing write is counted, reported once
//          as InterruptFallback, and otherwise ignored.
// ERRORS   None.
// THREADS  The loop; TriggerMsixApart any, while no other vector's eventfd
//          changes.

#ifndef BULKHEAD_SERVICES_RUNTIME_INTERRUPTS_H_
#define BULKHEAD_SERVICES_RUNTIME_INTERRUPTS_H_

#include <cstdint>

namespace bulkhead {

class Interrupts {
 public:
  virtual ~Interrupts() = default;

  virtual void SetIntxLevel(bool asserted) = 0;
  // True while the guest has turned the kind on (some vector has an eventfd).
  virtual bool MsiEnabled() const = 0;
  virtual bool MsixEnabled() const = 0;
  // A vector without an eventfd is dropped: the guest has masked or disabled
  // it, and QEMU keeps the pending bit.
  virtual void TriggerMsi(uint32_t vector) = 0;
  virtual void TriggerMsix(uint32_t vector) = 0;
  // TriggerMsix from the thread of a queue group: at once, also while a frame
  // is being applied. False: it could not be done, and nobody has been told.
  virtual bool TriggerMsixApart(uint32_t vector) = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_INTERRUPTS_H_
