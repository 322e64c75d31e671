// The shadow page: how a shim answers loads without waking the service.
//
// The service owns a memfd whose first bytes are a ShadowHeader; images of
// register ranges (DeviceDescription.shadows) follow. The shim maps it
// read-only. A shim may answer a load from the image when
//   1. the load lies wholly inside one ShadowRange and is naturally aligned,
//   2. applied_sequence (acquire) >= the sequence of the shim's last posted
//      store on this channel.
// The service stores images first and then applied_sequence (release), and
// both before it raises an interrupt: a driver that was interrupted sees the
// registers that the interrupt announces.
//
// TRUST    To the shim every byte is hostile: it copies one value, and a wrong
//          one harms the service's own device only.
// ERRORS   None.
// THREADS  One writer (the service's loop), any number of readers.

#ifndef BULKHEAD_PROTO_SHADOW_H_
#define BULKHEAD_PROTO_SHADOW_H_

#include <atomic>
#include <cstdint>

namespace bulkhead {

inline constexpr uint64_t kShadowBytes = 64 * 1024;

struct ShadowHeader {
  // The sequence of the last RegionWrite (or other frame) that the service has
  // applied in full.
  std::atomic<uint64_t> applied_sequence;
  // 1 while the device asserts INTx. On UNMASK the shim signals the INTx
  // eventfd again if this is set, so that no unmask needs the service.
  std::atomic<uint32_t> intx_level;
  // 1 while the service sleeps and wants a frame (or a doorbell
  // notification) to wake it; 0 while it polls.
  std::atomic<uint32_t> sleeping;
  // Counts the service's writes to the INTx eventfd: what was raised after the
  // unmask need not be raised again.
  std::atomic<uint32_t> intx_raised;
  uint8_t reserved[44];
};
static_assert(sizeof(ShadowHeader) == 64);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_SHADOW_H_
